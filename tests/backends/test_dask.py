"""Dask: lazy, block by block, however the blocks are cut, and equal to NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES
from _registry import Entry, entries, fullest
from _tools import error_of

import xp_xent
from xp_xent import backends
from xp_xent.conformance import tolerance

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

ROWS, CLASSES = 24, 20
RNG = np.random.default_rng(5)
Z, Y = RNG.normal(scale=4, size=(ROWS, CLASSES)), RNG.integers(0, CLASSES, ROWS)
CUTS = {
    "one": (-1, -1),
    "rows": (7, -1),
    "classes": (-1, 6),
    "both": (8, 5),
    "uneven": ((1, 20, 3), (2, 17, 1)),
}


def unknown(x: np.ndarray, rows: int) -> Any:
    """Cut an array into blocks of rows whose lengths are known when they are computed."""
    array = da.from_array(x, chunks=(rows, *(5,) * (x.ndim - 1)))
    return array[da.from_array(np.ones(len(x), bool), chunks=rows)]


def leaves(found: Any) -> list[Any]:
    return [y for x in found for y in leaves(x)] if isinstance(found, tuple) else [found]


def assert_same(got: Any, want: Any) -> None:
    got, want = leaves(got), leaves(want)
    assert all(isinstance(x, da.Array) for x in got)
    for x, y in zip(dask.compute(*got, scheduler="sync"), want, strict=True):
        assert x.dtype == y.dtype
        scale = np.max(np.abs(y), where=np.isfinite(y), initial=0.0)
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13 * scale)


# Every function and option


def closed_forms(case: Entry) -> dict[str, Callable[..., Any]]:
    loss = case.function
    if case.loss in NOT_LOSSES:
        return {"value": loss}
    vector = np.linspace(-1.0, 2.0, case.arrays[0].size).reshape(case.arrays[0].shape)
    both, curved = xp_xent.value_and_grad, xp_xent.value_grad_and_hessian_diagonal
    found = {
        "value": loss,
        "hvp": lambda z, *rest, **options: xp_xent.hvp(loss)(
            z, *rest, backends.backend_of(z).asarray(vector), **options
        ),
        "curvature": curved(loss),
    }
    for wrt in case.closed:
        found[f"gradient by {wrt}"] = both(loss, wrt)
    return found


AXES = ("rows", "classes", "both")


def asked() -> Iterator[Any]:
    """All options together in each cut and form; each alone in a cut and two forms, in turn."""
    turn = count()
    for form in FORMS:
        for what, call in closed_forms(case := fullest(form)).items():
            for axes in AXES:
                yield pytest.param(case, call, what, axes, id=f"{case.name}-{what}-{axes}")
        for case in (x for x in entries(form) if x.option != "all"):
            axes, (value, *forms) = AXES[next(turn) % 3], closed_forms(case).items()
            for what, call in (value, *forms[next(turn) % max(len(forms), 1) :][:1]):
                name = f"{case.name}-{what}-{axes}"
                yield pytest.param(case, call, what, axes, id=name, marks=pytest.mark.full)


def cut(x: Any, axes: str) -> Any:
    """Cut an array along its last axis, the others, or both, into single and double steps."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return x
    last = {"rows": -1, "classes": 2, "both": 3}[axes]
    first = {"rows": 2, "classes": -1, "both": 1}[axes]
    return da.from_array(x, chunks=(*(first,) * (x.ndim - 1), last))


@pytest.mark.parametrize(("case", "call", "what", "axes"), list(asked()))
def test_every_option(case: Entry, call: Callable[..., Any], what: str, axes: str) -> None:
    options = dict(case.options)
    if what.startswith("gradient") and case.cotangent is not None:
        options["cotangent"] = case.cotangent
    want = call(*case.arrays, **options)
    sent = [cut(x, axes) for x in case.arrays]
    assert_same(call(*sent, **{k: cut(x, axes) for k, x in options.items()}), want)


# How blocks are cut


