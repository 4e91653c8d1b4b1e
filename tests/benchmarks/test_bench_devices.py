"""What `xp-xent bench` does where there is a GPU, as far as that can be told without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xp_xent.benchmarks import _measure, _tables, _ways
from xp_xent.benchmarks._shapes import Shape
from xp_xent.benchmarks._timing import Effort
from xp_xent.benchmarks._ways import CASES, devices, lines

DEVICES = {
    "numpy": ("cpu",),
    "torch": ("cpu", "cuda"),
    "jax": (SimpleNamespace(platform="gpu"), SimpleNamespace(platform="gpu")),
    "cupy": (0, 1),
}
ON_GPU = next(case for case in CASES if case.case == "torch")._replace(kind="gpu")
QUICK = Effort(0.0, 2, 2, block=0.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, and every library on them."""

    def get(name: str) -> Any:
        return SimpleNamespace(devices=lambda: DEVICES[name])

    monkeypatch.setattr(_ways.backends, "get", get)
    monkeypatch.setattr(_ways, "find_spec", lambda name: SimpleNamespace())


@pytest.mark.usefixtures("machine")
def test_lines_of_a_gpu_appear() -> None:
    found = lines([case.case for case in CASES])
    assert [(one.case, one.kind) for one in found] == [
        ("numpy", "cpu"), ("numpy-out", "cpu"), ("torch", "cpu"), ("torch", "gpu"),
        ("torch-compiled", "cpu"), ("torch-compiled", "gpu"), ("jax", "gpu"), ("cupy", "gpu"),
    ]  # fmt: skip
    named = {(one.case, one.kind): [way.name for way in one.peers()] for one in found}
    assert named["torch", "cpu"] == ["PyTorch"]
    assert named["torch", "gpu"] == ["PyTorch", "PyTorch compiled", "Liger"]
    assert named["jax", "gpu"] == ["optax"]
    assert named["cupy", "gpu"] == ["PyTorch"]


@pytest.mark.usefixtures("machine")
def test_a_place_is_the_same_device_to_each_library() -> None:
    assert devices("cupy") == {"gpu": 0}
    assert devices("torch") == {"cpu": "cpu", "gpu": "cuda"}
    assert [line.title for line in lines(["torch"])][1:] == ["PyTorch, loss.backward(), gpu"]


def test_a_cell_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the way through a device's own copy, and past a further peer that fails."""
    pytest.importorskip("torch", reason="it plays the device")

    def failing(*_: Any) -> Any:
        raise RuntimeError("no kernel for this device")

    broken = _ways.WAYS["PyTorch"]._replace(name="broken", how="broken")
    monkeypatch.setitem(_ways.WAYS, "broken", broken)
    monkeypatch.setitem(_ways.HOW, "broken", failing)
    monkeypatch.setattr(_ways, "devices", lambda library: {"gpu": "cpu"})
    monkeypatch.setattr(_measure, "devices", _ways.devices)
    line = ON_GPU._replace(on_gpu=("PyTorch chunked", "broken"))
    found = _measure.measure(line, Shape((64, 10)), "float32", QUICK)
    assert found[1]["goal"] is None
    assert [one["who"] for one in found if "failed" not in one] == [
        "xp_xent, PyTorch", "PyTorch", "PyTorch chunked",
    ]  # fmt: skip
    assert found[-1]["failed"] == "RuntimeError: no kernel for this device"
    written = _tables.blocks({"sections": {"table": found}} | ABOUT)
    assert "| PyTorch, loss.backward() " in written["bandwidth"]
    assert "%" in written["bandwidth"]
    assert "/ PyTorch chunked |" in written["others"]


ABOUT = {
    "machine": {
        "processor": "x", "processors": 2, "memory_gb": 8.0, "system": "y", "load": 0.1,
        "versions": {"numpy": "2"}, "devices": {"torch": "a GPU"},
    },
    "settings": {"dtype": "float32"},
}  # fmt: skip


def test_other_losses_are_refused() -> None:
    """Two sides that compute different things are not compared."""
    with pytest.raises(ArithmeticError, match="differ"):
        _measure.check_same("float32", {"a": 1.0, "b": 1.0001})
    with pytest.raises(ArithmeticError, match="differ"):
        _measure.check_same("float32", {"a": 1.0, "b": float("nan")})
    _measure.check_same("float32", {"a": 1.0, "b": 1.000001})
    _measure.check_same("bfloat16", {"a": 1.0, "b": 1.0001})
