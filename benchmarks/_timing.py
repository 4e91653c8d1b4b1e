"""Times of several calls, taken in turns, so that a load on the machine hits all of them alike."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Timed:
    """A call to be timed; `wait` returns once its result has been computed."""

    call: Callable[[], Any]
    wait: Callable[[Any], None] = lambda result: None


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds until `seconds` have passed, within the two limits.

    A round calls each side for at least `block` seconds, after half as many calls, one at least,
    that do not count: the clock, and a peer's threads that still spin after their last call, must
    have no part in it.
    """

    seconds: float = 4.0
    least: int = 7
    most: int = 200
    block: float = 2e-3


def _block(timed: Timed, count: int) -> float:
    """Time one call of a block; freeing its result is part of it."""
    for _ in range((count + 1) // 2):
        timed.wait(timed.call())
    start = perf_counter()
    for _ in range(count - 1):
        timed.call()
    result = timed.call()
    timed.wait(result)
    del result
    return (perf_counter() - start) / count


def interleaved(calls: Mapping[str, Timed], effort: Effort) -> dict[str, list[float]]:
    """Time each call once a round, in turns and back again.

    Parameters
    ----------
    calls : mapping of str to Timed
        Called with nothing; what they return is dropped at once.
    effort : Effort
        For all of them together.

    Returns
    -------
    dict of str to list of float
        Seconds of one call, a number a round; the same rounds for each.
    """
    counts = {}
    for name, timed in calls.items():
        _block(timed, 1)  # compiles, starts threads
        fastest = min(_block(timed, 1) for _ in range(2))
        counts[name] = max(1, math.ceil(effort.block / max(fastest, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start, rounds = perf_counter(), 0
        while rounds < effort.least or (
            rounds < effort.most and perf_counter() - start < effort.seconds
        ):
            for name in order:
                times[name].append(_block(calls[name], counts[name]))
            order.reverse()
            rounds += 1
    finally:
        if was_enabled:
            gc.enable()
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Give the median and the quartiles."""
    if len(values) < 2:
        return dict.fromkeys(("median", "q1", "q3"), values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def ratio(ours: list[float], peer: list[float]) -> dict[str, float]:
    """Compare two series: the ratio of their medians, and the quartiles of the rounds' ratios."""
    rounds = spread([a / b for a, b in zip(ours, peer, strict=True)])
    return rounds | {"median": statistics.median(ours) / statistics.median(peer)}
