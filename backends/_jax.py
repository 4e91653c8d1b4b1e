"""JAX: the formula through its own transformations, and XLA."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xp_xent.backends import _split
from xp_xent.backends._base import Adapter, Array, Backend
from xp_xent.backends._jax_sums import FEW, Sums


class Jax(Sums, Adapter):
    name = "jax"
    packages = ("jax", "jaxlib")
    module = "jax.numpy"

    def __init__(self) -> None:
        super().__init__()
        import jax

        from xp_xent.backends import (
            _jax_explicit,
            _jax_functions,
            _jax_plans,
            _jax_stated,
            _jax_varying,
        )

        self.xp = _jax_functions.namespace()
        self.jax, self.stated, self.explicit = jax, _jax_stated, _jax_explicit
        self.varying = _jax_varying
        self.plans = _jax_plans.Plans(self._evaluate, self.can_read_values)

    def with_class_axis(self, axis: int) -> Backend:
        # XLA would write what it transposes, on the way in and on the way out.
        return self._at_axis(axis)

    def unsupported_reason(self, array: Array) -> str | None:
        if not isinstance(array, self.jax.Array):
            return f"got {type(array).__name__}, wanted a jax.Array"
        return None

    def device(self, array: Array) -> Any:
        # Where nobody has placed an array, it goes with those that it meets.
        placed = not isinstance(array, self.jax.core.Tracer) and array.committed
        return array.sharding.device_set if placed else None

    def devices(self) -> tuple[Any, ...]:
        return tuple(self.jax.devices())

    def can_read_values(self, array: Array) -> bool:
        return (
            not isinstance(array, self.jax.core.Tracer)
            and array.is_fully_addressable
            and all(device.platform == "cpu" for device in array.devices())
            and not self._is_staged()
        )

    def _is_staged(self) -> bool:
        # Under jit even an operation on a known array is traced; one tells.
        return isinstance(self.xp.logical_not(False), self.jax.core.Tracer)

    def synchronize(self, array: Array) -> None:
        array.block_until_ready()

    def float_dtypes(self) -> tuple[str, ...]:
        double = ("float64",) if self.jax.config.jax_enable_x64 else ()
        return ("float16", "bfloat16", "float32", *double)

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        return self.jax.device_put(self.xp.array(host, dtype=dtype), device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def evaluate(
        self,
        loss: Any,
        ask: Any,
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        self.varying.refuse_unnamed(loss, arrays)
        mesh = self.explicit.mesh_of(*arrays, *options.values(), *more)
        if mesh is not None:
            return self.explicit.evaluate(mesh, self._evaluate, loss, ask, arrays, options, more)
        if self._is_compilable():
            return self.plans.run(loss, ask, arrays, options, more)
        return self._evaluate(loss, ask, arrays, options, *more)

    def _is_compilable(self) -> bool:
        """Return whether nobody compiles already, or asked for nothing compiled, or for shards."""
        if self.jax.config.jax_disable_jit or self._is_staged() or _split.current.get():
            return False
        mesh = self.jax.sharding.get_abstract_mesh()
        return not mesh.explicit_axes and not mesh.manual_axes

    def _evaluate(
        self,
        loss: Any,
        ask: Any,
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        if ask is None and loss.in_steps and options["reduction"] != "none":
            return self.stated.value(loss, arrays, options, self._now())
        return loss.evaluate(ask, arrays, options, *more)

    def _now(self) -> Any:
        """Return the adapter for the arrays of a call: for parts of larger ones, if they are."""
        split = _split.current.get()
        return self if split is None else self._of_part(split)

    def _of_part(self, split: _split.Split) -> Any:
        from xp_xent.backends._jax_part import part_of

        return part_of(self, split)

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **_: bool
    ) -> Any:
        # The maps' way; a loss is here with its axes already left to the compiler.
        explicit, mesh = self.explicit, self.explicit.mesh_of(rows, *operands)
        if mesh is None:
            return function(rows, *operands)
        found = explicit.evaluated(mesh, function, rows, *operands)
        return self.jax.tree.map(lambda x: explicit.split_like(x, rows, mesh), found)

    def _reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        # Over explicit axes, JAX does not decide how what is merged is split.
        mesh = self.explicit.mesh_of(x)
        return self.xp.reshape(x if mesh is None else self.explicit.split(x, mesh), shape)

    def kernel_layout(self, x: Array, dtype: Any) -> Array:
        # Over explicit axes, an operation that JAX has only for arrays in one piece.
        mesh = self.explicit.mesh_of(x)
        return self.cast(x if mesh is None else self.explicit.split(x, mesh), dtype)

    def _arange(self, stop: int, like: Array) -> Array:
        return self.xp.arange(stop)  # uncommitted: it follows the arrays it meets

    def _placed(self, host: np.ndarray, like: Array) -> Array:
        return self.xp.asarray(host)  # uncommitted, as well

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        return self.xp.full(shape, value, dtype=dtype)

    def take_label(self, x: Array, index: Array) -> Array:
        # Labels are within range, and a check of each would cost as much as the gather.
        return self.xp.take_along_axis(x, index, axis=self.class_axis, mode="promise_in_bounds")

    def set_at_label(self, x: Array, index: Array, value: Array) -> Array:
        if x.shape[self.class_axis] < FEW or not isinstance(value, float):
            return super().set_at_label(x, index, value)
        # XLA fuses the choice into reductions on a GPU; on a CPU it would make the elements twice.
        return self.jax.lax.platform_dependent(
            x, index, cpu=partial(self._scatter, value), default=partial(self._choose, value)
        )

    def _scatter(self, value: float, x: Array, index: Array) -> Array:
        rows = list(x.shape)
        rows[self.class_axis] = 1
        index = self.xp.broadcast_to(index, tuple(rows))
        return self.xp.put_along_axis(
            x, index, value, axis=self.class_axis, inplace=False, mode="promise_in_bounds"
        )

    def custom_derivative(
        self,
        function: Callable[..., Any],
        differentiable_form: Callable[..., Any],
        *arrays: Any,
        partials: Callable[..., tuple[Any, ...]] | None = None,
    ) -> Any:
        if partials is not None:
            return self._with_partials(function, partials, *arrays)

        def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
            results, change = self.jax.jvp(differentiable_form, primals, tangents)
            return results, self.jax.tree.map(self._varying, change, results)

        both = self.jax.custom_jvp(function)
        both.defjvp(jvp)
        return both(*arrays)

    def _with_partials(
        self, function: Callable[..., Any], partials: Callable[..., Any], *rows: Any
    ) -> Array:
        # Nothing traced may be closed over.
        count, numbers = len(rows), {at: x for at, x in enumerate(rows) if isinstance(x, float)}

        def filled(arrays: Any) -> list[Any]:
            left = iter(arrays)
            return [numbers[at] if at in numbers else next(left) for at in range(count)]

        @self.jax.custom_jvp
        def call(*arrays: Array) -> Array:
            return function(*filled(arrays))

        def jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
            by_rows = partials(*filled(primals))
            by_arrays = [by for at, by in enumerate(by_rows) if at not in numbers]
            result = call(*primals)
            change = self.xp.zeros_like(result)
            for by, tangent in zip(by_arrays, tangents, strict=True):
                if not isinstance(tangent, self.jax.custom_derivatives.SymbolicZero):
                    change = change + by * tangent  # 0 · ∞ has no place in a constant's share
            return result, change

        call.defjvp(jvp, symbolic_zeros=True)
        # Without the axis of length one, along which XLA's reductions would run.
        axis = self.class_axis
        arrays = [self.xp.squeeze(x, axis=axis) for at, x in enumerate(rows) if at not in numbers]
        return self.xp.expand_dims(call(*arrays), axis=axis)

    def stop_gradient(self, array: Array) -> Array:
        return self.jax.lax.stop_gradient(array)


BACKEND = Jax()
