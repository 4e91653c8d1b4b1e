"""Where a call's time goes, function by function."""

from __future__ import annotations

import cProfile
import os
import pstats
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import xp_xent
from xp_xent.benchmarks._ways import Ready, Way

TOP: Final = 8
CALLS: Final = 50  # of a call that takes microseconds
Entry = dict[str, Any]


def profile(way: Way, ready: Ready, calls: int = 1) -> list[Entry]:
    """List the functions in which loss and gradient spend most of their own time.

    Returns
    -------
    list of dict
        ``function``, ``calls`` of it in one loss and gradient, and its ``share`` of the time, the
        largest first. What PyTorch compiled is timed by its own profiler, operator by operator;
        everything else by Python's, on one thread.
    """
    ready.wait(ready.both())
    if way.how == "compiled":
        found = _of_operators(ready.both, calls)
    else:
        found = _of_functions(ready.both, calls)
    total = sum(seconds for _, seconds, _ in found)
    return [
        {"function": name, "calls": count / calls, "share": seconds / total}
        for name, seconds, count in sorted(found, key=lambda one: -one[1])[:TOP]
    ]


def _of_functions(call: Callable[[], Any], calls: int) -> list[tuple[str, float, int]]:
    one_thread = getattr(xp_xent, "threads", lambda count: nullcontext())
    profiler = cProfile.Profile()
    with one_thread(1):
        profiler.enable()
        for _ in range(calls):
            call()
        profiler.disable()
    stats: Any = pstats.Stats(profiler)
    return [(_function(*where), own, count) for where, (_, count, own, _, _) in stats.stats.items()]


def _function(file: str, line: int, name: str) -> str:
    """Name a function as a reader would; what is built in has no file."""
    return name if file == "~" else f"{Path(file).stem}.{name}"


def _of_operators(call: Callable[[], Any], calls: int) -> list[tuple[str, float, int]]:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    with _silent(), watch(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(calls):
            call()
    return [
        (event.key, event.self_cpu_time_total * 1e-6, event.count) for event in seen.key_averages()
    ]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the profiler's own chatter, which comes from C++, out of the progress bar."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
