"""dpnp: NumPy's interface on SYCL devices; explicit queues, no implicit conversion."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from xp_xent.backends import _blocks
from xp_xent.backends._base import Array, Backend


class Dpnp(Backend):
    name = "dpnp"
    roots = ("dpnp",)
    module = "dpnp"
    differentiable = False

    def load(self) -> ModuleType:
        xp = super().load()
        try:
            xp.empty(0)
        except Exception as error:
            raise ImportError(f"dpnp is installed, but has no device: {error}") from error
        return xp

    def scan(
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

        return super().scan(waited, totals, arrays, size)

    def exp_shifted(self, x: Array, shift: Array) -> Array:
        shifted = self.xp.subtract(x, shift)
        return self.xp.exp(shifted, out=shifted)

    def multiply_(self, x: Array, factor: Array) -> Array:
        return self.xp.multiply(x, factor, out=x)

    def put_(self, x: Array, index: Array, value: Array) -> Array:
        self.xp.put_along_axis(x, index, value, axis=self.axis)
        return x

    def blank_(self, x: Array, counted: Array) -> Array:
        return self.xp.where(counted, x, 0.0, out=x)

    def streams(self, rows: Array) -> bool:
        return True

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return _blocks.walk(self, self._paced(function), rows, operands)

    def blockwise_(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return _blocks.walk(self, self._paced(function), rows, operands, over=True)

    def _paced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # What is queued keeps its temporaries. (Not a barrier's event: to submit one with the
        # interpreter's lock held can lock up with the queue's own host tasks, which want it.)
        def paced(rows: Array, *operands: Array | None) -> Any:
            self.synchronize(rows)
            return function(rows, *operands)

        return paced

    def synchronize(self, array: Array) -> None:
        array.sycl_queue.wait()

    def float_dtypes(self) -> tuple[str, ...]:
        known = self.xp.__array_namespace_info__().dtypes(kind="real floating")
        half = ("float16",) if self.xp.empty(0).sycl_device.has_aspect_fp16 else ()
        return (*half, *sorted(known))

    def to_numpy(self, array: Array) -> np.ndarray:
        return self.xp.asnumpy(array)


BACKEND = Dpnp()
