"""Plans: what of a call is kept, what is looked at in each call, and how long its way is."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import _foreign
import numpy as np
import pytest
from _tools import error_of

import xp_xent
from xp_xent import cross_entropy, nll_loss, value_and_grad
from xp_xent.backends import Backend, _split
from xp_xent.flow import plan
from xp_xent.kernels.row_stats import StatsWithoutMax

ROOT = Path(xp_xent.__file__).parents[1]
RNG = np.random.default_rng(9)
LOGITS, LABELS = RNG.normal(size=(64, 10)).astype(np.float32), np.arange(64) % 10
LOSS = cross_entropy.loss  # type: ignore[attr-defined]
LOSSES = [x for x in xp_xent.__all__ if x.islower() and hasattr(getattr(xp_xent, x), "loss")]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    kept: dict[Any, Any] = {}
    monkeypatch.setattr(LOSS, "_plans", kept)
    return kept


def test_a_plan_a_signature(fresh: dict[Any, Any]) -> None:
    for labels in (LABELS, LABELS[::-1], LABELS.astype(np.int32)):
        cross_entropy(LOGITS, labels)
    cross_entropy(LOGITS[:3], LABELS[:3])
    assert len(fresh) == 3


def test_values_of_numbers_are_none_of_it(fresh: dict[Any, Any]) -> None:
    found = [float(cross_entropy(LOGITS, LABELS, label_smoothing=x / 10)) for x in range(1, 6)]
    assert len(fresh) == 1
    assert len(set(found)) == 5
    assert cross_entropy(LOGITS, LABELS, label_smoothing=0) == cross_entropy(LOGITS, LABELS)
    assert len(fresh) == 3  # whether it is 0 is part of it


@pytest.mark.parametrize("name", LOSSES)
def test_options_come_in_their_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key compares each with the default of its place."""
    function, seen = getattr(xp_xent, name), []
    loss = function.loss
    monkeypatch.setattr(loss, "run", lambda *call: seen.append(list(call[2])))
    for options in ({}, {"reduction": "sum"}):
        function(*[LOGITS] * len(loss.arguments), **options)
    assert seen == [list(loss.defaults)] * 2


def test_kinds_of_one_are_different() -> None:
    images = LOGITS.reshape(8, 10, 8)
    labels = LABELS.reshape(8, 8)
    cross_entropy(images, labels, axis=1)
    for wrong in (True, 1.0):
        assert f"axis: got {wrong!r}" in str(error_of(cross_entropy, images, labels, axis=wrong))


def test_numbers_of_numpy_that_settle_something() -> None:
    """An ignored label is no number in the formula: each has its own plan."""
    for ignored in (np.int64(-100), np.int64(3), np.int64(4)):
        got = cross_entropy(LOGITS, LABELS, ignore_index=ignored)
        assert got == cross_entropy(LOGITS, LABELS, where=ignored != LABELS)


def test_zero_of_numpy_is_zero() -> None:
    """Whether a number is 0 is part of the key for NumPy's as for Python's."""
    z, q = np.zeros((2, 1)), np.ones((2, 1))
    cross_entropy(z, q, label_smoothing=np.float64(0), smoothing="others")
    error = error_of(cross_entropy, z, q, label_smoothing=np.float64(0.1), smoothing="others")
    assert "needs at least two classes" in str(error)


@pytest.mark.parametrize(
    ("loss", "arrays", "right", "wrong"),
    [
        (cross_entropy, (LOGITS, LABELS), (0.5, 1.0), (5.0, -1.0)),
        (xp_xent.binary_cross_entropy_with_logits, (LOGITS, LOGITS > 0), (0.5,), (5.0,)),
    ],
)
def test_of_two_faults_the_same_is_refused(loss: Any, arrays: Any, right: Any, wrong: Any) -> None:
    """With a plan and without."""
    names = ("label_smoothing", "z_loss")
    fresh, bad = arrays[0][:7], np.full(LOGITS.shape, 255.0, np.float32)
    other = bad if loss is not cross_entropy else LABELS + 20
    faulty = dict(zip(names, wrong, strict=False))
    cold = error_of(loss, fresh, other[:7], **faulty)
    loss(*arrays, **dict(zip(names, right, strict=False)))
    if loss is not cross_entropy:
        loss(LOGITS, bad / 255, **dict(zip(names, right, strict=False)))
    warm = error_of(loss, LOGITS, other, **faulty)
    assert str(cold) == str(warm)


