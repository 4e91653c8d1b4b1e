"""The lines of the table: one way of ours, on one device, beside its peers there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from xp_xent import backends
from xp_xent.benchmarks._ways import WAYS, Way


@dataclass(frozen=True)
class Case:
    """One way of ours and its peers, the first of which sets the goal."""

    name: str
    title: str
    ours: str
    peers: tuple[str, ...]
    on_cpu: bool = True

    @property
    def library(self) -> str:
        return WAYS[self.ours].library


CASES: Final = (
    Case("numpy", "NumPy, value_and_grad", "xp_xent, NumPy", ("PyTorch",)),
    Case("torch", "PyTorch, loss.backward()", "xp_xent, PyTorch", ("PyTorch",)),
    Case("torch-compiled", "PyTorch compiled", "xp_xent, PyTorch compiled", ("PyTorch compiled",)),
    Case("jax", "JAX, jit(value_and_grad)", "xp_xent, JAX", ("optax",)),
    Case("cupy", "CuPy, value_and_grad", "xp_xent, CuPy", ("PyTorch",), on_cpu=False),
)
# On a GPU every line meets these as well, where they are installed.
GPU_PEERS: Final = {"torch": ("PyTorch compiled", "Liger"), "torch-compiled": ("PyTorch", "Liger")}
# Behind a linear layer
LINEAR_PEERS: Final = {"jax": ("optax",)} | dict.fromkeys(
    ("numpy", "torch", "cupy"), ("PyTorch", "PyTorch chunked")
)


@dataclass(frozen=True)
class Place:
    """A device of one library: "cpu", or the first accelerator that it has, "gpu"."""

    library: str
    kind: str

    def device(self, library: str) -> Any:
        """Return the same device as another library knows it; NumPy has but one."""
        return next((d for kind, d in _devices(library) if kind == self.kind), None)

    def has(self, library: str) -> bool:
        return any(kind == self.kind for kind, _ in _devices(library))


def _devices(library: str) -> Iterator[tuple[str, Any]]:
    """Name the kinds of devices: "cpu" or "gpu"."""
    try:
        found = backends.get(library).devices()
    except ImportError:
        return
    for device in found:
        is_host = str(getattr(device, "platform", device)).startswith("cpu")
        yield "cpu" if is_host else "gpu", device


@dataclass(frozen=True)
class Line:
    """A case on a device."""

    case: Case
    place: Place

    @property
    def ours(self) -> Way:
        return WAYS[self.case.ours]

    @property
    def title(self) -> str:
        on_host = self.place.kind == "cpu"
        return self.case.title if on_host else f"{self.case.title}, {self.place.kind}"

    def peers(self, linear: bool = False) -> list[Way]:
        """List the peers that can be asked there; without the first one there is no line."""
        on_gpu = self.place.kind != "cpu"
        names = LINEAR_PEERS[self.case.library] if linear else self.case.peers
        more = ("Liger",) if linear else GPU_PEERS.get(self.case.name, ())
        found = [WAYS[name] for name in names + (more if on_gpu else ())]
        return [way for way in found if not way.missing() and self.place.has(way.library)]


def lines(names: tuple[str, ...] = ()) -> tuple[list[Line], dict[str, str]]:
    """List the lines that can be measured, and the cases that cannot with the reason.

    No `names` stand for all of them.
    """
    found, absent = [], {}
    for case in CASES:
        if names and case.name not in names:
            continue
        reason = WAYS[case.ours].missing() or WAYS[case.peers[0]].missing()
        kinds = dict.fromkeys(kind for kind, _ in _devices(case.library))
        here = [Line(case, Place(case.library, k)) for k in kinds if case.on_cpu or k != "cpu"]
        here = [line for line in here if not reason and line.peers()]
        found += here
        if not here:
            absent[case.name] = reason or "its library has no such device here"
    return found, absent
