"""The table of times: this library against each library's own loss, loss and gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from xp_xent import backends
from xp_xent.benchmarks._machine import HostCopy, device_copy, processors
from xp_xent.benchmarks._profile import CALLS, profile
from xp_xent.benchmarks._shapes import Problem, Shape, goal, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import WAYS, Ready, Way, forget_compiled, number

Array = Any
Record = dict[str, Any]
COPY: Final = "copy"
# Two losses that differ by more than this, in eps of the logits' dtype, compute different things.
SAME_LOSS: Final = 256.0


@dataclass(frozen=True)
class Case:
    """A line of the table: one way of ours and its peers, the first of which sets the goal."""

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


@dataclass(frozen=True)
class Place:
    """A device of one library: "cpu", or the name of the first accelerator that it has."""

    library: str
    kind: str

    def device(self, library: str) -> Any:
        """Give the same device as another library knows it; numpy has but one."""
        return next((d for kind, d in _devices(library) if kind == self.kind), None)


def _devices(library: str) -> Iterator[tuple[str, Any]]:
    """Name the kinds of devices: "cpu" or "gpu"."""
    try:
        found = backends.get(library).devices()
    except ImportError:
        return
    for device in found:
        if library == "cupy":
            yield "gpu", device
        elif library == "jax":
            yield ("cpu" if device.platform == "cpu" else "gpu"), device
        else:
            yield ("cpu" if str(device).startswith("cpu") else "gpu"), device


def places(case: Case) -> list[Place]:
    """List where a case can be measured: the CPU, and the first accelerator of its library."""
    kinds = dict.fromkeys(kind for kind, _ in _devices(case.library))
    return [Place(case.library, kind) for kind in kinds if case.on_cpu or kind != "cpu"]


def peers(case: Case, place: Place) -> list[Way]:
    """List the peers that can be asked there; those without the first one have no line."""
    names = case.peers + (GPU_PEERS.get(case.name, ()) if place.kind != "cpu" else ())
    found = [WAYS[name] for name in names if WAYS[name].missing() is None]
    return [way for way in found if any(k == place.kind for k, _ in _devices(way.library))]


def line(case: Case, place: Place) -> str:
    """Name a line of the table."""
    return case.title if place.kind == "cpu" else f"{case.title}, {place.kind}"


def lines(names: tuple[str, ...]) -> tuple[list[tuple[Case, Place]], dict[str, str]]:
    """List the lines that can be measured, and those that cannot with the reason.

    An empty `names` stands for all of them.
    """
    found, absent = [], {}
    for case in CASES:
        if names and case.name not in names:
            continue
        reason = WAYS[case.ours].missing() or WAYS[case.peers[0]].missing()
        here = [place for place in places(case) if not reason and peers(case, place)]
        found += [(case, place) for place in here]
        if not here:
            absent[case.name] = reason or "its library has no such device here"
    return found, absent


def compare(
    given: Problem, ours: Way, others: list[Way], place: Place, effort: Effort, copy: bool = True
) -> Record:
    """Time loss and gradient of one problem, and a copy of its logits in between.

    Raises
    ------
    ArithmeticError
        The losses differ: they are not the same computation.
    """
    ready, failed = _prepare(given, ours, others, place)
    calls = {name: Timed(one.both, one.wait) for name, one in ready.items()}
    with ExitStack() as stack:
        if copy:
            calls[COPY], close = _copy(given, ours, place, ready[ours.name])
            stack.callback(close)
        times = interleaved(calls, effort)
    return {
        "shape": given.shape.name,
        "elements": given.shape.elements,
        "dtype": given.dtype,
        "device": place.kind,
        "rounds": len(times[ours.name]),
        "ours": {"name": ours.name} | spread(times[ours.name]),
        "copy": spread(times[COPY]) if copy else None,
        "peers": [
            {"name": way.name, "ratio": ratio(times[ours.name], times[way.name])}
            | spread(times[way.name])
            for way in others
            if way.name in ready
        ],
        "failed": failed,
    }


def _prepare(
    given: Problem, ours: Way, others: list[Way], place: Place
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Put the inputs in place and compute once; a further peer may fail, and is left out then."""
    forget_compiled()
    ready, losses, failed = {}, {}, {}
    for way in (ours, *others):
        try:
            one = way.ready(given, place.device(way.library))
            losses[way.name] = number(way, one.both())
        except Exception as error:
            if way in (ours, others[0]):
                raise
            failed[way.name] = f"{type(error).__name__}: {error}"
        else:
            ready[way.name] = one
    _same_loss(given.dtype, losses)
    return ready, failed


def _same_loss(dtype: str, losses: dict[str, float]) -> None:
    from xp_xent.conformance import _formats

    first, *rest = losses.values()
    allowed = SAME_LOSS * _formats.FORMATS[dtype].eps * abs(first)
    if not all(abs(other - first) <= allowed for other in rest):
        raise ArithmeticError(f"the losses differ: {losses}")


def _copy(
    given: Problem, ours: Way, place: Place, ready: Ready
) -> tuple[Timed, Callable[[], None]]:
    """Prepare a copy of as many bytes as the logits have, where they are."""
    if place.kind == "cpu":
        width = {"float64": np.float64, "float32": np.float32}.get(given.dtype, np.float16)
        copy = HostCopy(np.ones(given.shape.elements, width), processors())
        return Timed(copy), copy.close
    backend = backends.get(ours.library)
    source = backend.asarray(
        np.ones(given.shape.elements, np.float32), dtype=given.dtype,
        device=place.device(ours.library),
    )  # fmt: skip
    return Timed(device_copy(ours.library, source), ready.wait), lambda: None


def cell(case: Case, place: Place, shape: Shape, dtype: str, effort: Effort) -> Record:
    """Measure a cell of the table, and profile it where it is above its goal."""
    given, ours = problem(shape, dtype), WAYS[case.ours]
    record = compare(given, ours, peers(case, place), place, effort)
    wanted = goal(case.name, shape, dtype) if place.kind == "cpu" else None
    if wanted is not None and record["peers"][0]["ratio"]["median"] > wanted and ours.how != "jit":
        record["profile"] = profile(ours, ours.ready(given, place.device(ours.library)))
    return {"case": case.name, "line": line(case, place), "goal": wanted} | record


# Nothing to compute: what is left is the overhead of a call.
TINY: Final = Shape((4, 3))


def overhead(case: Case, place: Place, dtype: str, effort: Effort) -> Record:
    """Measure a tiny call, and profile it."""
    given, ours = problem(TINY, dtype), WAYS[case.ours]
    record = compare(given, ours, peers(case, place), place, effort, copy=False)
    if ours.how != "jit":
        ready = ours.ready(given, place.device(ours.library))
        record["profile"] = profile(ours, ready, calls=CALLS)
    return {"case": case.name, "line": line(case, place)} | record
