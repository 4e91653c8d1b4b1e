"""The registry of backends, libraries registered by third parties, and what an adapter promises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import _foreign
import numpy as np
import pytest
from _tools import assert_agree, error_of

from xp_xent import backends, cross_entropy, value_and_grad
from xp_xent.backends import Adapter

LOGITS, LABELS = np.array([[20.0, 0.0, 0.0], [1.0, 2.0, 3.0]]), np.array([0, 1])


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The registry as at import: nothing loaded, no type seen."""
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(backends, "_by_type", {})
    for module in [m for m in sys.modules if m.startswith("xp_xent.backends._")]:
        if module != "xp_xent.backends._base":
            monkeypatch.delitem(sys.modules, module)
    return monkeypatch


class TestRegistry:
    """`installed`, `get` and `backend_of`."""

    def test_installed_can_be_got(self) -> None:
        names = backends.installed()
        assert names[0] == "numpy"
        assert [backends.get(name).name for name in names] == list(names)
        assert all(backends.get(name) is backends.get(name) for name in names)

    def test_unknown_name(self) -> None:
        message = str(error_of(backends.get, "tensorflow"))
        assert all(part in message for part in ("name", "'tensorflow'", "numpy", "torch", "dpnp"))

    @pytest.mark.parametrize(
        "library", ["torch", "jax", "dpnp", "array_api_strict", "cupy", "mlx", "dask", "ndonnx"]
    )
    def test_a_library_that_is_missing(self, fresh: Any, library: str) -> None:
        for module in [m for m in sys.modules if m.partition(".")[0] == library]:
            fresh.setitem(sys.modules, module, None)
        fresh.setitem(sys.modules, library, None)
        fresh.setitem(sys.modules, f"array_api_compat.{library}", None)
        with pytest.raises(ImportError, match=library):
            backends.get(library)
        assert library not in backends.installed()

    def test_owner_of_an_array(self, backend: Adapter) -> None:
        one, two = backend.asarray(LOGITS), backend.asarray(LABELS)
        assert backends.backend_of(one, two) is backend
        assert backends.backend_of(logits=one, targets=two) is backend

    def test_mixed(self, backend: Adapter) -> None:
        if backend.name == "numpy":
            pytest.skip("numpy is the other library here")
        error = error_of(
            backends.backend_of, logits=backend.asarray(LOGITS), targets=np.zeros(2, int)
        )
        assert isinstance(error, TypeError)
        for part in ("targets", "numpy", "logits", backend.name):
            assert part in str(error)

    @pytest.mark.parametrize("value", [[1.0], (1.0,), 1.0, "text", {}, Path()], ids=type)
    def test_no_array(self, value: Any) -> None:
        error = error_of(backends.backend_of, logits=value)
        assert isinstance(error, TypeError)
        supported = ("numpy", "torch", "jax", "cupy", "dpnp", "array_api_strict", "mlx")
        for part in ("logits", type(value).__name__, *supported):
            assert part in str(error)

    def test_nothing(self) -> None:
        assert isinstance(error_of(backends.backend_of), TypeError)
        assert "weight" in str(error_of(backends.backend_of, np.zeros(1), weight=None))


class TestAdapter:
    """What each adapter promises."""

    @pytest.mark.parametrize("kind", [None, "float32", "int64", "int32", "uint8", "bool"])
    def test_there_and_back(self, backend: Adapter, kind: str | None) -> None:
        host = np.array([[0, 1, 1], [1, 0, 1]], dtype="float32" if kind is None else kind)
        array = backend.asarray(host, dtype=kind)
        assert backends.dtype_name(array.dtype) in (str(host.dtype), "bool_")
        back = backend.to_numpy(array)
        assert type(back) is np.ndarray
        assert back.dtype == host.dtype
        assert np.array_equal(back, host)

    def test_copies(self, backend: Adapter) -> None:
        """Neither side sees what is written to the other."""
        host = np.zeros(3)
        array = backend.asarray(host)
        host[:] = 1
        back = backend.to_numpy(array)
        assert (back == 0).all()
        back[:] = 2
        assert (backend.to_numpy(array) == 0).all()

    def test_floating_dtypes(self, backend: Adapter) -> None:
        names = backend.float_dtypes()
        assert {"float32"} <= set(names) <= {"float16", "bfloat16", "float32", "float64"}
        for name in names:
            array = backend.asarray(np.array([1.0, 1 + 2**-7, -np.inf]), dtype=name)
            assert backends.dtype_name(array.dtype) == name
            assert backend.to_numpy(array).astype(float).tolist() == [1, 1 + 2**-7, -np.inf]

    def test_devices(self, backend: Adapter) -> None:
        """At least one, and `asarray` can place an array on each."""
        for device in backend.devices():
            backend.synchronize(backend.asarray(LABELS.astype(np.int32), device=device))
        assert len(backend.devices()) > 0


ADAPTER = """
import sys
from xp_xent.backends import Adapter

class Foreign(Adapter):
    name = "foreign"
    packages = ("foreign",)
    module = "foreign"

    def device(self, array):
        return array.device

    def to_numpy(self, array):
        return array.get()
"""


class TestThirdParty:
    """A library that registers itself through the entry-point group."""

    @pytest.fixture
    def foreign(self, fresh: Any, tmp_path: Path) -> Any:
        """A distribution on the path, as pip would have left it."""
        (tmp_path / "foreign_xp.py").write_text(ADAPTER)
        info = tmp_path / "foreign_xp-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-xp\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[xp_xent.backends]\nforeign = foreign_xp:Foreign\n")
        fresh.syspath_prepend(tmp_path)
        fresh.setitem(sys.modules, "foreign", _foreign.library("foreign"))
        yield sys.modules["foreign"]
        sys.modules.pop("foreign_xp", None)

    def test_listed(self, foreign: Any) -> None:
        assert foreign.__name__ in backends.installed()
        assert backends.get("foreign").name == "foreign"
        assert "foreign" in str(error_of(backends.get, "nothing"))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 9.0},
            {"label_smoothing": 0.1, "smoothing": "others", "ignore_index": 1},
            {"reduction": "none"},
            {"reduction": "sum", "ignore_index": None},
        ],
        ids=str,
    )
    def test_runs_every_loss(
        self, foreign: Any, options: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As NumPy's rows with a shift, without a look at a value."""
        monkeypatch.setattr(backends.get("numpy")._walk, "with_max", True)
        call = value_and_grad(cross_entropy)
        got = call(foreign.asarray(LOGITS), foreign.asarray(LABELS), **options)
        want = call(LOGITS, LABELS, **options)
        for one, two in zip(got, want, strict=True):
            assert type(one) is foreign.ndarray
            assert_agree(one.get(), two, np.abs(two).max())

    def test_is_a_device(self, foreign: Any) -> None:
        rows = cross_entropy(
            foreign.asarray(LOGITS), foreign.asarray(np.array([0, 3])), reduction="none"
        )
        assert np.array_equal(np.isnan(rows.get()), [False, True])

    def test_no_mixing(self, foreign: Any) -> None:
        soft = np.zeros_like(LOGITS)
        message = str(error_of(cross_entropy, foreign.asarray(LOGITS), soft))
        assert "foreign" in message
        assert "numpy" in message

    def test_without_it_the_arrays_are_unknown(self, fresh: Any) -> None:
        del fresh
        array = _foreign.library("elsewhere").asarray(LOGITS)
        message = str(error_of(cross_entropy, array, LABELS))
        assert "elsewhere.ndarray" in message
        assert "registered" in message
