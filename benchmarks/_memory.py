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

from xp_xent.benchmarks._machine import prepare_libraries
from xp_xent.benchmarks._shapes import Problem, Shape, linear_problem, problem
from xp_xent.benchmarks._table import Place
from xp_xent.benchmarks._ways import WAYS, Way

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM = Shape((8, 10))


def can_measure(place: Place) -> bool:
    """Tell whether this system, or the device's library, knows a peak that can be reset."""
    return place.kind != "cpu" or _CLEAR.exists()


def extra_bytes(
    way: Way, place: Place, shape: Shape, dtype: str, what: str, width: int | None = None
) -> int:
    """Measure one call in a fresh process.

    Parameters
    ----------
    way : Way
        Whose loss.
    place : Place
        On which device.
    shape : Shape
        Of the logits.
    dtype : str
        Of the logits.
    what : {"both", "loss"}
        Loss and gradient, or the loss alone.
    width : int, optional
        Of the features, for a linear layer in front of the loss.

    Returns
    -------
    int
        Bytes, the results with them.

    Raises
    ------
    RuntimeError
        The process failed; its last words.
    """
    asked = {
        "way": way.name, "library": place.library, "kind": place.kind, "shape": shape.option,
        "dtype": dtype, "what": what, "width": width,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, json.dumps(asked)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"{way.name}, {shape.name}: {last}")
    return int(done.stdout.split()[-1])


def _given(shape: Shape, dtype: str, width: int | None) -> Problem:
    return problem(shape, dtype) if width is None else linear_problem(shape, width, dtype)


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


def measure(asked: dict[str, Any]) -> int:
    """Make one call, and give the bytes that it took at its peak."""
    prepare_libraries(asked["dtype"])
    way, place = WAYS[asked["way"]], Place(asked["library"], asked["kind"])
    device, shape = place.device(way.library), Shape.parse(asked["shape"])
    warm = way.ready(_given(WARM, asked["dtype"], asked["width"]), device)
    for call in (warm.loss, warm.both):  # imports, threads, code
        warm.wait(call())
    ready = way.ready(_given(shape, asked["dtype"], asked["width"]), device)
    call = getattr(ready, asked["what"])
    if way.how in ("compiled", "jit"):
        ready.wait(call())  # the compiler's own memory is not the loss's
    give_back()
    if place.kind != "cpu":
        return _on_device(way.library, device, ready, call)
    before = resident("VmRSS")
    _CLEAR.write_text("5")
    result = call()
    ready.wait(result)
    peak = resident("VmHWM")
    del result
    return max(0, peak - before)


def _on_device(library: str, device: Any, ready: Any, call: Any) -> int:
    if library == "torch":
        import torch

        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        ready.wait(call())
        return torch.accelerator.max_memory_allocated() - before
    if library == "jax":
        before = device.memory_stats()["bytes_in_use"]
        ready.wait(call())
        return device.memory_stats()["peak_bytes_in_use"] - before
    return _on_cupy(ready, call)


def _on_cupy(ready: Any, call: Any) -> int:
    import cupy

    pool = cupy.get_default_memory_pool()

    class Peak(cupy.cuda.MemoryHook):
        name = "peak"
        bytes = 0

        def malloc_postprocess(self, **_: Any) -> None:
            self.bytes = max(self.bytes, pool.used_bytes())

    before = pool.used_bytes()
    with Peak() as peak:
        ready.wait(call())
    return max(0, int(peak.bytes) - before)


if __name__ == "__main__":
    print(measure(json.loads(sys.argv[1])))
