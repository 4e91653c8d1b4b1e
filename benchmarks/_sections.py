"""The sections of a run: each plans its measurements, and a measurement gives some records."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import xp_xent
from xp_xent import backends
from xp_xent.benchmarks import _machine, _memory
from xp_xent.benchmarks._large import large as large_file
from xp_xent.benchmarks._lines import Line, lines
from xp_xent.benchmarks._measure import measure
from xp_xent.benchmarks._shapes import ITEM_BYTES, SHAPES, Shape, goal, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, spread
from xp_xent.benchmarks._ways import WAYS, Way

Record = dict[str, Any]
LARGE: Final = Shape((2048, 32000))
TINY: Final = Shape((4, 3))  # nothing to compute: what is left is the overhead of a call
LINEAR_WIDTH: Final = 512
# The most that loss and gradient may take in gradients, and that the loss alone may take in bytes
MEMORY_GOAL: Final = {"both": 1.15, "loss": 25e6}
LINEAR_GOAL, LINEAR_BYTES_GOAL = 1.0, 130e6
CURVES: Final = {"rows": 1000, "classes": 64}  # the other one stays
FIRST, FIRST_MEMORY = 10**3, 10**6  # elements; less memory drowns in what a process does anyway


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

    def lines(self, compiled: bool = False) -> list[Line]:
        """List the lines to measure; a quick run waits for no compiler unless it is told to."""
        compiled = compiled and not (self.quick and not self.cases)
        return [line for line in lines(self.cases)[0] if compiled or line.ours.how != "compiled"]


@dataclass(frozen=True)
class Task:
    """One measurement: what the progress bar says, and what gives the records."""

    label: str
    measure: Callable[[], list[Record]]


def limits(given: Settings) -> Iterator[Task]:
    """Plan the host's limits: bandwidth, and one exp an element."""
    megabytes = 1 if given.quick else 256
    yield Task("limits", partial(_machine.limits, given.effort, megabytes))


def table(given: Settings) -> Iterator[Task]:
    """Plan the table of times."""
    for shape in given.shapes:
        for line in given.lines(compiled=True):
            on_host = line.kind == "cpu"
            wanted = goal(line.case.name, shape, given.dtype) if on_host else None
            call = partial(measure, line, shape, given.dtype, given.effort, goal=wanted)
            yield Task(f"{line.title}, {shape.name}", call)


def memory(given: Settings) -> Iterator[Task]:
    """Plan the peaks of memory: loss and gradient, and the loss alone."""
    everyone: dict[tuple[str, str], tuple[Way, Line]] = {}
    for line in given.lines(compiled=True):
        for way in (line.ours, *line.peers()):
            everyone.setdefault((way.name, line.kind), (way, line))
    ordered = sorted(everyone.values(), key=lambda pair: pair[0].who != "xp_xent")
    for way, line in ordered[:1] if given.quick else ordered:
        if _memory.can_measure(line.kind):
            for what in MEMORY_GOAL:
                call = partial(_peak, way, line.kind, given, what)
                yield Task(f"memory, {way.name}, {what}", call)


def _peak(way: Way, kind: str, given: Settings, what: str) -> list[Record]:
    shape = Shape((64, 1000)) if given.quick else LARGE
    ours = way.who == "xp_xent" and not given.quick
    return [{
        "who": way.name if kind == "cpu" else f"{way.name}, {kind}", "what": what,
        "goal": MEMORY_GOAL[what] if ours else None,
        "bytes": _memory.extra_bytes(way, kind, shape, given.dtype, what),
        "gradient_bytes": shape.elements * ITEM_BYTES[given.dtype],
    }]  # fmt: skip


def linear(given: Settings) -> Iterator[Task]:
    """Plan the loss behind a linear layer, with both gradients: time and memory."""
    found = given.lines()
    shape, width = (Shape((64, 100)), 16) if given.quick else (LARGE, LINEAR_WIDTH)
    for line in found[:1] if given.quick else found:
        goals = line.kind == "cpu" and not given.quick
        call = partial(
            measure, line, shape, given.dtype, given.effort, width=width, copy=False,
            memory=not given.quick, goal=LINEAR_GOAL if goals else None,
            bytes_goal=LINEAR_BYTES_GOAL if goals else None,
        )  # fmt: skip
        yield Task(f"linear, {line.title}", call)


