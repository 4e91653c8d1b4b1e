"""Time loss and gradient of one problem by several ways, in turns: a record for each way."""

import cProfile
import pstats
from pathlib import Path
from typing import Any, Final

import numpy as np

import xp_xent
from xp_xent import backends
from xp_xent.backends._threads import allowed
from xp_xent.benchmarks import _memory
from xp_xent.benchmarks._machine import host_copy
from xp_xent.benchmarks._shapes import ITEM_BYTES, Problem, Shape, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import Line, Ready, Way, devices, forget_compiled
from xp_xent.conformance._formats import FORMATS

Record = dict[str, Any]
COPY: Final = "copy"
# Two losses that differ by more than this, in eps of the logits' dtype, compute different things.
SAME_LOSS: Final = 256.0
TOP: Final = 8  # functions of a profile


def measure(
    line: Line, shape: Shape, dtype: str, effort: Effort, *, width: int | None = None,
    most_peers: int | None = None, goal: float | None = None, memory: bool = False,
    profiled: int = 0, **labels: Any,
) -> list[Record]:  # fmt: skip
    """Time loss and gradient, and a copy of the logits in between; measure the peaks of `memory`.

    `width` is that of the features, behind a linear layer. Above the `goal`, of our time over the
    first peer's, one call is profiled. Our record comes first, ``peer`` 0; a peer's has our ratio
    to it, the first one's the goal, and a further peer that failed has ``failed`` and no times.
    ArithmeticError if the losses differ.
    """
    given = problem(shape, dtype, width)
    ways = [line.ours, *line.peers(width is not None)[:most_peers]]
    ready, failed = _prepare(given, line.kind, ways)
    calls = {name: Timed(one.both, one.wait) for name, one in ready.items()}
    if copies := width is None and not profiled:
        calls[COPY] = _copy(given, line, ready[line.ours.name])
    times = interleaved(calls, effort)
    ours = times[line.ours.name]
    about = labels | {
        "case": line.case, "line": line.title, "device": line.kind, "dtype": dtype,
        "shape": shape.name, "elements": shape.elements, "rounds": len(ours),
        "copy": spread(times[COPY])["median"] if copies else None,
    }  # fmt: skip
    records = []
    for at, way in enumerate(ways):
        one = about | {"who": way.name, "peer": at}
        if way.name in failed:
            records.append(one | {"failed": failed[way.name]})
            continue
        one |= spread(times[way.name]) | (ratio(ours, times[way.name]) if at else {})
        if memory and _memory.can_measure(line.kind):
            one["bytes"] = _memory.extra_bytes(way, line.kind, shape, dtype, "both", width)
        records.append(one)
    records[1]["goal"] = goal
    if goal is not None and records[1]["ratio"] > goal:
        profiled = profiled or 1
    if profiled and line.ours.how != "jit":
        records[0]["profile"] = profile(line.ours, ready[line.ours.name], profiled)
    return records


def _prepare(given: Problem, kind: str, ways: list[Way]) -> tuple[dict[str, Ready], dict[str, str]]:
    """Put the inputs in place and compute once; a further peer may fail, and is left out then."""
    forget_compiled()
    ready, losses, failed = {}, {}, {}
    for at, way in enumerate(ways):
        try:
            one = way.ready(given, kind)
            losses[way.name] = float(backends.get(way.library).to_numpy(one.both()[0]))
        except Exception as error:
            if at < 2:
                raise
            failed[way.name] = f"{type(error).__name__}: {error}"
        else:
            ready[way.name] = one
    check_same(given.dtype, losses)
    return ready, failed


def check_same(dtype: str, losses: dict[str, float]) -> None:
    """Refuse to compare different computations."""
    first, *rest = losses.values()
    allowed = SAME_LOSS * FORMATS[dtype].eps * abs(first)
    if not all(abs(other - first) <= allowed for other in rest):
        raise ArithmeticError(f"the losses differ: {losses}")


def _copy(given: Problem, line: Line, ready: Ready) -> Timed:
    """Prepare a copy of as many bytes as the logits have, where they are."""
    ones = np.ones(given.shape.elements, np.float32)
    if line.kind == "cpu":
        return host_copy(ones.astype(f"f{ITEM_BYTES[given.dtype]}"), allowed())
    backend, device = backends.get(line.ours.library), devices(line.ours.library)[line.kind]
    source = backend.asarray(ones, dtype=given.dtype, device=device)
    return Timed(lambda: backend.xp.asarray(source, copy=True), ready.wait)


def profile(way: Way, ready: Ready, calls: int) -> list[Record]:
    """List the functions in which loss and gradient spend most of their own time.

    What PyTorch compiled is timed by its own profiler, operator by operator; everything else by
    Python's, on one thread.
    """
    ready.wait(ready.both())
    found = (_operators if way.how == "compiled" else _functions)(ready, calls)
    total = sum(seconds for _, seconds, _ in found)
    return [
        {"function": name, "calls": count / calls, "share": seconds / total}
        for name, seconds, count in sorted(found, key=lambda one: -one[1])[:TOP]
    ]


def _functions(ready: Ready, calls: int) -> list[tuple[str, float, int]]:
    with xp_xent.threads(1), cProfile.Profile() as profiler:
        for _ in range(calls):
            ready.both()
    stats: Any = pstats.Stats(profiler)
    return [  # what is built in has no file
        (name if file == "~" else f"{Path(file).stem}.{name}", own, count)
        for (file, _, name), (_, count, own, _, _) in stats.stats.items()
    ]


def _operators(ready: Ready, calls: int) -> list[tuple[str, float, int]]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(calls):
            ready.both()
    return [(e.key, e.self_cpu_time_total * 1e-6, e.count) for e in seen.key_averages()]
