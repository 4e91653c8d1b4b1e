"""The machine: what it is, and what no loss on it can beat."""

import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from xp_xent import backends
from xp_xent.backends._threads import allowed, each
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, spread
from xp_xent.benchmarks._ways import devices

Array = Any
PACKAGES: Final = "xp_xent numpy torch jax optax cupy-cuda13x cupy-cuda12x liger-kernel".split()
CACHED: Final = 1 << 14  # elements, in the first-level cache or near it


def prepare_libraries(dtype: str) -> None:
    """Set what JAX and dpnp read when they are imported."""
    # JAX would take most of a GPU's memory for itself, and leave its peers too little.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if dtype == "float64":
        os.environ.setdefault("JAX_ENABLE_X64", "1")
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if opencl.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(opencl))


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of what is measured."""
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    return platform.processor() or "unknown"


def describe() -> dict[str, Any]:
    """Describe the processor, the memory, the accelerators and the versions."""
    on_gpu = [name for name in ("cupy", "jax", "torch") if "gpu" in devices(name)]
    named = {name: ", ".join(map(str, backends.get(name).devices())) for name in on_gpu}
    if "torch" in named:
        named["torch"] = sys.modules["torch"].cuda.get_device_name()
    return {
        "processor": _processor(), "system": f"{platform.system()} {platform.release()}",
        "processors": allowed(), "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": round(psutil.getloadavg()[0], 2), "versions": versions(), "devices": named,
    }  # fmt: skip


def host_copy(source: Array, threads: int) -> Timed:
    """Read the logits once, and write a gradient that is in memory already."""
    target = np.full_like(source, 2)  # a page that was never written is not memory yet
    count = max(1, min(threads, source.size >> 18))
    parts = list(zip(np.array_split(target, count), np.array_split(source, count), strict=True))
    return Timed(lambda: each(lambda part: np.copyto(*part), parts, count))


def limits(effort: Effort, megabytes: int) -> list[dict[str, Any]]:
    """Measure bytes a second, read and written, and exps a second in cache, on one processor."""
    source, threads = np.ones(megabytes * 1_000_000 // 4, np.float32), allowed()
    calls = {
        f"memory read and written, threads: {count}": host_copy(source, count)
        for count in dict.fromkeys((1, threads))
    }
    calls["the same to new memory, 1 thread"] = Timed(lambda: np.array(source))
    records: list[dict[str, Any]] = []
    for name, one in interleaved(calls, effort).items():
        speed = 2 * source.nbytes / spread(one)["median"]
        records.append({"limit": name, "bytes_per_second": speed})
    cached = {dtype: np.linspace(-8, 0, CACHED).astype(dtype) for dtype in ("float32", "float64")}
    calls = {name: Timed(partial(np.exp, x, out=np.empty_like(x))) for name, x in cached.items()}
    for dtype, one in interleaved(calls, effort._replace(seconds=min(effort.seconds, 1.0))).items():
        about = {"limit": f"exp in cache, {dtype}, 1 thread", "dtype": dtype, "threads": threads}
        records.append(about | {"exp_per_second": CACHED / spread(one)["median"]})
    return records
