"""Peak memory of one call beyond what was there before.

On the host, in a process of its own, the kernel is asked to forget the process's highest resident
size, and then for the new one: pages that a library reserves but never touches do not count, pages
of its threads and temporaries do. On a device its library's own statistics tell, and beside a file
of more than 2^31 elements, which is resident as well, Python's of what NumPy allocates.
"""

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xp_xent
from xp_xent.benchmarks._machine import prepare_libraries
from xp_xent.benchmarks._shapes import Shape, problem
from xp_xent.benchmarks._ways import WAYS, Way, devices

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM = Shape((8, 10))


def can_measure(kind: str) -> bool:
    """Tell whether this system, or the device's library, knows a peak that can be reset."""
    return kind != "cpu" or _CLEAR.exists()


def extra_bytes(
    way: Way, kind: str, shape: Shape, dtype: str, what: str, width: int | None = None
) -> int:
    """Measure one call in a fresh process: bytes, the results with them.

    `what` is "both" loss and gradient or the "loss" alone, `width` that of a layer's features.
    """
    asked = json.dumps([way.name, kind, shape.name, dtype, what, width])
    command = [sys.executable, "-P", "-m", __name__, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"{way.name}, {shape.name}: {last}")
    return int(done.stdout.split()[-1])


def resident(field: str) -> int:
    """Read a number of bytes that the kernel counts of this process."""
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def give_back() -> None:
    """Return what the allocator keeps of freed memory, so that its reuse is seen."""
    gc.collect()
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # glibc has it


def measure(
    name: str, kind: str, shape: str, dtype: str, what: str, width: int | None = None
) -> int:
    """Make one call, and return the bytes that it took at its peak."""
    prepare_libraries(dtype)
    way = WAYS[name]
    warm = way.ready(problem(WARM, dtype, width), kind)
    for call in (warm.loss, warm.both):  # imports, threads, code
        warm.wait(call())
    ready = way.ready(problem(Shape.parse(shape), dtype, width), kind)
    call = getattr(ready, what)
    if way.how in ("compiled", "jit"):
        ready.wait(call())  # the compiler's own memory is not the loss's
    give_back()
    if kind != "cpu":
        device = devices(way.library)[kind]
        return _on_device(way.library, device, lambda: ready.wait(call()))
    before = resident("VmRSS")
    _CLEAR.write_text("5")
    result = call()
    ready.wait(result)
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


def _on_device(library: str, device: Any, call: Callable[[], None]) -> int:
    if library == "torch":
        import torch

        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        call()
        return torch.accelerator.max_memory_allocated() - before
    if library == "jax":
        before = device.memory_stats()["bytes_in_use"]
        call()
        return device.memory_stats()["peak_bytes_in_use"] - before
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    call()
    return pool.total_bytes() - before  # it keeps what was freed


def large(folder: Path, shape: Shape) -> list[dict[str, Any]]:
    """Take the loss of a file of float16 logits, and compare each row with a small batch's."""
    rows, classes = shape.sizes
    given = problem(Shape((min(rows, 64), classes)), "float16")
    block, period = given.floats[0].astype(np.float16), len(given.labels)
    with tempfile.TemporaryFile(dir=folder) as file:
        logits = np.memmap(file, np.float16, "w+", shape=shape.sizes)
        for start in range(0, rows, period):
            logits[start : start + period] = block[: rows - start]
        logits.flush()
        labels = np.resize(given.labels, rows)
        expected = np.resize(xp_xent.cross_entropy(block, given.labels, reduction="none"), rows)
        tracemalloc.start()
        begin = time.perf_counter()
        found = xp_xent.cross_entropy(logits, labels, reduction="none")
        seconds = time.perf_counter() - begin
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)
    return [{"shape": shape.name, "elements": shape.elements, "seconds": seconds,
             "file_bytes": 2 * shape.elements, "bytes": peak}]  # fmt: skip


if __name__ == "__main__":
    print(measure(*json.loads(sys.argv[1])))
