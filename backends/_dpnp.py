"""dpnp: NumPy's interface on SYCL devices; explicit queues, no implicit conversion."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from xp_xent.backends import _blocks
from xp_xent.backends._base import Adapter, Array
from xp_xent.backends._row_sums import ExpSums


class Dpnp(Adapter):
    name = "dpnp"
    packages = ("dpnp",)
    module = "dpnp"
    differentiable = False

    def _load(self) -> ModuleType:
        xp = super()._load()
        try:
            xp.empty(0)
        except Exception as error:
            raise ImportError(f"dpnp is installed, but has no device: {error}") from error
        return xp

    def map_steps(
        self,
        step: Callable[..., tuple[Any, tuple[Array, ...]]],
        totals: Any,
        arrays: tuple[Array, ...],
        size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        # Steps in the queue would hold the logits whole; and matrix products that wait for one
        # another can lock up a CPU's queue.
        def waited(totals: Any, *parts: Array) -> tuple[Any, tuple[Array, ...]]:
            self.synchronize(parts[0])
            return step(totals, *parts)

        return super().map_steps(waited, totals, arrays, size)

    def scale_rows(self, x: Array, factor: Any = 1.0, valid: Array | None = None) -> Array:
        if not (isinstance(factor, float) and factor == 1):
            x = self.xp.multiply(x, factor, out=x)
        return x if valid is None else self.xp.where(valid, x, 0.0, out=x)

    def set_at_label(self, x: Array, index: Array, value: Any) -> Array:
        self.xp.put_along_axis(x, index, value, axis=self.class_axis)
        return x

    def _sums_alone(self, z: Array, reference: Array, dtype: Any) -> ExpSums | None:
        return _blocks.exp_sums(self, z, reference, dtype)

    def _gradient_again(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        return _blocks.exp_gradient(self, sums, factor, entry, valid, dtype)

    def _exp(self, z: Array, level: Array | float) -> Array:
        shifted = self.xp.subtract(z, level)
        return self.xp.exp(shifted, out=shifted)

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **how: bool
    ) -> Any:
        # What is queued keeps its temporaries. (Not a barrier's event: to submit one with the
        # interpreter's lock held can lock up with the queue's own host tasks, which want it.)
        def paced(rows: Array, *operands: Array | None) -> Any:
            self.synchronize(rows)
            return function(rows, *operands)

        return _blocks.walk(self, paced, rows, *operands, **how)

    def synchronize(self, array: Array) -> None:
        array.sycl_queue.wait()

    def float_dtypes(self) -> tuple[str, ...]:
        known = self.xp.__array_namespace_info__().dtypes(kind="real floating")
        half = ("float16",) if self.xp.empty(0).sycl_device.has_aspect_fp16 else ()
        return (*half, *sorted(known))

    def to_numpy(self, array: Array) -> np.ndarray:
        return self.xp.asnumpy(array)


BACKEND = Dpnp()
