"""Peak memory of one call beyond what was there before, in a process of its own.

On the host the kernel is asked to forget the process's highest resident size, and then for the
new one: pages that a library reserves but never touches do not count, pages of its threads and
temporaries do. On a device its library's own statistics tell.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from xp_xent.benchmarks._lines import device_of
from xp_xent.benchmarks._machine import prepare_libraries
from xp_xent.benchmarks._shapes import Shape, problem
from xp_xent.benchmarks._ways import WAYS, Way

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM = Shape((8, 10))


def can_measure(kind: str) -> bool:
    """Tell whether this system, or the device's library, knows a peak that can be reset."""
    return kind != "cpu" or _CLEAR.exists()


def extra_bytes(
    way: Way, kind: str, shape: Shape, dtype: str, what: str, width: int | None = None
) -> int:
    """Measure one call in a fresh process: bytes, the results with them.

    `kind` is that of the device, `what` "both" loss and gradient or the "loss" alone, `width` that
    of a linear layer's features. RuntimeError has the last words of a process that failed.
    """
    asked = json.dumps([way.name, kind, shape.option, dtype, what, width])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", __name__, asked]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
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
    name = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if trim is not None:
        trim(0)


def measure(
    name: str, kind: str, shape: str, dtype: str, what: str, width: int | None = None
) -> int:
    """Make one call, and return the bytes that it took at its peak."""
    prepare_libraries(dtype)
    way = WAYS[name]
    device = device_of(way.library, kind)
    warm = way.ready(problem(WARM, dtype, width), device)
    for call in (warm.loss, warm.both):  # imports, threads, code
        warm.wait(call())
    ready = way.ready(problem(Shape.parse(shape), dtype, width), device)
    call = getattr(ready, what)
    if way.how in ("compiled", "jit"):
        ready.wait(call())  # the compiler's own memory is not the loss's
    give_back()
    if kind != "cpu":
        return _on_device(way.library, device, lambda: ready.wait(call()))
    before = resident("VmRSS")
    _CLEAR.write_text("5")
    result = call()
    ready.wait(result)
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


def _on_device(library: str, device: Any, call: Any) -> int:
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

    pool, peak = cupy.get_default_memory_pool(), [0]

    class Watch(cupy.cuda.MemoryHook):
        name = "watch"

        def malloc_postprocess(self, **_: Any) -> None:
            peak.append(pool.used_bytes())

    before = pool.used_bytes()
    with Watch():
        call()
    return max(0, max(peak) - before)


if __name__ == "__main__":
    print(measure(*json.loads(sys.argv[1])))
