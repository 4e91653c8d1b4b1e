"""`LossAccumulator`: sums that are exact, over batches, orders, files and processes."""

from __future__ import annotations

import doctest
import math
import pickle
import socket
import subprocess
import sys
from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import _two_processes
import numpy as np
import pytest
from _two_processes import BATCHES, gathered
from hypothesis import example, given
from hypothesis import strategies as st

from xp_xent import LossAccumulator
from xp_xent.functions import accumulate, exact_sum
from xp_xent.functions.exact_sum import ExactSum
from xp_xent.integrations import processes

INF, NAN, LEAST, MOST = math.inf, math.nan, 5e-324, sys.float_info.max
EXTREMES = [LEAST, 2.0**-1022 - LEAST, 2.0**-1022, 1.0, 1 + 2.0**-52, 1e16, MOST, -MOST]
FLOATS = st.lists(st.floats() | st.sampled_from(EXTREMES), max_size=12)


def accumulated(losses: Any, weights: Any = None) -> LossAccumulator:
    return LossAccumulator().update(np.asarray(losses, np.float64), weights)


def as_bits(total: LossAccumulator) -> tuple[Any, ...]:
    """Everything that an accumulator tells."""
    numbers = total.sum, total.weight, total.mean, total.perplexity, total.bits_per(3)
    return total, hash(total), total.to_bytes(), repr(total), *map(float.hex, numbers)


@given(losses=st.lists(FLOATS, min_size=1, max_size=8), data=st.data())
@example(losses=[[INF], [1.0], [-INF], [NAN]], data=None)
def test_any_order_and_grouping(losses: list[list[float]], data: Any) -> None:
    """Batches updated as one, one by one, and merged by a random tree of a random order."""
    parts = [accumulated(batch) for batch in losses]
    want = as_bits(accumulated([x for batch in losses for x in batch]))
    total = LossAccumulator()
    for batch in losses:
        total = total.update(np.asarray(batch, np.float64))
    assert as_bits(total) == want
    while data is not None and len(parts) > 1:
        first, second = (data.draw(st.integers(0, len(parts) - n)) for n in (1, 2))
        parts.append(parts.pop(first) + parts.pop(second))
    assert as_bits(reduce(add, reversed(parts))) == want


@given(values=FLOATS.map(lambda x: [y for y in x if math.isfinite(y)]))
@example(values=[MOST] * 9 + [-MOST, 1.5, -LEAST, 2.0**980])
def test_is_the_exact_sum(values: list[float]) -> None:
    """One by one as Python's integers, and as arrays of which nothing is lost."""
    exactly = sum(map(Fraction, values), Fraction())
    for few in (exact_sum.FEW, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exact_sum, "FEW", few)
            total = ExactSum.of(np.asarray(values, np.float64))
        assert Fraction(total.units, 1 << 1074) == exactly
        if abs(exactly) <= MOST:
            assert float(total) == math.fsum(values)


@given(values=FLOATS)
def test_of_infinities_what_addition_has(values: list[float]) -> None:
    """Where no finite numbers overflow."""
    modest = [x if math.isinf(x) or math.isnan(x) else math.copysign(1.0, x) for x in values]
    assert np.array_equal(accumulated(modest).sum, sum(modest), equal_nan=True)


@given(values=FLOATS)
def test_few_entries_are_as_many(values: list[float]) -> None:
    """Infinities and NaN too."""
    many = np.concatenate([np.asarray(values, np.float64), np.zeros(exact_sum.FEW)])
    assert accumulated(values, 1) == accumulated(many, 1)