@pytest.mark.parametrize("chunks", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("placed", [False, True])
def test_chunks(chunks: Any, placed: bool) -> None:
    """Labels and weights are NumPy's, or are cut otherwise than the logits."""
    w, s, m = RNG.random(CLASSES), RNG.random(ROWS), np.arange(ROWS) % 5 > 0
    given = {"weight": w, "sample_weight": s, "where": m}
    call = xp_xent.value_and_grad(xp_xent.cross_entropy)
    want = call(Z, Y, label_smoothing=0.1, **given)
    send = (lambda x: da.from_array(x, chunks=9)) if placed else (lambda x: x)
    logits = da.from_array(Z, chunks=chunks)
    options = {name: send(x) for name, x in given.items()}
    got = call(logits, send(Y), label_smoothing=0.1, **options)
    assert got[1].chunks == logits.chunks
    assert_same(got, want)


@pytest.mark.parametrize("chunks", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"temperature": 0.5}], ids=str)
def test_extremes_are_those_of_numpy(chunks: Any, options: Any) -> None:
    z, y = Z.copy(), Y.copy()
    z[0], z[1, 3], z[2, 6] = -np.inf, np.nan, np.inf
    z[3, :6], z[4, 6:], z[5], z[6] = -np.inf, -np.inf, z[5] * 1e4, z[6] + 3e5
    y[3:5] = 9, 2
    call = xp_xent.value_and_grad(xp_xent.cross_entropy)
    want = call(z, y, reduction="none", **options)
    assert_same(call(da.from_array(z, chunks=chunks), y, reduction="none", **options), want)
    maps = (xp_xent.softmax, xp_xent.log_softmax, xp_xent.logsumexp)
    assert_same(tuple(f(da.from_array(z, chunks=chunks)) for f in maps), tuple(f(z) for f in maps))


@pytest.mark.parametrize("lead", [-60.0, -20.0, 0.0, 20.0, 60.0])
def test_float32_keeps_its_digits(lead: float) -> None:
    z = np.zeros((CLASSES, CLASSES), np.float32)
    z[np.arange(CLASSES), np.arange(CLASSES)] = np.float32(lead)
    labels = np.arange(CLASSES)
    call = xp_xent.value_and_grad(xp_xent.cross_entropy)
    got = call(da.from_array(z, chunks=(6, 6)), labels, reduction="none")
    wide = call(z.astype(np.float64), labels, reduction="none")
    bound = tolerance.row_tolerance("float32", CLASSES, abs(lead))
    for x, y in zip(dask.compute(*got), wide, strict=True):
        assert (np.abs(x - y) <= bound * np.abs(y)).all()


class TestUnknown:
    """Blocks of rows whose lengths are not known."""

    def test_losses(self) -> None:
        z, y, w = unknown(Z, 8), unknown(Y, 8), unknown(np.arange(ROWS) / 7.0, 8)
        call, options = xp_xent.value_and_grad(xp_xent.cross_entropy), {"weight": np.ones(CLASSES)}
        want = call(Z, Y, sample_weight=np.arange(ROWS) / 7.0, **options)
        assert_same(call(z, y, sample_weight=w, **options), want)
        assert_same(xp_xent.perplexity(z, y), xp_xent.perplexity(Z, Y))
        assert_same(
            xp_xent.balanced_class_weights(y, CLASSES), xp_xent.balanced_class_weights(Y, CLASSES)
        )

    def test_matrices(self) -> None:
        call = xp_xent.hessian(xp_xent.cross_entropy)
        found = call(unknown(Z, 8), unknown(Y, 8))
        assert found.shape[1:] == (CLASSES, CLASSES)
        assert_same(found, call(Z, Y))

    def test_a_bad_label_has_its_position_in_the_whole(self) -> None:
        labels = Y.copy()
        labels[17] = 77
        loss = xp_xent.cross_entropy(unknown(Z, 8), unknown(labels, 8))
        assert "label 77 at position (17,)" in str(error_of(loss.compute))

    def test_other_chunks_are_refused(self) -> None:
        z = unknown(Z, 8)
        error = error_of(xp_xent.cross_entropy, z, da.from_array(Y, chunks=12))
        assert isinstance(error, ValueError)
        assert "got 2 along axis 0 beside 3 of the logits" in str(error)
        loss = xp_xent.cross_entropy(z, da.from_array(Y, chunks=((1, 20, 3),)))
        assert "chunks of unknown lengths" in str(error_of(loss.compute))

    def test_classes_have_to_be_known(self) -> None:
        error = error_of(xp_xent.cross_entropy, unknown(Z.T, 5).T, Y)
        assert "logits: got an unknown number of classes" in str(error)


# What a graph does


class Blocks:
    """Logits that count how often a block is made."""

    def __init__(self, chunks: Any) -> None:
        self.made = 0
        self.logits = da.from_array(Z, chunks=chunks).map_blocks(self.block, dtype=Z.dtype)

    def block(self, x: np.ndarray) -> np.ndarray:
        self.made += x.size > 0
        return x.copy()


