"""A run, one JSON document of its sections' records; each section plans its measurements."""

import gc
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from rich.progress import Progress

import xp_xent
from xp_xent import backends
from xp_xent.backends._threads import allowed
from xp_xent.benchmarks import _against, _asked, _eager, _machine, _memory, _stats
from xp_xent.benchmarks._measure import measure
from xp_xent.benchmarks._shapes import ITEM_BYTES, Shape, goal, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, spread
from xp_xent.benchmarks._ways import WAYS, Line, Way, lines

Record = dict[str, Any]
Report = dict[str, Any]
FORMAT: Final = 2  # of reports
LARGE: Final = Shape((2048, 32000))
TINY: Final = Shape((4, 3))  # nothing to compute: what is left is the overhead of a call
# The most that loss and gradient may take in gradients, and that the loss alone may take in bytes
MEMORY_GOAL: Final = {"both": 1.15, "loss": 25e6}
LINEAR_GOAL, LINEAR_BYTES_GOAL = 1.0, 130e6
CURVES: Final = {"rows": 1000, "classes": 64}  # the other one stays
POWERS: Final = range(3, 9)  # of ten, elements of the curves
FIRST_MEMORY: Final = 10**6  # elements; less memory drowns in what a process does anyway


class Settings(NamedTuple):
    """What a run was asked for."""

    dtype: str
    effort: Effort
    quick: bool
    cases: list[str]
    shapes: tuple[Shape, ...]
    large: Path | None = None
    against: Path | None = None

    def lines(self, every: bool = False) -> list[Line]:
        """List the lines to measure; PyTorch compiled has to be asked for, and a full run."""
        compiled = every and not self.quick
        found = [line for line in lines(self.cases) if compiled or line.ours.how != "compiled"]
        return found if every or not self.quick else found[:1]


class Task(NamedTuple):
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
        for line in given.lines(every=True):
            wanted = goal(line.case, shape, given.dtype) if line.kind == "cpu" else None
            call = partial(measure, line, shape, given.dtype, given.effort, goal=wanted)
            yield Task(f"{line.title}, {shape.name}", call)


def memory(given: Settings) -> Iterator[Task]:
    """Plan the peaks of memory: loss and gradient, and the loss alone."""
    pairs = [(w, x.kind) for x in given.lines(every=True) for w in (x.ours, *x.peers())]
    pairs.sort(key=lambda pair: pair[0].who != "xp_xent")
    for way, kind in dict.fromkeys(pairs[:1] if given.quick else pairs):
        for what in ("both",) if given.quick else MEMORY_GOAL:
            if _memory.can_measure(kind):
                yield Task(f"memory, {way.name}, {what}", partial(_peak, way, kind, given, what))


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
    shape, width = (Shape((64, 100)), 16) if given.quick else (LARGE, 512)
    most_peers = 1 if given.quick else None  # PyTorch's in chunks imports its compiler
    for line in given.lines():
        goals = line.kind == "cpu" and not given.quick
        call = partial(
            measure, line, shape, given.dtype, given.effort, width=width, memory=not given.quick,
            goal=LINEAR_GOAL if goals else None, most_peers=most_peers,
            bytes_goal=LINEAR_BYTES_GOAL if goals else None,
        )  # fmt: skip
        yield Task(f"linear, {line.title}", call)


def compiling(given: Settings) -> Iterator[Task]:
    """Plan XLA's compile time over the number of rows."""
    if "jax" in backends.installed() and "jax" in given.cases:
        for rows in (16,) if given.quick else (256, 1024, 4096, 16384, 65536):
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
        call = partial(measure, line, TINY, given.dtype, given.effort, profiled=50)
        yield Task(f"tiny call, {line.title}", call)


def eager(given: Settings) -> Iterator[Task]:
    """Plan JAX's calls outside `jit`."""
    if "jax" in given.cases and WAYS["xp_xent, JAX"].usable() and WAYS["optax"].usable():
        for shape in _eager.SHAPES[: 1 if given.quick else None]:
            for what in _eager.GOALS:
                call = partial(_eager.measure, what, shape, given.dtype, given.effort)
                yield Task(f"outside jit, {what}, {shape.name}", call)


def stats(given: Settings) -> Iterator[Task]:
    """Plan calls with statistics and without, on NumPy and PyTorch's eager tensors."""
    for shape in _stats.SHAPES[: 1 if given.quick else None]:
        for call in _stats.CALLS:
            if call.library in given.cases and call.library in backends.installed():
                measured = partial(_stats.measure, call, shape, given.dtype, given.effort)
                yield Task(f"with statistics, {call.title}, {shape.name}", measured)


