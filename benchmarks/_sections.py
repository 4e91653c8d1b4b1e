"""The sections of a run: each plans its measurements, and a measurement gives one record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from xp_xent import backends
from xp_xent.benchmarks import _machine, _memory, _scaling, _table
from xp_xent.benchmarks._shapes import ITEM_BYTES, QUICK, SHAPES, Shape, linear_problem
from xp_xent.benchmarks._table import Case, Place, cell, compare, line, lines, peers
from xp_xent.benchmarks._timing import Effort
from xp_xent.benchmarks._ways import WAYS, Way

Record = dict[str, Any]
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True)
class Settings:
    """What a run was asked for."""

    dtype: str = "float32"
    effort: Effort = field(default_factory=Effort)
    quick: bool = False
    cases: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = SHAPES
    largest: int = 10**8
    large: Path | None = None

    def lines(self) -> list[tuple[Case, Place]]:
        """List the lines to measure; a quick run waits for no compiler unless it is told to."""
        found = lines(self.cases)[0]
        slow = self.quick and not self.cases
        return [(case, place) for case, place in found if not (slow and "compiled" in case.name)]


@dataclass(frozen=True)
class Task:
    """One measurement: what the progress bar says, and what gives the record."""

    label: str
    measure: Callable[[], Record]


def limits(settings: Settings) -> list[Task]:
    """Plan the host's limits: bandwidth, and one exp an element."""
    megabytes = 1 if settings.quick else 256
    return [Task("limits", partial(_machine.limits, settings.effort, megabytes))]


def table(settings: Settings) -> list[Task]:
    """Plan the table of times."""
    return [
        Task(
            f"{line(case, place)}, {shape.name}",
            partial(cell, case, place, shape, settings.dtype, settings.effort),
        )
        for shape in settings.shapes
        for case, place in settings.lines()
    ]


# Peak bytes: the shape, the most that loss and gradient may take in gradients, and that the loss
# alone may take in bytes.
MEMORY_SHAPE: Final = Shape((2048, 32000))
MEMORY_GOAL: Final = {"both": 1.15, "loss": 25 * MEGABYTE}


def _everyone(settings: Settings) -> list[tuple[Way, Place]]:
    """List every way that has a part in a line, each once."""
    found: dict[tuple[str, str], tuple[Way, Place]] = {}
    for case, place in settings.lines():
        for way in (WAYS[case.ours], *peers(case, place)):
            # CuPy's peer is on the same device as PyTorch's own line.
            found.setdefault((way.name, place.kind), (way, Place(way.library, place.kind)))
    return sorted(found.values(), key=lambda pair: pair[0].who != "xp_xent")


def _memory_record(way: Way, place: Place, shape: Shape, dtype: str, what: str) -> Record:
    extra = _memory.extra_bytes(way, place, shape, dtype, what)
    gradient = shape.elements * ITEM_BYTES[dtype]
    named = {"name": way.name, "device": place.kind, "shape": shape.name, "dtype": dtype}
    goal = MEMORY_GOAL[what] if way.who == "xp_xent" and shape == MEMORY_SHAPE else None
    return named | {"what": what, "bytes": extra, "gradient_bytes": gradient, "goal": goal}


def memory(settings: Settings) -> list[Task]:
    """Plan the peaks of memory: loss and gradient, and the loss alone."""
    shape = Shape((64, 1000)) if settings.quick else MEMORY_SHAPE
    ways = _everyone(settings)
    kept = [(w, p) for w, p in ways if not settings.quick or w.name == "xp_xent, NumPy"]
    return [
        Task(
            f"memory, {way.name}, {what}",
            partial(_memory_record, way, place, shape, settings.dtype, what),
        )
        for way, place in kept
        if _memory.can_measure(place)
        for what in ("both", "loss")
    ]


# The shape of the logits behind a linear layer, the features' width, and the goals
LINEAR_SHAPE: Final = Shape((2048, 32000))
LINEAR_WIDTH: Final = 512
LINEAR_GOAL: Final = {"ratio": 1.0, "bytes": 130 * MEGABYTE}
LINEAR_PEERS: Final = {
    "numpy": ("PyTorch", "PyTorch chunked"),
    "torch": ("PyTorch", "PyTorch chunked"),
    "jax": ("optax",),
    "cupy": ("PyTorch", "PyTorch chunked", "Liger"),
}


