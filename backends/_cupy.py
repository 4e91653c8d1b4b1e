"""CuPy: NumPy's interface on CUDA and ROCm devices."""

from types import ModuleType
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend


class CuPy(Backend):
    name = "cupy"
    roots = ("cupy",)
    module = "array_api_compat.cupy"
    differentiable = False

    def load(self) -> ModuleType:
        xp = super().load()
        try:
            xp.cuda.runtime.getDeviceCount()
        except xp.cuda.runtime.CUDARuntimeError as error:
            raise ImportError(f"CuPy is installed, but has no device: {error}") from error
        return xp

    def device(self, array: Array) -> Any:
        return array.device

    def devices(self) -> tuple[Any, ...]:
        return tuple(range(self.xp.cuda.runtime.getDeviceCount()))

    def synchronize(self, array: Array) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def float_dtypes(self) -> tuple[str, ...]:
        return ("float16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        with self.xp.cuda.Device(device):
            return self.xp.asarray(np.asarray(host, dtype=dtype))

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.get()

    def arange(self, stop: int, like: Array) -> Array:
        with like.device:
            return self.xp.arange(stop)

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        with like.device:
            return self.xp.full(shape, value, dtype=dtype)


BACKEND = CuPy()