def test_an_exception_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is interrupted after it found rows to compute again."""
    z = LOGITS.copy()
    z[3] += 1000

    def interrupted(_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StatsWithoutMax, "nll", property(interrupted))
        with pytest.raises(KeyboardInterrupt):
            cross_entropy(z, LABELS)
    assert np.isfinite(cross_entropy(LOGITS[:5], LABELS[:5], label_smoothing=0.1))
    assert np.isfinite(cross_entropy(LOGITS[:5], LABELS[:5]))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (LABELS + 1, {}),
        (LABELS[:5], {}),
        (LABELS.astype(float), {}),
        (LABELS, {"label_smoothing": 1.5}),
        (LABELS, {"normalizer": 0}),
        (LABELS, {"reduction": "average"}),
        (LABELS, {"weight": np.ones(3)}),
        (LABELS.astype(float).tolist(), {}),
    ],
)
def test_refused_as_ever(labels: Any, options: dict[str, Any]) -> None:
    """In the same words, whether the first call of a signature is wrong or the third."""
    first = error_of(cross_entropy, LOGITS, labels, **options)
    right = options | {"label_smoothing": 0.5} if "label_smoothing" in options else {}
    cross_entropy(LOGITS, LABELS, **right)
    later = error_of(cross_entropy, LOGITS, labels, **options)
    assert type(first) is type(later)
    assert str(first) == str(later)


def test_label_out_of_range_behind_a_plan() -> None:
    cross_entropy(LOGITS, LABELS)
    bad = LABELS.copy()
    bad[7] = 10
    assert "got label 10 at position (7,)" in str(error_of(cross_entropy, LOGITS, bad))
    bad[7] = -100
    assert np.isfinite(cross_entropy(LOGITS, bad))


def test_no_array_is_kept(fresh: dict[Any, Any]) -> None:
    class Sub(np.ndarray):
        """One that can be referred to weakly."""

    z, y, weight = LOGITS.copy().view(Sub), LABELS.copy().view(Sub), np.ones(10).view(Sub)
    references = [weakref.ref(x) for x in (z, y, weight)]
    value_and_grad(cross_entropy)(z, y, weight=weight)
    assert fresh
    del z, y, weight
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_bounded(fresh: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST", 5)
    for rows in range(1, 20):
        cross_entropy(LOGITS[:rows], LABELS[:rows])
    assert len(fresh) == 5


def test_threads(fresh: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST", 7)
    want = [float(cross_entropy(LOGITS[:n], LABELS[:n])) for n in range(1, 30)]
    wrong: list[Any] = []

    def work() -> None:
        for _ in range(10):
            got = [float(cross_entropy(LOGITS[:n], LABELS[:n])) for n in range(1, 30)]
            if got != want:
                wrong.append(got)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not wrong
    assert len(fresh) <= 7


def test_each_loss_has_its_own() -> None:
    log_probs, wanted = xp_xent.log_softmax(LOGITS), float(cross_entropy(LOGITS, LABELS))
    assert float(nll_loss(log_probs, LABELS)) == pytest.approx(wanted, rel=1e-6)


def test_no_value_is_read_on_a_device(fresh: dict[Any, Any]) -> None:
    """Neither without a plan nor with one: an array that Python reads raises."""
    library = _foreign.library("devices")

    class Device(Backend):
        name = "devices"
        packages = ("devices",)
        module = "devices"

    sys.modules["devices"] = library
    try:
        backend = Device()
    finally:
        del sys.modules["devices"]
    from xp_xent import backends

    arrays = library.asarray(LOGITS), library.asarray(LABELS)
    backends._by_type[type(arrays[0])] = backend  # type: ignore[assignment]
    try:
        values = [cross_entropy(*arrays) for _ in range(3)]
        _, gradient = value_and_grad(cross_entropy)(*arrays, label_smoothing=0.1)
    finally:
        del backends._by_type[type(arrays[0])]
    assert [float(value.get()) for value in values] == pytest.approx([2.5] * 3, abs=0.5)
    assert gradient.shape == LOGITS.shape
    assert len(fresh) == 2  # kept, though a device is not hashable


@pytest.fixture(autouse=True)
def never_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that never had parts of arrays: one that had them looks if it has again."""
    monkeypatch.setattr(_split, "used", [])


def way(function: Any, *, before: int = 2) -> tuple[list[str], list[str]]:
    """The Python functions of this package that a call passes after others, and their files."""
    passed: list[str] = []

    def profile(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if (
            event == "call"
            and path.is_relative_to(ROOT)
            and not {"tests", "site-packages"} & {*path.parts}
        ):
            passed.append(f"{path.relative_to(ROOT)}:{frame.f_code.co_name}")

    for _ in range(before):
        function()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return passed, sorted({one.partition(":")[0] for one in passed})


@pytest.mark.skipif(sys.flags.optimize > 0, reason="counts what is called")
def test_the_way_is_short() -> None:
    """So that a person with a debugger sees all of it: at most 40 calls in 8 files."""
    passed, files = way(lambda: cross_entropy(LOGITS, LABELS))
    assert len(passed) <= 30, passed
    assert len(files) <= 8, files
    both = value_and_grad(cross_entropy)
    passed, files = way(lambda: both(LOGITS, LABELS))
    assert len(passed) <= 40, passed
    assert len(files) <= 8, files


def test_the_first_way_is_short(fresh: dict[Any, Any]) -> None:
    """A call that has no plan yet makes one."""
    both = value_and_grad(cross_entropy)
    for function in (cross_entropy, both):
        fresh.clear()
        _, files = way(partial(function, LOGITS, LABELS), before=0)
        assert len(files) <= 14, files


def test_the_way_is_short_on_torch() -> None:
    torch = pytest.importorskip("torch")
    z, y = torch.tensor(LOGITS, requires_grad=True), torch.tensor(LABELS)
    passed, files = way(lambda: cross_entropy(z, y).backward())
    assert len(passed) <= 60, passed
    assert len(files) <= 10, files


def test_the_way_is_short_on_jax() -> None:
    """What `jit` has compiled calls nothing here; without `jit`, a kept program is looked up."""
    jax = pytest.importorskip("jax")
    z, y = jax.numpy.asarray(LOGITS), jax.numpy.asarray(LABELS)
    slope = jax.jit(jax.grad(cross_entropy))
    assert way(lambda: slope(z, y)) == ([], [])
    passed, files = way(lambda: cross_entropy(z, y))
    assert len(passed) <= 60, passed
    assert len(files) <= 10, files


def test_the_protocol_is_small() -> None:
    assert len([name for name in dir(Backend) if not name.startswith("_")]) <= 25
