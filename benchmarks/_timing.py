"""Times of several calls, taken in turns, so that a load on the machine hits all of them alike."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

Name = TypeVar("Name")


@dataclass(frozen=True)
class Timed:
    """A call to be timed; `wait` returns once its result has been computed."""

    call: Callable[[], Any]
    wait: Callable[[Any], None] = lambda result: None

    def block(self, count: int) -> float:
        """Time one call of several; freeing its result is part of it.

        Half as many before them do not count: a peer's threads still spin after their last call.
        """
        for _ in range((count + 1) // 2):
            self.wait(self.call())
        start = perf_counter()
        for _ in range(count - 1):
            self.call()
        result = self.call()
        self.wait(result)
        del result
        return (perf_counter() - start) / count


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds until `seconds` have passed, within the two limits.

    A round calls each side for at least `block` seconds, for the clock's sake.
    """

    seconds: float = 4.0
    least: int = 7
    most: int = 200
    block: float = 2e-3


def interleaved(calls: Mapping[Name, Timed], effort: Effort) -> dict[Name, list[float]]:
    """Time each call once a round, in turns and back again: the seconds of one, each round."""
    counts = {}
    for name, timed in calls.items():
        timed.block(1)  # compiles, starts threads
        fastest = min(timed.block(1) for _ in range(2))
        counts[name] = max(1, math.ceil(effort.block / max(fastest, 1e-9)))
    times: dict[Name, list[float]] = {name: [] for name in calls}
    order, was_enabled = list(calls), gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start, rounds = perf_counter(), 0
        while rounds < effort.least or (
            rounds < effort.most and perf_counter() - start < effort.seconds
        ):
            for name in order:
                times[name].append(calls[name].block(counts[name]))
            order.reverse()
            rounds += 1
    finally:
        if was_enabled:
            gc.enable()
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    if len(values) < 2:
        return dict.fromkeys(("median", "q1", "q3"), values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def ratio(ours: list[float], peer: list[float]) -> dict[str, float]:
    """Compare two series: the ratio of their medians, and the quartiles of the rounds' ratios."""
    rounds = spread([a / b for a, b in zip(ours, peer, strict=True)])
    found = statistics.median(ours) / statistics.median(peer)
    return {"ratio": found, "ratio_q1": rounds["q1"], "ratio_q3": rounds["q3"]}
