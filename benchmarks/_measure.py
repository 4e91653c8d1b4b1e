"""Time loss and gradient of one problem by several ways, in turns: a record for each way."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from xp_xent import backends
from xp_xent.benchmarks import _memory
from xp_xent.benchmarks._lines import Line, device_of
from xp_xent.benchmarks._machine import host_copy, processors
from xp_xent.benchmarks._profile import profile
from xp_xent.benchmarks._shapes import Problem, Shape, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import Ready, Way, forget_compiled, number
from xp_xent.conformance._formats import FORMATS

Record = dict[str, Any]
COPY: Final = "copy"
# Two losses that differ by more than this, in eps of the logits' dtype, compute different things.
SAME_LOSS: Final = 256.0


def measure(
    line: Line, shape: Shape, dtype: str, effort: Effort, *, width: int | None = None,
    most_peers: int | None = None, copy: bool = True, goal: float | None = None,
    memory: bool = False, calls_to_profile: int = 0, **labels: Any,
) -> list[Record]:  # fmt: skip
    """Time loss and gradient, and a copy of the logits in between.

    Parameters
    ----------
    width : int, optional
        Of the features, behind a linear layer.
    goal : float, optional
        Of our time over the first peer's; above it, one call is profiled.
    memory : bool
        Measure the peaks of memory, too.
    calls_to_profile : int
        Profile so many calls in any case.

    Returns
    -------
    list of dict
        Ours first, ``peer`` 0. A peer's has our ratio to it, and the first one's the goal; a
        further peer that failed has ``failed`` and no times.

    Raises
    ------
    ArithmeticError
        The losses differ: they are not the same computation.
    """
    given, ways = problem(shape, dtype, width), [line.ours, *line.peers(width is not None)]
    ways = ways[: most_peers + 1 if most_peers else None]
    ready, failed = _prepare(given, line, ways)
    calls = {name: Timed(one.both, one.wait) for name, one in ready.items()}
    if copy:
        calls[COPY] = _copy(given, line, ready[line.ours.name])
    times = interleaved(calls, effort)
    ours = times[line.ours.name]
    about = labels | {
        "case": line.case.name, "line": line.title, "device": line.kind, "dtype": dtype,
        "shape": shape.name, "elements": shape.elements, "rounds": len(ours),
        "copy": spread(times[COPY])["median"] if copy else None,
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
    above = goal is not None and records[1]["ratio"] > goal
    if (above or calls_to_profile) and line.ours.how != "jit":
        records[0]["profile"] = profile(line.ours, ready[line.ours.name], calls_to_profile or 1)
    return records


def _prepare(
    given: Problem, line: Line, ways: list[Way]
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Put the inputs in place and compute once; a further peer may fail, and is left out then."""
    forget_compiled()
    ready, losses, failed = {}, {}, {}
    for at, way in enumerate(ways):
        try:
            one = way.ready(given, device_of(way.library, line.kind))
            losses[way.name] = number(way, one.both())
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
        width = {"float64": np.float64, "float32": np.float32}.get(given.dtype, np.float16)
        return host_copy(ones.astype(width), processors())
    backend, device = backends.get(line.ours.library), device_of(line.ours.library, line.kind)
    source = backend.asarray(ones, dtype=given.dtype, device=device)
    return Timed(lambda: backend.xp.asarray(source, copy=True), ready.wait)
