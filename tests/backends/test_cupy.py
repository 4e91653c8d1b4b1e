"""CuPy's adapter, as far as it goes without a GPU: on a made-up CuPy, then on the real one.

dpnp runs the whole suite with the manners of a GPU library; this is about the adapter's own lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import _foreign
import _host_kernels
import numpy as np
import pytest
from _cases import LOSSES
from _sample import sample

import xp_xent
from xp_xent import backends, conformance, cross_entropy, hvp, value_and_grad
from xp_xent.conformance._subjects import own_subjects

LOGITS, LABELS = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 3, 1, 2, 2, 1])


class CUDARuntimeError(RuntimeError):
    """What CuPy raises where there is no driver."""


def runtime(count: Any) -> SimpleNamespace:
    """The part of cupy.cuda that the adapter uses."""
    return SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError),
        Device=_foreign.Device,
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
    )


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with two GPUs and a made-up CuPy, whose kernels g++ compiles."""
    if _host_kernels.COMPILER is None:
        pytest.skip("no g++ to compile CuPy's kernels for the host")
    module = _foreign.library("cupy")
    module.cuda = runtime(lambda: 2)
    module.ElementwiseKernel = _host_kernels.ElementwiseKernel
    module.ReductionKernel = _host_kernels.ReductionKernel
    for name in ("cupy", "array_api_compat.cupy"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(backends, "_by_type", {})
    sys.modules.pop("xp_xent.backends._cupy", None)
    yield module
    sys.modules.pop("xp_xent.backends._cupy", None)
    assert _foreign.Device.entered == 0  # each device entered was left


def test_adapter(cupy: Any) -> None:
    backend = backends.get("cupy")
    assert "cupy" in backends.installed()
    assert backend.devices() == (0, 1)
    assert backend.float_dtypes() == ("float16", "float32", "float64")
    array = backend.asarray(LOGITS, dtype="float32", device=1)
    assert type(array) is cupy.ndarray
    assert array.dtype == np.float32
    assert backends.backend_of(array) is backend
    assert not backend.can_read_values(array)
    assert backend.device(array) == _foreign.Device(0)
    assert type(backend.to_numpy(array)) is np.ndarray
    assert np.array_equal(backend.to_numpy(backend.indices(array)).ravel(), range(array.shape[-1]))
    backend.synchronize(array)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(cupy: Any, loss: str) -> None:
    """NumPy's numbers, and no implicit conversion on the way."""
    case = sample(loss)
    function = value_and_grad(getattr(xp_xent, loss))
    want = function(*case.arrays, **case.options)
    arrays, options = case.on(backends.get("cupy"), "float64")
    got = function(*arrays, **options)
    for one, two in zip(got, want, strict=True):
        assert type(one) is cupy.ndarray
        assert np.allclose(one.get(), two, rtol=1e-13, atol=1e-16)


def test_label_out_of_range(cupy: Any) -> None:
    """CuPy wraps indices that are out of bounds; the row must be NaN instead."""
    labels = cupy.asarray(np.array([0, 4, -1, 2, -100, 1]))
    rows, gradient = value_and_grad(cross_entropy)(cupy.asarray(LOGITS), labels, reduction="none")
    bad = np.array([False, True, True, False, False, False])
    assert np.array_equal(np.isnan(rows.get()), bad)
    assert np.array_equal(np.isnan(gradient.get()).all(axis=1), bad)
    assert rows.get()[4] == 0


INF, NAN = np.inf, np.nan
# Confident and doubtful rows, ties, masks, an offset that an unshifted sum does not survive, and
# rows that have no loss.
ROWS = np.array([
    [20, 0, 0, 0, 0], [0, 0, 0, 0, 20], [-300, 0, 1, 2, 3], [1e4, 1e4, 1e4, 1e4 - 8, 0],
    [0, -INF, -INF, -INF, -INF], [-INF, 0, -INF, 1, -INF], [INF, 0, 0, 0, 0], [0, NAN, 0, 0, 0],
    [-INF, -INF, -INF, -INF, -INF], [3, 3, 3, 3, 3], [0, -1e-3, -40, -90, -200], [-INF, 0, 0, 0, 0],
])  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"z_loss": 1e-3}, {"ignore_index": 4}])
def test_fused_kernels_are_the_formula(cupy: Any, dtype: str, options: Any) -> None:
    """Every label of every row: NumPy's numbers within a few ULP, and its NaN."""
    backend = backends.get("cupy")
    logits = np.repeat(ROWS, 5, axis=0).astype(dtype)
    if dtype != "float16":
        logits[:10] += dtype == "float64" and 1e8
    labels = np.tile(np.arange(5), len(ROWS))
    function = value_and_grad(cross_entropy)
    want = function(logits, labels, reduction="none", **options)
    given = backend.asarray(logits), backend.asarray(labels)
    got = function(*given, reduction="none", **options)
    alone = cross_entropy(*given, reduction="none", **options)
    assert np.array_equal(alone.get(), got[0].get(), equal_nan=True)
    for one, two in zip(got, want, strict=True):
        assert one.dtype == two.dtype
        eps = np.finfo(two.dtype).eps
        same = np.isclose(one.get(), two, rtol=4 * eps, atol=0, equal_nan=True)
        assert same.all(), (logits[~same.reshape(60, -1).all(1)], labels)


