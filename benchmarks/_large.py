"""A file of more than 2^31 elements: its loss, and the memory beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

import xp_xent
from xp_xent.benchmarks import _memory
from xp_xent.benchmarks._shapes import Shape, problem


@contextmanager
def anonymous_memory() -> Iterator[list[int]]:
    """Sample the process's memory, without the files that it maps, while something runs."""
    stop, found = Event(), [0]

    def watch() -> None:
        before = _memory.resident("RssAnon")
        while not stop.wait(0.001):
            found.append(_memory.resident("RssAnon") - before)

    thread = Thread(target=watch, daemon=True)
    if Path("/proc/self/status").exists():
        thread.start()
    yield found
    stop.set()
    if thread.ident:
        thread.join()


def large(folder: Path, shape: Shape) -> list[dict[str, Any]]:
    """Take the loss of a file of float16 logits, and compare each row with a small batch's."""
    rows, classes = shape.sizes
    given = problem(Shape((min(rows, 64), classes)), "float16")
    block, period = given.floats[0].astype(np.float16), len(given.labels)
    path = folder / "logits.float16"
    try:
        logits = np.memmap(path, np.float16, "w+", shape=shape.sizes)
        for start in range(0, rows, period):
            logits[start : start + period] = block[: rows - start]
        logits.flush()
        labels = np.resize(given.labels, rows)
        expected = np.resize(xp_xent.cross_entropy(block, given.labels, reduction="none"), rows)
        _memory.give_back()
        with anonymous_memory() as memory:
            start_time = time.perf_counter()
            found = xp_xent.cross_entropy(logits, labels, reduction="none")
            seconds = time.perf_counter() - start_time
        del logits
    finally:
        path.unlink(missing_ok=True)
    if not np.array_equal(found, expected):
        wrong = np.flatnonzero(found != expected)
        raise ArithmeticError(f"{len(wrong)} rows differ, the first is {wrong[0]}")
    file_bytes = 2 * shape.elements
    return [{"shape": shape.name, "elements": shape.elements, "seconds": seconds,
             "file_bytes": file_bytes, "bytes": max(memory)}]  # fmt: skip