def against(given: Settings) -> Iterator[Task]:
    """Plan calls here and in another interpreter, if one is given."""
    if given.against is not None:
        for shape in _against.SHAPES[: 1 if given.quick else None]:
            for name, library in _asked.NAMES.items():
                call = partial(_against.measure, given.against, name, shape, given.effort)
                if library in given.cases and library in backends.installed():
                    yield Task(f"here and there, {name}, {shape.name}", call)


def threads(given: Settings) -> Iterator[Task]:
    """Plan the times by number of threads."""
    if "numpy" in given.cases:
        shapes = ((64, 10),) if given.quick else ((2048, 32000), (8192, 1000), (65536, 10))
        for shape in map(Shape, shapes):
            yield Task(f"threads, {shape.name}", partial(_by_threads, shape, given))


def _by_threads(shape: Shape, settings: Settings) -> list[Record]:
    """Time NumPy's loss and gradient, and PyTorch's, on 1, 2, 4, … threads in turns."""
    given, most = problem(shape, settings.dtype), allowed()
    counts = sorted({*(2**i for i in range(most.bit_length())), most})
    names = [name for name in ("xp_xent, NumPy", "PyTorch") if WAYS[name].usable()]
    ready = {name: WAYS[name].ready(given) for name in names}

    def limited(name: str, count: int) -> None:
        if name == "PyTorch":
            sys.modules["torch"].set_num_threads(count)
        with xp_xent.threads(count):
            ready[name].both()

    calls = {(name, n): Timed(partial(limited, name, n)) for name in names for n in counts}
    found = interleaved(calls, settings.effort)
    if "PyTorch" in names:
        sys.modules["torch"].set_num_threads(most)
    about = [{"shape": shape.name, "who": who, "threads": count} for who, count in found]
    return [one | spread(times) for one, times in zip(about, found.values(), strict=True)]


def scaling(given: Settings) -> Iterator[Task]:
    """Plan the curves over rows and over classes: time, and from a million elements on memory."""
    effort = given.effort._replace(seconds=given.effort.seconds / 4, least=3)
    for curve, other in CURVES.items():
        for power in POWERS[: 1 if given.quick else None]:
            sizes = (round(10**power / other), other)
            shape = Shape(sizes if curve == "rows" else sizes[::-1])
            for line in given.lines():
                call = partial(
                    measure, line, shape, given.dtype, effort, most_peers=1, curve=curve,
                    memory=10**power >= FIRST_MEMORY,
                )  # fmt: skip
                yield Task(f"{line.title}, {shape.name}", call)


def large(given: Settings) -> Iterator[Task]:
    """Plan the file that holds more elements than 31 bits count, if a folder is given for it."""
    if given.large is not None:
        shape = Shape((1025, 64)) if given.quick else Shape((2**16 + 1, 2**15))
        yield Task(f"file, {shape.name}", partial(_memory.large, given.large, shape))


PLANS: Final = (
    limits, table, memory, linear, compiling, overhead, eager, stats, against, threads, scaling,
    large,
)  # fmt: skip
SECTIONS: Final[dict[str, Callable[[Settings], Iterator[Task]]]] = {
    plan.__name__: plan for plan in PLANS
}


def execute(settings: Settings, tasks: list[tuple[str, Task]], progress: Progress) -> Report:
    """Measure everything; one that fails is recorded with its error, and the others go on.

    An interrupt ends the run, and what was measured before it is kept.
    """
    asked = {"dtype": settings.dtype, "quick": settings.quick, "seconds": settings.effort.seconds}
    report: Report = {
        "format": FORMAT, "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine.describe(), "settings": asked, "sections": {},
    }  # fmt: skip
    bar = progress.add_task("", total=len(tasks))
    gc.freeze()  # the libraries are no garbage; to look at them takes longer than a small cell
    try:
        for name, task in tasks:
            progress.update(bar, description=task.label)
            records = report["sections"].setdefault(name, [])
            try:
                records += task.measure()
            except Exception as error:  # noqa: BLE001 (a library's own errors are of any kind)
                records.append({"label": task.label, "error": f"{type(error).__name__}: {error}"})
            progress.advance(bar)
    except KeyboardInterrupt:
        report["interrupted"] = True
    finally:
        gc.unfreeze()
    return report


def merged(report: Report, earlier: Report) -> Report:
    """Add the sections of an earlier run of this machine that this one did not measure."""
    if earlier.get("format") != FORMAT:
        raise ValueError(f"format {earlier.get('format')!r}, wanted {FORMAT}")
    for about, key in (("machine", "processor"), ("machine", "versions"), ("settings", "dtype")):
        if earlier[about][key] != report[about][key]:
            raise ValueError(f"the earlier report was measured elsewhere: another {key}")
    measured = {name: records for name, records in report["sections"].items() if records}
    return report | {"sections": earlier["sections"] | measured}
