"""JAX: the formula through its own transformations, and XLA."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend


class Jax(Backend):
    name = "jax"
    roots = ("jax", "jaxlib")
    module = "jax.numpy"

    def __init__(self) -> None:
        super().__init__()
        import jax

        self.jax = jax

    def refuses(self, array: Array) -> str | None:
        if not isinstance(array, self.jax.Array):
            return f"got {type(array).__name__}, wanted a jax.Array"
        return None

    def device(self, array: Array) -> Any:
        return None if isinstance(array, self.jax.core.Tracer) else array.sharding.device_set

    def devices(self) -> tuple[Any, ...]:
        return tuple(self.jax.devices())

    def is_readable(self, array: Array) -> bool:
        tracer = self.jax.core.Tracer
        return (
            not isinstance(array, tracer)
            and array.is_fully_addressable
            and all(device.platform == "cpu" for device in array.devices())
            # Under jit even an operation on a known array is traced; one tells.
            and not isinstance(self.xp.logical_not(False), tracer)
        )

    def synchronize(self, array: Array) -> None:
        array.block_until_ready()

    def float_dtypes(self) -> tuple[str, ...]:
        double = ("float64",) if self.jax.config.jax_enable_x64 else ()
        return ("float16", "bfloat16", "float32", *double)

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        return self.jax.device_put(self.xp.array(host, dtype=dtype), device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def arange(self, stop: int, like: Array) -> Array:
        return self.xp.arange(stop)  # uncommitted: it follows the arrays it meets

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        return self.xp.full(shape, value, dtype=dtype)

    def scan(
        self,
        step: Callable[..., tuple[Any, tuple[Array, ...]]],
        totals: Any,
        arrays: tuple[Array, ...],
        size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        lax, xp, count = self.jax.lax, self.xp, arrays[0].shape[0]
        if count <= size:
            return step(totals, *arrays)
        walked = [x is not None and x.shape[0] == count for x in arrays]

        # Compiled once whatever the number of steps; differentiated, a step is computed again.
        @self.jax.checkpoint
        def on_rows(totals: Any, parts: list[Array]) -> tuple[Any, tuple[Array, ...]]:
            left = iter(parts)
            return step(
                totals, *(next(left) if w else x for w, x in zip(walked, arrays, strict=True))
            )

        end = count - count % size
        rows = [x for w, x in zip(walked, arrays, strict=True) if w]
        groups = [xp.reshape(x[:end], (-1, size, *x.shape[1:])) for x in rows]
        totals, found = lax.scan(on_rows, totals, groups)
        found = tuple(xp.reshape(x, (end, *x.shape[2:])) for x in found)
        if end == count:
            return totals, found
        totals, rest = on_rows(totals, [x[end:] for x in rows])
        return totals, tuple(xp.concatenate(two) for two in zip(found, rest, strict=True))

    def stop_gradient(self, array: Array) -> Array:
        return self.jax.lax.stop_gradient(array)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.jax.jit(function)


BACKEND = Jax()
