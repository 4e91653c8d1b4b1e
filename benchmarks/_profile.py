"""Where a call's time goes, function by function."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path
from typing import Any, Final

import xp_xent
from xp_xent.benchmarks._ways import Ready, Way

TOP: Final = 8


def profile(way: Way, ready: Ready, calls: int) -> list[dict[str, Any]]:
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
    return [
        # What is built in has no file.
        (name if file == "~" else f"{Path(file).stem}.{name}", own, count)
        for (file, _, name), (_, count, own, _, _) in stats.stats.items()
    ]


def _operators(ready: Ready, calls: int) -> list[tuple[str, float, int]]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(calls):
            ready.both()
    return [(e.key, e.self_cpu_time_total * 1e-6, e.count) for e in seen.key_averages()]
