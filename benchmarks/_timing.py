"""Times of several calls, taken in turns, so that a load on the machine hits all of them alike."""

import gc
import math
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np

Name = TypeVar("Name")


class Timed(NamedTuple):
    """A call to be timed; `wait` returns once its result has been computed."""

    call: Callable[[], Any]
    wait: Callable[[Any], None] = lambda result: None

    def block(self, count: int) -> float:
        """Time one call of several; freeing its result is part of it."""
        # A peer's threads still spin after their last call.
        for _ in range((count + 1) // 2):
            self.wait(self.call())
        start = perf_counter()
        for _ in range(count - 1):
            self.call()
        result = self.call()
        self.wait(result)
        del result
        return (perf_counter() - start) / count


class Effort(NamedTuple):
    """How long to measure: rounds until `seconds` have passed, within the two limits."""

    seconds: float = 4.0
    least: int = 7
    most: int = 200
    block: float = 2e-3  # seconds of a side in a round, for the clock's sake


def interleaved(calls: Mapping[Name, Timed], effort: Effort) -> dict[Name, list[float]]:
    """Time each call once a round, in turns and back again: the seconds of one, each round."""
    counts = {}
    for name, timed in calls.items():
        timed.block(1)  # compiles, starts threads
        fastest = min(timed.block(1) for _ in range(2))
        counts[name] = max(1, math.ceil(effort.block / max(fastest, 1e-9)))
    times: dict[Name, list[float]] = {name: [] for name in calls}
    order = list(calls)
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        for done in range(effort.most):
            if done >= effort.least and perf_counter() - start >= effort.seconds:
                break
            for name in order:
                times[name].append(calls[name].block(counts[name]))
            order.reverse()
    finally:
        gc.enable()
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "q1": q1, "q3": q3}


def ratio(ours: list[float], peer: list[float]) -> dict[str, float]:
    """Compare two series: the ratio of their medians, and the quartiles of the rounds' ratios."""
    rounds = spread([a / b for a, b in zip(ours, peer, strict=True)])
    found = spread(ours)["median"] / spread(peer)["median"]
    return {"ratio": found, "ratio_q1": rounds["q1"], "ratio_q3": rounds["q3"]}
