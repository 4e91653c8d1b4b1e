"""What is installed here, and what works: each library is asked for a loss and its derivatives."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import xp_xent
from xp_xent import backends
from xp_xent.backends import Adapter

# Adapter -> the extra of this package that installs its library.
EXTRAS = {
    "numpy": "", "array_api_strict": "strict", "torch": "torch", "jax": "jax", "cupy": "cupy",
    "dpnp": "dpnp", "mlx": "mlx", "dask": "dask", "ndonnx": "onnx",
}  # fmt: skip
WORKS = ("loss", "gradient", "curvature")
LOGITS = np.asarray([[2.0, 1.0, -0.5], [0.5, 2.5, 0.25], [4.0, -8.0, 0.0]])
LABELS = np.asarray([0, 1, 1])
VECTOR = np.asarray([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 2.0, 1.0]])


@dataclass(frozen=True)
class Place:
    """What one dtype on one device does.

    Parameters
    ----------
    device, dtype : str
    works : tuple of str
        Of "loss", "gradient" and "curvature".
    problem : str
        What the first that does not work said, or its wrong number; empty where all do.
    """

    device: str
    dtype: str
    works: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """One array library: whether it is here, and what it does."""

    name: str
    version: str | None
    usable: bool
    places: tuple[Place, ...] = ()
    missing: tuple[str, ...] = field(default=())

    @property
    def fails(self) -> bool:
        """Whether a loss cannot be had of what the library offers."""
        return any("loss" not in place.works for place in self.places)


def names() -> tuple[str, ...]:
    """Name the backends that this package has and those that others registered."""
    registered = [point.name for point in metadata.entry_points(group="xp_xent.backends")]
    return tuple(dict.fromkeys([*EXTRAS, *registered]))


def look(name: str) -> Found:
    """Find out what a library does here; this imports it."""
    extra = EXTRAS.get(name, "")
    if name in EXTRAS and find_spec(name) is None:
        return Found(name, None, False, missing=(f'pip install "xp_xent[{extra}]"',))
    try:
        backend = backends.get(name)
    except Exception as error:  # noqa: BLE001  (an adapter of somebody else's may raise anything)
        return Found(name, _version(name), False, missing=(*_unusable(name, error),))
    version = getattr(backend.xp, "__version__", None) or _version(name)
    tried = (
        _tried(backend, device, dtype)
        for device in backend.devices()
        for dtype in backend.float_dtypes()
    )
    places = tuple(place for place in tried if place is not None)
    return Found(name, version, True, places, tuple(_further(backend)))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _unusable(name: str, error: Exception) -> list[str]:
    """Say why a library that is installed cannot be used, and what would help."""
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if name == "dpnp" and opencl.exists() and "OCL_ICD_FILENAMES" not in os.environ:
        return [f"a device: export OCL_ICD_FILENAMES={opencl}"]
    return [" ".join(str(error).split())]


def _further(backend: Adapter) -> list[str]:
    """Say what would make a dtype or a device work that does not."""
    found, dtypes = [], backend.float_dtypes()
    if backend.name == "numpy" and "bfloat16" not in dtypes:
        found.append("bfloat16: pip install ml_dtypes")
    if backend.name == "jax" and "float64" not in dtypes:
        found.append("float64: export JAX_ENABLE_X64=1 before JAX is imported")
    if backend.name == "torch" and len(backend.devices()) == 1:
        found.append("an accelerator: a build of PyTorch for it, and its driver")
    return found


def _tried(backend: Adapter, device: Any, dtype: str) -> Place | None:
    """Ask for everything there; None where the device has no such dtype."""
    try:
        there = backend.asarray(LOGITS, dtype=dtype, device=device)
    except Exception:  # noqa: BLE001  (each library refuses in its own way)
        return None
    works: list[str] = []
    problem = ""
    for what, ask in zip(WORKS, (_loss, _gradient, _curvature), strict=True):
        try:
            problem = _judged(backend, device, dtype, ask)
        except Exception as error:  # noqa: BLE001  (whatever a library raises is the answer)
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if problem:
            problem = f"{what}: {problem}"
            break
        works.append(what)
    return Place(_name(device, getattr(there, "device", device)), dtype, tuple(works), problem)


def _name(device: Any, shown: Any) -> str:
    """Give a device's own name, or what stands inside ``Device(...)`` where it shows that."""
    if "<" not in str(device) and "(" not in str(device):
        return str(device)
    inside = re.search(r"\(['\"]?(.*?)['\"]?\)", str(shown))
    return inside[1] if inside else type(shown).__name__ if "<" in str(shown) else str(shown)


def _judged(backend: Adapter, device: Any, dtype: str, ask: Callable[..., Any]) -> str:
    logits, vector = (backend.asarray(x, dtype=dtype, device=device) for x in (LOGITS, VECTOR))
    labels = backend.asarray(LABELS, dtype="int32", device=device)
    got = np.asarray(backend.to_numpy(ask(logits, labels, vector)), dtype=np.float64)
    right = ask(LOGITS, LABELS, VECTOR)
    # All logits here are exact in every dtype, so what is off is arithmetic.
    eps = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}.get(dtype, 2.0**-52)
    if np.allclose(got, right, rtol=16 * eps, atol=16 * eps):
        return ""
    return f"got {got.ravel()[0]:.9g} …, wanted {np.ravel(right)[0]:.9g} …"


def _loss(logits: Any, labels: Any, vector: Any) -> Any:
    return xp_xent.cross_entropy(logits, labels)


def _gradient(logits: Any, labels: Any, vector: Any) -> Any:
    return xp_xent.value_and_grad(xp_xent.cross_entropy)(logits, labels)[1]


def _curvature(logits: Any, labels: Any, vector: Any) -> Any:
    return xp_xent.hvp(xp_xent.cross_entropy)(logits, labels, vector)