@pytest.mark.parametrize("axis", [1, (0, 2), None])
def test_options_of_the_maps(cupy: Any, axis: Any) -> None:
    backend, rng = backends.get("cupy"), np.random.default_rng(2)
    x, b, where = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 1)), rng.random((2, 3, 4)) < 0.7
    hidden = np.where(where, x, np.nan)
    given, mask = backend.asarray(hidden), backend.asarray(where)
    for function in (xp_xent.softmax, xp_xent.log_softmax):
        for t in (0.5, backend.asarray(np.asarray(0.5))):
            got = function(given, axis=axis, where=mask, temperature=t)
            want = function(hidden, axis=axis, where=where, temperature=0.5)
            assert np.allclose(got.get(), want, rtol=1e-12, atol=1e-16)
    got = xp_xent.logsumexp(given, axis=axis, where=mask, b=b, return_sign=True)
    want = xp_xent.logsumexp(hidden, axis=axis, where=where, b=b, return_sign=True)
    for one, two in zip(got, want, strict=True):
        assert np.allclose(one.get(), two, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 4), 1), ((5, 6), 0), ((7,), 0), ((3, 1), 1)])
def test_classes_anywhere(cupy: Any, shape: tuple[int, ...], axis: int) -> None:
    backend, rng = backends.get("cupy"), np.random.default_rng(1)
    rows = shape[:axis] + shape[axis + 1 :]
    logits, labels = rng.normal(size=shape), rng.integers(0, shape[axis], rows)
    vector = rng.normal(size=shape)
    for function in (xp_xent.log_softmax, xp_xent.logsumexp, xp_xent.entropy):
        got = function(backend.asarray(logits), axis=axis)
        assert np.allclose(got.get(), function(logits, axis=axis), rtol=1e-12, atol=1e-16)
    for options in ({}, {"label_smoothing": 0.1, "softcap": 3.0}):
        want = value_and_grad(cross_entropy)(logits, labels, axis=axis, **options)
        given = backend.asarray(logits), backend.asarray(labels)
        got = value_and_grad(cross_entropy)(*given, axis=axis, **options)
        along = hvp(cross_entropy)(*given, backend.asarray(vector), axis=axis, **options)
        bend = hvp(cross_entropy)(logits, labels, vector, axis=axis, **options)
        for one, two in zip((*got, along), (*want, bend), strict=True):
            assert np.allclose(one.get(), two, rtol=1e-12, atol=1e-16)


def test_large_vocabularies_merge(cupy: Any) -> None:
    """Each thread meets many maxima, and loses no accuracy to them."""
    backend, rng = backends.get("cupy"), np.random.default_rng(2)
    logits = np.sort(rng.normal(size=(4, 50_000)).astype(np.float32) * 3, axis=1)
    logits[1] = logits[1, ::-1]
    labels = np.array([49_999, 0, 25_000, 0])
    want = cross_entropy(logits.astype(np.float64), labels, reduction="none")
    got = cross_entropy(backend.asarray(logits), backend.asarray(labels), reduction="none")
    # Four threads add 12 500 numbers each; a GPU's 512 add a hundred.
    assert np.allclose(got.get(), want, rtol=2e-5, atol=0)


def test_one_walk_sums_and_one_writes(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other operation makes or reads an array of the logits' size."""
    backend, seen = backends.get("cupy"), []
    z, y = backend.asarray(LOGITS, dtype="float16"), backend.asarray(LABELS)
    for kind in (_host_kernels.ElementwiseKernel, _host_kernels.ReductionKernel):

        def call(self: Any, *given: Any, kernel: Any = kind.__call__, **options: Any) -> Any:
            seen.append(self.name)
            return kernel(self, *given, **options)

        monkeypatch.setattr(kind, "__call__", call)
    up = cupy.up

    def small(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.shape == LOGITS.shape:
            seen.append("array")
        return up(value)

    monkeypatch.setattr(cupy, "up", small)
    cross_entropy(z, y)
    sums = ["xp_xent_maximum_and_others", "xp_xent_label_and_other_sum"]
    assert seen == sums
    del seen[:]
    value_and_grad(cross_entropy)(z, y)
    # The array is the gradient.
    assert seen == [*sums, "array", "xp_xent_gradient_last_uint32"]


@pytest.mark.parametrize("topic", conformance.names())
def test_certified_vectors(cupy: Any, topic: str) -> None:
    """The kernels' code within the tolerances that every library is held to."""
    subject = next(one for one in own_subjects() if one.name == "xp_xent on cupy")
    known = backends.get("cupy").float_dtypes()
    cases = [vector for vector in conformance.load(topic) if vector.dtype in known]
    report = conformance.run(subject, cases=cases)
    assert [(x.case_id, x.reason) for x in report.failed] == []
    assert [(x.case_id, x.reason) for x in report.unsupported] == []


def test_without_a_driver(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy imports without a GPU; the backend then says that it cannot be used."""

    def fail() -> int:
        raise CUDARuntimeError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(cupy, "cuda", runtime(fail))
    with pytest.raises(ImportError, match="no device: cudaErrorInsufficientDriver"):
        backends.get("cupy")
    assert "cupy" not in backends.installed()


def test_the_real_one() -> None:
    """Where CuPy is installed, the adapter loads or refuses, as there is a GPU or not."""
    real = pytest.importorskip("cupy", exc_type=ImportError)
    if "cupy" not in backends.installed():
        with pytest.raises(ImportError, match="no device"):
            backends.get("cupy")
        return
    backend = backends.get("cupy")
    rows = cross_entropy(backend.asarray(LOGITS), backend.asarray(LABELS), reduction="none")
    assert isinstance(rows, real.ndarray)