def test_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are added at a time, of exponents all over."""
    monkeypatch.setattr(exact_sum, "BLOCK", 1000)
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.normal(size=(70, 90)), rng.integers(-1074, 900, (70, 90)))
    assert Fraction(ExactSum.of(values).units, 1 << 1074) == sum(map(Fraction, values.flat))
    monkeypatch.undo()
    full = np.full(exact_sum.BLOCK, math.nextafter(1.0, 0.0))
    assert ExactSum.of(full).units == len(full) * ExactSum.of(full[:1]).units
    odd = rng.integers(1 << 51, 1 << 52, exact_sum.BLOCK) * 2 + 1
    assert ExactSum.of(odd * 1.0).units == sum(odd.tolist()) << 1074, "of all bits"


def test_a_mean_is_rounded_once() -> None:
    for losses, weights in (([1e16, 1.0, -1e16], 3.0), ([0.1] * 3, 0.3), ([1.0, 1e-17], 7.0)):
        exactly = sum(map(Fraction, losses)) / Fraction(weights)
        assert accumulated(losses, weights).mean == float(exactly)
    rows = np.full((3, 5), 0.1)
    assert accumulated(rows, rows).mean == 1.0
    assert accumulated([0.5], 0.1).update(0.0, 0.2).weight == math.fsum([0.1, 0.2])


def test_beyond_the_largest_number() -> None:
    """A sum that no float64 holds comes back where it is divided, or met by its opposite."""
    total = accumulated([MOST] * 4)
    assert (total.sum, total.mean, total.perplexity) == (INF, MOST, INF)
    assert total.update(-MOST, 0).update(-MOST, 0).update(-MOST, 0).sum == MOST
    assert accumulated([-MOST] * 4).sum == -INF
    assert accumulated([MOST], LEAST).mean == INF


@pytest.mark.parametrize(
    ("losses", "weights", "mean"),
    [
        ([INF], 2.0, INF), ([-INF, 1.0], 2.0, -INF), ([INF, -INF], 2.0, NAN), ([NAN], 1.0, NAN),
        ([1.0], INF, 0.0), ([INF], INF, NAN), ([1.0], NAN, NAN), ([INF], 0.0, NAN),
        ([INF], -1.0, -INF),
    ],
)  # fmt: skip
def test_infinities(losses: list[float], weights: float, mean: float) -> None:
    total = accumulated(losses, weights)
    assert np.array_equal(total.mean, mean, equal_nan=True)
    assert accumulated([INF, 3.0]) == accumulated([1e300, INF]), "what is infinite forgets the rest"
    assert LossAccumulator.from_bytes(total.to_bytes()) == total


def test_written_down() -> None:
    """Pickled, as bytes of one length, as a key; too many or too few bytes are refused."""
    for losses in ([], [LEAST], [-MOST] * 1000, [INF, NAN], [0.1, -0.3]):
        total = accumulated(losses, np.full(5, MOST))
        again = pickle.loads(pickle.dumps(total)), LossAccumulator.from_bytes(total.to_bytes())
        assert {total: 1} == dict.fromkeys(again, 1)
        assert len(total.to_bytes()) == 544
    with pytest.raises(ValueError, match="data: got 3 bytes, wanted 544"):
        LossAccumulator.from_bytes(b"abc")


@pytest.mark.parametrize("library", ["torch", "jax", "dask"])
def test_two_processes(library: str, tmp_path: Path) -> None:
    """Perplexity over ranks, or Dask's workers, has the bits of one process with all batches."""
    pytest.importorskip(library)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"file://{tmp_path}/ranks" if library == "torch" else f"127.0.0.1:{port}"
    program = Path(_two_processes.__file__)
    ranks = [
        subprocess.Popen([sys.executable, program, library, str(rank), address,
                          tmp_path / str(rank)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(1 if library == "dask" else 2)
    ]  # fmt: skip
    want = gathered(range(BATCHES))
    for rank, process in enumerate(ranks):
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]
        found = (tmp_path / str(rank)).read_text().split()
        assert found == [want.perplexity.hex(), want.to_bytes().hex()]


def test_no_partition() -> None:
    pytest.importorskip("dask")
    assert processes.merge_dask([]).compute(scheduler="sync") == LossAccumulator()


@pytest.mark.parametrize("few", [1, 0, -3])
def test_trees_that_never_narrow(few: int) -> None:
    pytest.importorskip("dask")
    with pytest.raises(ValueError, match=f"split_every: got {few}, wanted at least 2"):
        processes.merge_dask([LossAccumulator()] * 3, split_every=few)


@pytest.mark.parametrize("module", [accumulate, processes])
def test_examples_of_the_docstrings(module: Any) -> None:
    for library in ("torch", "jax", "dask"):
        pytest.importorskip(library)
    done = doctest.testmod(module)
    assert done.failed == 0
    assert done.attempted > 10