@pytest.mark.parametrize("chunks", CUTS.values(), ids=CUTS)
def test_nothing_is_computed_before_it_is_asked_for(chunks: Any) -> None:
    blocks = Blocks(chunks)
    made = blocks.made
    labels = da.from_array(Y, chunks=9)
    found = xp_xent.value_and_grad(xp_xent.cross_entropy)(blocks.logits, labels, weight=Z[0] ** 2)
    assert blocks.made == made
    dask.compute(*found, scheduler="sync")
    assert blocks.made - made == blocks.logits.npartitions


@pytest.mark.parametrize("chunks", [(400, 5), (-1, 5)], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        xp_xent.cross_entropy,
        xp_xent.value_and_grad(xp_xent.cross_entropy),
        xp_xent.hessian_diagonal(xp_xent.cross_entropy),
    ],
    ids=["value", "gradient", "diagonal"],
)
def test_classes_are_never_gathered(call: Any, chunks: Any) -> None:
    """No task makes more than a block of the logits, and none of them is cut anew."""
    from dask.callbacks import Callback
    from dask.sizeof import sizeof

    z = da.from_array(np.tile(Z, (50, 1)), chunks=chunks)
    found = leaves(call(z, np.tile(Y, 50), label_smoothing=0.1))
    sizes: list[tuple[str, int]] = []

    def note(key: Any, result: Any, *_: Any) -> None:
        sizes.append((str(key), sizeof(result)))

    with Callback(posttask=note), dask.config.set(scheduler="sync"):
        for array in found:
            array.persist()
    block = z.chunksize[0] * z.chunksize[1] * 8
    assert max(size for _, size in sizes) <= 1.2 * block
    assert sum(size for key, size in sizes if "rechunk" in key) <= z.nbytes / 4


def test_value_and_gradient_of_whole_rows_are_one_task() -> None:
    blocks = Blocks((8, -1))
    value, gradient = xp_xent.value_and_grad(xp_xent.cross_entropy)(blocks.logits, Y)
    both = value.__dask_graph__().layers.keys() & gradient.__dask_graph__().layers.keys()
    assert any(name.startswith("chosen") for name in both)


def test_no_rows() -> None:
    z = da.from_array(Z[:0], chunks=(3, 5))
    value, gradient = xp_xent.value_and_grad(xp_xent.cross_entropy)(z, Y[:0])
    assert np.isnan(value.compute())
    assert gradient.compute().shape == (0, CLASSES)


def test_a_bad_label_raises_when_it_is_computed() -> None:
    labels = Y.copy()
    labels[13] = -3
    for chunks in CUTS.values():
        loss = xp_xent.cross_entropy(da.from_array(Z, chunks=chunks), labels)
        error = error_of(loss.compute, scheduler="sync")
        assert isinstance(error, ValueError)
        assert "targets: got label -3 at position (13,), wanted 0 … 19" in str(error)
    loss = xp_xent.cross_entropy(da.from_array(Z, chunks=(8, 5)), labels, where=np.arange(24) != 13)
    assert np.isfinite(loss.compute())


def test_other_collections_are_refused() -> None:
    error = error_of(xp_xent.softmax, dask.delayed(np.zeros)(3))
    assert isinstance(error, TypeError)
    assert "wanted a dask.array.Array" in str(error)


def test_an_accumulator_takes_losses() -> None:
    rows = xp_xent.cross_entropy(da.from_array(Z, chunks=(8, 5)), Y, reduction="none")
    total = xp_xent.LossAccumulator().update(rows)
    assert total.mean == pytest.approx(float(xp_xent.cross_entropy(Z, Y)), rel=1e-14)


@pytest.mark.parametrize("chunks", [(24, 7), (8, 3), (5, 7)], ids=str)
def test_linear_layer_in_blocks_of_rows_and_classes(chunks: Any) -> None:
    x, w, b = RNG.normal(size=(ROWS, 7)), RNG.normal(size=(CLASSES, 7)), RNG.normal(size=CLASSES)
    call = xp_xent.value_and_grad(xp_xent.linear_cross_entropy, (0, 1, "bias"))
    sent = da.from_array(x, chunks=chunks), da.from_array(w, chunks=(6, 7))
    assert_same(call(*sent, Y, bias=da.from_array(b, chunks=4)), call(x, w, Y, bias=b))
