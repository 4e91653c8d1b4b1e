"""CuPy: NumPy's interface on CUDA and ROCm devices."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from xp_xent.backends import _blocks
from xp_xent.backends._base import Adapter, Array, Backend
from xp_xent.backends._cupy_kernels import Kernels
from xp_xent.backends._row_sums import ExpSums


class CuPy(Adapter):
    name = "cupy"
    packages = ("cupy",)
    module = "array_api_compat.cupy"
    differentiable = False

    def __init__(self) -> None:
        super().__init__()
        self._kernels = Kernels(self.xp)

    def _load(self) -> ModuleType:
        xp = super()._load()
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

    def _not_writable(self, out: Array, others: tuple[Array, ...]) -> str | None:
        if _blocks.folded(out.shape, out.strides):
            return _blocks.FOLDED
        shared = any(self.xp.may_share_memory(out, x) for x in others)
        return _blocks.SHARED if shared else None

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.get()

    # Kernels run on the current device, which need not be that of the arrays.

    def _arange(self, stop: int, like: Array) -> Array:
        with like.device:
            return self.xp.arange(stop)

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        with like.device:
            return self.xp.full(shape, value, dtype=dtype)

    def evaluate(
        self,
        loss: Any,
        ask: Any,
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        with arrays[0].device:
            return loss.run(ask, arrays, options, *more)

    def with_class_axis(self, axis: int) -> Backend:
        # Neighbouring threads take elements in the order of the axes, whatever lies in memory.
        return self._at_axis(axis)

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **how: Any
    ) -> Any:
        return _blocks.walk(self, function, rows, *operands, **how)

    def _sums_alone(self, z: Array, reference: Array, dtype: Any) -> ExpSums | None:
        xp, shape, steps = self.xp, self._rows_shape(z), self._steps(z)
        row_max, others, reference_z, other_sum = (xp.empty(shape, dtype=dtype) for _ in range(4))
        # Of several results CuPy would hand back the first alone, so they are given.
        axis = self.class_axis % z.ndim
        self._kernels.maximum_and_others(z, row_max, others, axis=axis, keepdims=True)
        self._kernels.label_and_other_sum(
            z, reference, row_max, others, *steps, reference_z, other_sum
        )
        return ExpSums(z, reference, row_max, row_max, other_sum, reference_z - row_max)

    def _gradient_again(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        xp, z, label = self.xp, sums.z, sums.reference
        label = label if valid is None else xp.where(valid, label, -1)
        label = xp.astype(label, xp.int64, copy=False)
        of_rows = (self._of_rows(x, z) for x in (sums.row_max, factor, label, entry))
        kernel = self._kernels.gradients[self.class_axis == -1, z.size >= 1 << 32]
        return kernel(z, *of_rows, *self._steps(z), xp.empty_like(z, dtype=dtype))

    def _exp(self, z: Array, level: Array) -> Array:
        return self._kernels.exp_shifted(z, level, self.xp.empty_like(z, dtype=level.dtype))

    def scale_rows(self, x: Array, factor: Any = 1.0, valid: Array | None = None) -> Array:
        if not (isinstance(factor, float) and factor == 1):
            x = self.xp.multiply(x, factor, out=x)
        if valid is not None:
            self._kernels.zero_masked(valid, x)
        return x

    def set_at_label(self, x: Array, index: Array, value: Any) -> Array:
        self._kernels.set_at_label(self._of_rows(index, x), value, *self._steps(x), x)
        return x

    def _rows_shape(self, x: Array) -> tuple[int, ...]:
        shape = list(x.shape)
        shape[self.class_axis] = 1
        return tuple(shape)

    def _of_rows(self, numbers: Array, x: Array) -> Array:
        """Return one number for each row of x; not as another view where they lie so already."""
        shape = self._rows_shape(x)
        return numbers if numbers.shape == shape else self.xp.broadcast_to(numbers, shape)

    def _steps(self, x: Array) -> tuple[int, int]:
        """Return the number of classes, and of the elements from one class to the next."""
        return x.shape[self.class_axis], math.prod(x.shape[x.ndim + self.class_axis + 1 :])


BACKEND = CuPy()
