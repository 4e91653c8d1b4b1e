"""How time and memory grow: with the rows, with the classes, with the threads, beyond 2^31."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import numpy as np

import xp_xent
from xp_xent.benchmarks import _memory
from xp_xent.benchmarks._machine import processors
from xp_xent.benchmarks._shapes import Shape, problem
from xp_xent.benchmarks._table import Case, Place, compare, line, peers
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, spread
from xp_xent.benchmarks._ways import WAYS

Record = dict[str, Any]
CLASSES: Final = 1000  # while the rows grow
ROWS: Final = 64  # while the classes grow
FIRST, FIRST_MEMORY = 10**3, 10**6  # elements; less memory drowns in what a process does anyway


def curve_shapes(curve: str, largest: int) -> list[Shape]:
    """List a shape for each power of ten elements."""
    powers = range(round(math.log10(FIRST)), math.floor(math.log10(largest) + 1e-9) + 1)
    if curve == "rows":
        return [Shape((10**power // CLASSES, CLASSES)) for power in powers]
    return [Shape((ROWS, round(10**power / ROWS))) for power in powers]


def point(
    curve: str, case: Case, place: Place, shape: Shape, dtype: str, effort: Effort, memory: bool
) -> Record:
    """Measure one point of a curve: time, and from a million elements on the memory."""
    ours, others = WAYS[case.ours], peers(case, place)[:1]
    record = compare(problem(shape, dtype), ours, others, place, effort)
    if memory and shape.elements >= FIRST_MEMORY and _memory.can_measure(place):
        for one in (record["ours"], *record["peers"]):
            way = WAYS[one["name"]]
            here = Place(way.library, place.kind)
            one["bytes"] = _memory.extra_bytes(way, here, shape, dtype, "both")
    return {"curve": curve, "case": case.name, "line": line(case, place)} | record


def by_threads(shape: Shape, dtype: str, effort: Effort) -> Record:
    """Time NumPy's loss and gradient, and PyTorch's, on 1, 2, … threads in turns."""
    given, counts = problem(shape, dtype), _counts(processors())
    ours = WAYS["xp_xent, NumPy"].ready(given, None)
    threads = getattr(xp_xent, "threads", lambda count: nullcontext())

    def limited(count: int) -> None:
        with threads(count):
            ours.both()

    calls = {f"xp_xent, NumPy/{count}": Timed(partial(limited, count)) for count in counts}
    restore: Callable[[], None] = lambda: None  # noqa: E731
    if WAYS["PyTorch"].missing() is None:
        import torch

        peer, before = WAYS["PyTorch"].ready(given, "cpu"), torch.get_num_threads()

        def restore() -> None:
            torch.set_num_threads(before)

        def peers_limited(count: int) -> None:
            torch.set_num_threads(count)
            peer.both()

        calls |= {f"PyTorch/{count}": Timed(partial(peers_limited, count)) for count in counts}
    try:
        times = interleaved(calls, effort)
    finally:
        restore()
    found: dict[str, dict[str, Any]] = {}
    for name, one in times.items():
        who, _, count = name.partition("/")
        found.setdefault(who, {})[count] = spread(one)
    return {"shape": shape.name, "elements": shape.elements, "dtype": dtype, "seconds": found}


def _counts(most: int) -> list[int]:
    """Count 1, 2, 4, … up to the processors, and those."""
    return sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})


class Anonymous:
    """The process's memory without the files that it maps, sampled while something runs."""

    def __init__(self) -> None:
        self.stop, self.peak, self.before = Event(), 0, self._now()
        self.thread = Thread(target=self._watch, daemon=True)

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status")
        return _memory.resident("RssAnon") if status.exists() else 0

    def _watch(self) -> None:
        while not self.stop.wait(0.001):
            self.peak = max(self.peak, self._now() - self.before)

    def __enter__(self) -> Anonymous:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def large(folder: Path, shape: Shape) -> Record:
    """Take the loss of a file of float16 logits, and compare every row with a small batch's.

    Raises
    ------
    ArithmeticError
        A row far into the file has another loss than the same row at its beginning.
    """
    rows, classes = shape.sizes
    given = problem(Shape((min(rows, 64), classes)), "float16")
    (block,), period = given.floats, len(given.labels)
    block = block.astype(np.float16)
    path = folder / "logits.float16"
    try:
        logits = np.memmap(path, np.float16, "w+", shape=shape.sizes)
        for start in range(0, rows, period):
            logits[start : start + period] = block[: rows - start]
        logits.flush()
        labels = np.resize(given.labels, rows)
        expected = np.resize(xp_xent.cross_entropy(block, given.labels, reduction="none"), rows)
        _memory.give_back()
        with Anonymous() as memory:
            start_time = time.perf_counter()
            found = xp_xent.cross_entropy(logits, labels, reduction="none")
            seconds = time.perf_counter() - start_time
        del logits
    finally:
        path.unlink(missing_ok=True)
    if not np.array_equal(found, expected):
        wrong = np.flatnonzero(found != expected)
        raise ArithmeticError(f"{len(wrong)} rows differ, the first is {wrong[0]}")
    return {
        "shape": shape.name, "elements": shape.elements, "dtype": "float16", "seconds": seconds,
        "file_bytes": 2 * shape.elements, "bytes": memory.peak,
    }  # fmt: skip
