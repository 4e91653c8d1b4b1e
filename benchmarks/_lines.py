"""The lines of the table: one way of ours, on one device, beside its peers there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from xp_xent import backends
from xp_xent.benchmarks._ways import WAYS, Way


class Case(NamedTuple):
    """One way of ours and its peers, the first of which sets the goal."""

    name: str
    title: str
    ours: str
    peers: tuple[str, ...]


CASES: Final = (
    Case("numpy", "NumPy, value_and_grad", "xp_xent, NumPy", ("PyTorch",)),
    Case("torch", "PyTorch, loss.backward()", "xp_xent, PyTorch", ("PyTorch",)),
    Case("torch-compiled", "PyTorch compiled", "xp_xent, PyTorch compiled", ("PyTorch compiled",)),
    Case("jax", "JAX, jit(value_and_grad)", "xp_xent, JAX", ("optax",)),
    Case("cupy", "CuPy, value_and_grad", "xp_xent, CuPy", ("PyTorch",)),
)
# On a GPU every line meets these as well, where they are installed.
GPU_PEERS: Final = {"torch": ("PyTorch compiled", "Liger"), "torch-compiled": ("PyTorch", "Liger")}
LINEAR_PEERS: Final = {"jax": ("optax",)}  # behind a linear layer; the others have
TORCH_LINEAR: Final = ("PyTorch", "PyTorch chunked")


def devices(library: str) -> Iterator[tuple[str, Any]]:
    """Give a library's devices and their kinds: "cpu" or "gpu"."""
    try:
        found = backends.get(library).devices()
    except ImportError:
        return
    for device in found:
        is_host = str(getattr(device, "platform", device)).startswith("cpu")
        yield "cpu" if is_host else "gpu", device


def device_of(library: str, kind: str) -> Any:
    """Return the first device of a kind as a library knows it."""
    return next((device for one, device in devices(library) if one == kind), None)


@dataclass(frozen=True)
class Line:
    """A case on a kind of device."""

    case: Case
    kind: str

    @property
    def ours(self) -> Way:
        return WAYS[self.case.ours]

    @property
    def title(self) -> str:
        return self.case.title if self.kind == "cpu" else f"{self.case.title}, {self.kind}"

    def peers(self, linear: bool = False) -> list[Way]:
        """List the peers that can be asked there; without the first one there is no line."""
        names: tuple[str, ...] = self.case.peers
        more: tuple[str, ...] = GPU_PEERS.get(self.case.name, ())
        if linear:
            names, more = LINEAR_PEERS.get(self.case.name, TORCH_LINEAR), ("Liger",)
        found = [WAYS[name] for name in names + (more if self.kind != "cpu" else ())]
        return [w for w in found if not w.missing() and self.kind in dict(devices(w.library))]


def lines(names: tuple[str, ...] = ()) -> tuple[list[Line], dict[str, str]]:
    """List the lines that can be measured, and the cases that cannot with the reason.

    No `names` stand for all of them.
    """
    found, absent = [], {}
    for case in CASES:
        if not names or case.name in names:
            reason = WAYS[case.ours].missing() or WAYS[case.peers[0]].missing()
            kinds = (
                ()
                if reason
                else dict.fromkeys(kind for kind, _ in devices(WAYS[case.ours].library))
            )
            here = [line for line in (Line(case, kind) for kind in kinds) if line.peers()]
            found += here
            if not here:
                absent[case.name] = reason or "its library has no such device here"
    return found, absent
