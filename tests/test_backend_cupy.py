"""CuPy's adapter, as far as it goes without a GPU: on a made-up CuPy, then on the real one.

dpnp runs the whole suite with the manners of a GPU library; this is about the adapter's own lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import _foreign
import numpy as np
import pytest
from _cases import LOSSES
from test_semantics_arrays import sample

import xp_xent
from xp_xent import backends, cross_entropy, value_and_grad

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
    """A machine with two GPUs and a made-up CuPy."""
    module = _foreign.library("cupy")
    module.cuda = runtime(lambda: 2)
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
    assert not backend.is_readable(array)
    assert backend.device(array) == _foreign.Device(0)
    assert type(backend.to_numpy(array)) is np.ndarray
    assert np.array_equal(backend.to_numpy(backend.arange(3, like=array)), [0, 1, 2])
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
        assert np.array_equal(one.get(), two)


def test_label_out_of_range(cupy: Any) -> None:
    """CuPy wraps indices that are out of bounds; the row must be NaN instead."""
    labels = cupy.asarray(np.array([0, 4, -1, 2, -100, 1]))
    rows, gradient = value_and_grad(cross_entropy)(cupy.asarray(LOGITS), labels, reduction="none")
    bad = np.array([False, True, True, False, False, False])
    assert np.array_equal(np.isnan(rows.get()), bad)
    assert np.array_equal(np.isnan(gradient.get()).all(axis=1), bad)
    assert rows.get()[4] == 0


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
