"""CuPy: NumPy's interface on CUDA and ROCm devices."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from xp_xent.backends import _blocks
from xp_xent.backends._base import Array, Backend
from xp_xent.backends._cupy_kernels import Kernels


class CuPy(Backend):
    name = "cupy"
    roots = ("cupy",)
    module = "array_api_compat.cupy"
    differentiable = False

    def __init__(self) -> None:
        super().__init__()
        self._kernels = Kernels(self.xp)

    def load(self) -> ModuleType:
        xp = super().load()
        try:
            xp.cuda.runtime.getDeviceCount()
        except xp.cuda.runtime.CUDARuntimeError as error:
            raise ImportError(f"CuPy is installed, but has no device: {error}") from error
        return xp

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

    # Kernels run on the current device, which need not be that of the arrays.

    def value(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Array:
        with arrays[0].device:
            return super().value(build, arrays, options)

    def closed_form(
        self,
        build: Callable[..., Any],
        ask: Callable[..., Any],
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        with arrays[0].device:
            return super().closed_form(build, ask, arrays, options, *more)

    def along(self, axis: int) -> Backend:
        # Neighbouring threads take elements in the order of the axes, whatever lies in memory.
        return self.at(axis)

    def streams(self, rows: Array) -> bool:
        return True

    def sums(self, z: Array, label: Array, dtype: Any) -> tuple[Array, Array, Array]:
        xp, shape = self.xp, self._rows_shape(z)
        top, others, own, rest = (xp.empty(shape, dtype=dtype) for _ in range(4))
        # Of several results CuPy would hand back the first alone, so they are given.
        self._kernels.maximum_and_others(z, top, others, axis=self.axis % z.ndim, keepdims=True)
        self._kernels.label_and_rest(z, label, top, others, *self._steps(z), own, rest)
        return top, rest, own

    def gradient(
        self,
        z: Array,
        shift: Array,
        factor: Array,
        label: Array,
        entry: Array,
        counted: Array | None,
    ) -> Array:
        xp = self.xp
        label = label if counted is None else xp.where(counted, label, -1)
        label = xp.astype(label, xp.int64, copy=False)
        of_rows = (self._of_rows(x, z) for x in (shift, factor, label, entry))
        kernel = self._kernels.gradients[self.axis == -1, z.size >= 1 << 32]
        return kernel(z, *of_rows, *self._steps(z), xp.empty_like(z))

    def exp_shifted(self, x: Array, shift: Array) -> Array:
        return self._kernels.exp_shifted(x, shift, self.xp.empty_like(x, dtype=shift.dtype))

    def multiply_(self, x: Array, factor: Array) -> Array:
        return self.xp.multiply(x, factor, out=x)

    def put_(self, x: Array, index: Array, value: Array) -> Array:
        self._kernels.put(self._of_rows(index, x), value, *self._steps(x), x)
        return x

    def blank_(self, x: Array, counted: Array) -> Array:
        self._kernels.blank(counted, x)
        return x

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return _blocks.walk(self, function, rows, operands)

    def blockwise_(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return _blocks.walk(self, function, rows, operands, over=True)

    def _rows_shape(self, x: Array) -> tuple[int, ...]:
        shape = list(x.shape)
        shape[self.axis] = 1
        return tuple(shape)

    def _of_rows(self, numbers: Array, x: Array) -> Array:
        """Give one number to each row of x; not as another view where they lie so already."""
        shape = self._rows_shape(x)
        return numbers if numbers.shape == shape else self.xp.broadcast_to(numbers, shape)

    def _steps(self, x: Array) -> tuple[int, int]:
        """Give the number of classes, and of the elements from one class to the next."""
        return x.shape[self.axis], math.prod(x.shape[x.ndim + self.axis + 1 :])


BACKEND = CuPy()