def _linear_record(
    case: Case, place: Place, shape: Shape, width: int, settings: Settings
) -> Record:
    ours = WAYS[case.ours]
    names = LINEAR_PEERS[case.library] + (("Liger",) if place.kind != "cpu" else ())
    others = [WAYS[name] for name in dict.fromkeys(names) if WAYS[name].missing() is None]
    given = linear_problem(shape, width, settings.dtype)
    record = compare(given, ours, others, place, settings.effort, copy=False)
    measured = [record["ours"], *([] if settings.quick else record["peers"])]
    if _memory.can_measure(place):
        for one in measured:
            way = WAYS[one["name"]]
            here = Place(way.library, place.kind)
            one["bytes"] = _memory.extra_bytes(way, here, shape, settings.dtype, "both", width)
    full = shape == LINEAR_SHAPE and place.kind == "cpu"
    goal = LINEAR_GOAL if full else None
    return {"case": case.name, "line": line(case, place), "width": width, "goal": goal} | record


def linear(settings: Settings) -> list[Task]:
    """Plan the loss behind a linear layer, with both gradients: time and memory."""
    shape, width = (Shape((64, 100)), 16) if settings.quick else (LINEAR_SHAPE, LINEAR_WIDTH)
    found = [(case, place) for case, place in settings.lines() if case.library in LINEAR_PEERS]
    if settings.quick:
        found = found[:1]
    return [
        Task(
            f"linear, {line(case, place)}",
            partial(_linear_record, case, place, shape, width, settings),
        )
        for case, place in found
        if "compiled" not in case.name
    ]


def _compile_record(rows: int) -> Record:
    """Time what XLA needs for the gradients behind a linear layer of so many rows."""
    import jax

    import xp_xent

    given = linear_problem(Shape((rows, 1000)), 64, "float32")
    backend = backends.get("jax")
    arrays = [backend.asarray(x) for x in given.floats]
    labels = backend.asarray(given.labels, dtype="int32")
    both = jax.jit(jax.value_and_grad(xp_xent.linear_cross_entropy, argnums=(0, 1)))
    start = perf_counter()
    both.lower(*arrays, labels).compile()
    return {"rows": rows, "classes": 1000, "width": 64, "seconds": perf_counter() - start}


def compiling(settings: Settings) -> list[Task]:
    """Plan XLA's compile time over the number of rows."""
    if "jax" not in backends.installed() or (settings.cases and "jax" not in settings.cases):
        return []
    counts = (16, 64) if settings.quick else (256, 1024, 4096, 16384, 65536)
    return [Task(f"compile time, {rows} rows", partial(_compile_record, rows)) for rows in counts]


def scaling(settings: Settings) -> list[Task]:
    """Plan the curves over rows and over classes."""
    largest = min(settings.largest, 10**4) if settings.quick else settings.largest
    fewer = replace(settings.effort, seconds=settings.effort.seconds / 4, least=3)
    found = [pair for pair in settings.lines() if "compiled" not in pair[0].name]
    return [
        Task(
            f"{line(case, place)}, {shape.name}",
            partial(
                _scaling.point, curve, case, place, shape, settings.dtype, fewer, not settings.quick
            ),
        )
        for curve in ("rows", "classes")
        for shape in _scaling.curve_shapes(curve, largest)
        for case, place in (found[:1] if settings.quick else found)
    ]


def threads(settings: Settings) -> list[Task]:
    """Plan the times by number of threads."""
    if settings.cases and "numpy" not in settings.cases:
        return []
    sizes = ((64, 10),) if settings.quick else ((2048, 32000), (8192, 1000), (65536, 10))
    return [
        Task(
            f"threads, {shape.name}",
            partial(_scaling.by_threads, shape, settings.dtype, settings.effort),
        )
        for shape in map(Shape, sizes)
    ]


def overhead(settings: Settings) -> list[Task]:
    """Plan the tiny calls."""
    return [
        Task(
            f"tiny call, {line(case, place)}",
            partial(_table.overhead, case, place, settings.dtype, settings.effort),
        )
        for case, place in settings.lines()
        if "compiled" not in case.name
    ]


def large(settings: Settings) -> list[Task]:
    """Plan the file that holds more elements than 31 bits count, if a folder is given for it."""
    if settings.large is None:
        return []
    shape = Shape((1025, 64)) if settings.quick else Shape((2**16 + 1, 2**15))
    return [Task(f"file, {shape.name}", partial(_scaling.large, settings.large, shape))]


SECTIONS: Final[dict[str, Callable[[Settings], list[Task]]]] = {
    "limits": limits,
    "table": table,
    "memory": memory,
    "linear": linear,
    "compiling": compiling,
    "overhead": overhead,
    "threads": threads,
    "scaling": scaling,
    "large": large,
}


def shapes(names: tuple[str, ...], quick: bool) -> tuple[Shape, ...]:
    """Read the shapes asked for, or take the usual ones."""
    if names:
        return tuple(map(Shape.parse, names))
    return QUICK if quick else SHAPES
