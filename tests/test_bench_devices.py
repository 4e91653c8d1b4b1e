"""What `xp-xent bench` does where there is a GPU, as far as that can be told without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xp_xent.benchmarks import _lines, _measure, _tables, _ways
from xp_xent.benchmarks._lines import CASES, Line, device_of, lines
from xp_xent.benchmarks._shapes import Shape
from xp_xent.benchmarks._timing import Effort

DEVICES = {
    "numpy": ("cpu",),
    "torch": ("cpu", "cuda"),
    "jax": (SimpleNamespace(platform="gpu"), SimpleNamespace(platform="gpu")),
    "cupy": (0, 1),
}
TORCH = next(case for case in CASES if case.name == "torch")
QUICK = Effort(0.0, 2, 2, block=0.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, and every library on them."""

    def get(name: str) -> Any:
        return SimpleNamespace(devices=lambda: DEVICES[name])

    monkeypatch.setattr(_lines.backends, "get", get)
    monkeypatch.setattr(_ways, "find_spec", lambda name: SimpleNamespace())


@pytest.mark.usefixtures("machine")
def test_lines_of_a_gpu_appear() -> None:
    found, absent = lines()
    assert absent == {}
    assert [(one.case.name, one.kind) for one in found] == [
        ("numpy", "cpu"), ("torch", "cpu"), ("torch", "gpu"), ("torch-compiled", "cpu"),
        ("torch-compiled", "gpu"), ("jax", "gpu"), ("cupy", "gpu"),
    ]  # fmt: skip
    named = {(one.case.name, one.kind): [way.name for way in one.peers()] for one in found}
    assert named["torch", "cpu"] == ["PyTorch"]
    assert named["torch", "gpu"] == ["PyTorch", "PyTorch compiled", "Liger"]
    assert named["jax", "gpu"] == ["optax"]
    assert named["cupy", "gpu"] == ["PyTorch"]


@pytest.mark.usefixtures("machine")
def test_a_place_is_the_same_device_to_each_library() -> None:
    assert device_of("cupy", "gpu") == 0
    assert device_of("torch", "gpu") == "cuda"
    assert device_of("torch", "cpu") == "cpu"
    assert Line(TORCH, "gpu").title == "PyTorch, loss.backward(), gpu"


def test_a_cell_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the way through a device's own copy, and past a further peer that fails."""
    pytest.importorskip("torch", reason="it plays the device")

    def failing(*_: Any) -> Any:
        raise RuntimeError("no kernel for this device")

    broken = _ways.WAYS["PyTorch"]._replace(name="broken", how="broken")
    monkeypatch.setitem(_ways.WAYS, "broken", broken)
    monkeypatch.setitem(_ways.HOW, "broken", failing)
    monkeypatch.setattr(_lines, "GPU_PEERS", {"torch": ("PyTorch chunked", "broken")})
    monkeypatch.setattr(_lines, "devices", lambda library: iter([("gpu", "cpu")]))
    line = Line(TORCH, "gpu")
    found = _measure.measure(line, Shape((64, 10)), "float32", QUICK)
    assert found[1]["goal"] is None
    assert [one["who"] for one in found if "failed" not in one] == [
        "xp_xent, PyTorch", "PyTorch", "PyTorch chunked",
    ]  # fmt: skip
    assert found[-1]["failed"] == "RuntimeError: no kernel for this device"
    written = _tables.blocks({"sections": {"table": found}} | ABOUT)
    assert "| PyTorch, loss.backward(), gpu " in written["bandwidth"]
    assert "%" in written["bandwidth"]
    assert "gpu / PyTorch chunked |" in written["others"]


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
