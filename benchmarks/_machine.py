"""The machine: what it is, and what no loss on it can beat."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np

from xp_xent import backends
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, spread

Array = Any
PACKAGES: Final = (
    "xp_xent", "numpy", "torch", "jax", "optax", "cupy-cuda13x", "cupy-cuda12x", "liger-kernel",
)  # fmt: skip
CACHED: Final = 1 << 14  # elements, in the first-level cache or near it


def processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _field(path: str, name: str) -> str | None:
    """Read a line ``name: value`` of a file of the kernel's."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in found if key.strip() == name), None)


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
    """Name what is measured."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load() -> float | None:
    """Give the mean number of busy processors in the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe() -> dict[str, Any]:
    """Describe the processor, the memory, the devices and the versions."""
    memory = _field("/proc/meminfo", "MemTotal")
    about: dict[str, Any] = {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": processors(),
        "memory_gb": round(int(memory.split()[0]) * 1024 / 1e9, 1) if memory else None,
        "load": load(),
        "versions": versions(),
        "devices": {},
    }
    installed = backends.installed()
    if "torch" in installed:
        import torch

        about["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            about["devices"]["torch"] = torch.cuda.get_device_name()
    for name in ("jax", "cupy"):
        if name in installed:
            found = [str(device) for device in backends.get(name).devices()]
            if not all("cpu" in device.lower() for device in found):
                about["devices"][name] = ", ".join(found)
    return about


class HostCopy:
    """One read of the logits and one write of a gradient that is in memory already."""

    def __init__(self, source: Array, threads: int) -> None:
        flat = source.reshape(-1)
        target = np.zeros_like(flat)
        # A page of zeros that was never written is not memory yet.
        target[...] = flat
        step = max(1 << 18, math.ceil(flat.size / threads))
        self.parts = [
            (target[start : start + step], flat[start : start + step])
            for start in range(0, flat.size, step)
        ]
        self.pool = ThreadPoolExecutor(threads) if len(self.parts) > 1 else None

    def __call__(self) -> None:
        if self.pool is None:
            for target, source in self.parts:
                np.copyto(target, source)
        else:
            list(self.pool.map(lambda part: np.copyto(*part), self.parts))

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown()


def device_copy(library: str, source: Array) -> Callable[[], Array]:
    """Copy a device's array on the device."""
    if library == "torch":
        source, target = source.detach(), source.detach().clone()
        return lambda: target.copy_(source)
    if library == "cupy":
        import cupy

        target = cupy.array(source)

        def copy() -> Array:
            cupy.copyto(target, source)
            return target

        return copy
    import jax.numpy as jnp

    return lambda: jnp.copy(source)


def limits(effort: Effort, megabytes: int) -> dict[str, Any]:
    """Measure what the host's memory and one exp an element allow.

    Returns
    -------
    dict
        Bytes a second read and written, into memory that is in use and into memory that the system
        has to hand out first; seconds of one exp in cache on one processor, by dtype.
    """
    source = np.ones(megabytes * 1_000_000 // 4, np.float32)
    threads = processors()
    copies = {"copy_1_thread": HostCopy(source, 1), "copy": HostCopy(source, threads)}
    calls = {name: Timed(copy) for name, copy in copies.items()}
    calls["copy_to_new_memory"] = Timed(lambda: np.array(source))
    times = interleaved(calls, effort)
    for copy in copies.values():
        copy.close()
    found: dict[str, Any] = {
        f"{name}_bytes_per_second": 2 * source.nbytes / spread(one)["median"]
        for name, one in times.items()
    }
    cached = {dtype: np.linspace(-8, 0, CACHED).astype(dtype) for dtype in ("float32", "float64")}
    calls = {name: Timed(partial(np.exp, x, out=np.empty_like(x))) for name, x in cached.items()}
    exps = interleaved(calls, Effort(min(effort.seconds, 1.0), effort.least, effort.most))
    found["exp_seconds"] = {name: spread(one)["median"] / CACHED for name, one in exps.items()}
    return found | {"threads": threads, "megabytes": megabytes}