def compiling(given: Settings) -> Iterator[Task]:
    """Plan XLA's compile time over the number of rows."""
    if "jax" in backends.installed() and (not given.cases or "jax" in given.cases):
        for rows in (16, 64) if given.quick else (256, 1024, 4096, 16384, 65536):
            yield Task(f"compile time, {rows} rows", partial(_compile, rows))


def _compile(rows: int) -> list[Record]:
    """Time what XLA needs for the gradients behind a linear layer of so many rows."""
    import jax

    given, backend = problem(Shape((rows, 1000)), "float32", 64), backends.get("jax")
    arrays = [*map(backend.asarray, given.floats), backend.asarray(given.labels, dtype="int32")]
    both = jax.jit(jax.value_and_grad(xp_xent.linear_cross_entropy, argnums=(0, 1)))
    start = perf_counter()
    both.lower(*arrays).compile()
    return [{"rows": rows, "seconds": perf_counter() - start}]


def overhead(given: Settings) -> Iterator[Task]:
    """Plan the tiny calls."""
    for line in given.lines():
        call = partial(
            measure, line, TINY, given.dtype, given.effort, copy=False, calls_to_profile=50
        )
        yield Task(f"tiny call, {line.title}", call)


def threads(given: Settings) -> Iterator[Task]:
    """Plan the times by number of threads."""
    if not given.cases or "numpy" in given.cases:
        shapes = ((64, 10),) if given.quick else ((2048, 32000), (8192, 1000), (65536, 10))
        for shape in map(Shape, shapes):
            yield Task(f"threads, {shape.name}", partial(_by_threads, shape, given))


def _by_threads(shape: Shape, settings: Settings) -> list[Record]:
    """Time NumPy's loss and gradient, and PyTorch's, on 1, 2, 4, … threads in turns."""
    given, most = problem(shape, settings.dtype), _machine.processors()
    counts = sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})
    names = [n for n in ("xp_xent, NumPy", "PyTorch") if not WAYS[n].missing()]
    ready = {name: WAYS[name].ready(given, "cpu" if name == "PyTorch" else None) for name in names}

    def limited(name: str, count: int) -> None:
        if name == "PyTorch":
            sys.modules["torch"].set_num_threads(count)
        with xp_xent.threads(count):
            ready[name].both()

    calls = {(name, n): Timed(partial(limited, name, n)) for name in names for n in counts}
    found = interleaved(calls, settings.effort)
    if "PyTorch" in names:
        sys.modules["torch"].set_num_threads(most)
    return [
        {"shape": shape.name, "who": who, "threads": count} | spread(times)
        for (who, count), times in found.items()
    ]


def scaling(given: Settings) -> Iterator[Task]:
    """Plan the curves over rows and over classes: time, and from a million elements on memory."""
    effort, found = replace(given.effort, seconds=given.effort.seconds / 4, least=3), given.lines()
    largest = min(given.largest, 10**4) if given.quick else given.largest
    powers = range(round(math.log10(FIRST)), math.floor(math.log10(largest) + 1e-9) + 1)
    for curve, other in CURVES.items():
        for power in powers:
            sizes = (round(10**power / other), other)
            shape = Shape(sizes if curve == "rows" else sizes[::-1])
            for line in found[:1] if given.quick else found:
                call = partial(
                    measure, line, shape, given.dtype, effort, most_peers=1, curve=curve,
                    memory=10**power >= FIRST_MEMORY,
                )  # fmt: skip
                yield Task(f"{line.title}, {shape.name}", call)


def large(given: Settings) -> Iterator[Task]:
    """Plan the file that holds more elements than 31 bits count, if a folder is given for it."""
    if given.large is not None:
        shape = Shape((1025, 64)) if given.quick else Shape((2**16 + 1, 2**15))
        yield Task(f"file, {shape.name}", partial(large_file, given.large, shape))


SECTIONS: Final[dict[str, Callable[[Settings], Iterator[Task]]]] = {
    plan.__name__: plan
    for plan in (limits, table, memory, linear, compiling, overhead, threads, scaling, large)
}
