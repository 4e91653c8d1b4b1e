"""JAX: the formula through its own transformations, and XLA."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend

# From so many classes on a label's entry is better written alone than chosen among all.
FEW = 64
# Matrix products are faster on rows in whole vectors.
LANES = 32
# A matrix product that is large is added in so many parts.
LARGE, PARTS = 1 << 21, 8
# Integers up to here are exact in float32.
EXACT = 1 << 24


class Jax(Backend):
    name = "jax"
    roots = ("jax", "jaxlib")
    module = "jax.numpy"

    def __init__(self) -> None:
        super().__init__()
        import jax

        from xp_xent.backends import _jax_explicit, _jax_stated

        self.jax, self.stated, self.explicit = jax, _jax_stated, _jax_explicit

    def along(self, axis: int) -> Backend:
        # XLA would write what it transposes, on the way in and on the way out.
        return self.at(axis)

    def refuses(self, array: Array) -> str | None:
        if not isinstance(array, self.jax.Array):
            return f"got {type(array).__name__}, wanted a jax.Array"
        return None

    def device(self, array: Array) -> Any:
        # Where nobody has placed an array, it goes with those that it meets.
        placed = not isinstance(array, self.jax.core.Tracer) and array.committed
        return array.sharding.device_set if placed else None

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

    def value(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Array:
        explicit, mesh = self.explicit, self.explicit.mesh_of(*arrays, *options.values())
        if mesh is None:
            return self._value(build, *arrays, **options)
        call = explicit.calling(partial(self._value, build), arrays, options)
        loss = explicit.evaluated(mesh, *call)
        return explicit.split_like(loss, arrays[0], mesh, options.get("axis", -1))

    def _value(self, build: Callable[..., Any], *arrays: Array, **options: Any) -> Array:
        found = build(*arrays, **options)
        if not found.stepwise or found.reduction.kind == "none":
            return found.value()
        return self.stated.value(found, build, arrays, options)

    def closed_form(
        self,
        build: Callable[..., Any],
        ask: Callable[..., Any],
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        mesh = self.explicit.mesh_of(*arrays, *options.values(), *more)
        if mesh is not None:
            return ask(self.explicit.ExplicitEvaluation(mesh, build, arrays, options), *more)
        return super().closed_form(build, ask, arrays, options, *more)

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        # The maps' way; a loss is here with its axes already left to the compiler.
        explicit, mesh = self.explicit, self.explicit.mesh_of(rows)
        if mesh is None:
            return function(rows, *operands)
        return explicit.split_like(explicit.evaluated(mesh, function, rows, *operands), rows, mesh)

    def arange(self, stop: int, like: Array) -> Array:
        return self.xp.arange(stop)  # uncommitted: it follows the arrays it meets

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        return self.xp.full(shape, value, dtype=dtype)

    def pick(self, x: Array, index: Array) -> Array:
        # Labels are within range, and a check of each would cost as much as the gather.
        return self.xp.take_along_axis(x, index, axis=self.axis, mode="promise_in_bounds")

    def put_(self, x: Array, index: Array, value: Array) -> Array:
        if x.shape[self.axis] < FEW or not isinstance(value, float):
            return super().put_(x, index, value)
        # XLA fuses the choice into reductions on a GPU; on a CPU it would make the elements twice.
        return self.jax.lax.platform_dependent(
            x, index, cpu=partial(self._scatter, value), default=partial(self._choose, value)
        )

    def _scatter(self, value: float, x: Array, index: Array) -> Array:
        rows = list(x.shape)
        rows[self.axis] = 1
        index = self.xp.broadcast_to(index, tuple(rows))
        return self.xp.put_along_axis(
            x, index, value, axis=self.axis, inplace=False, mode="promise_in_bounds"
        )

    def _choose(self, value: float, x: Array, index: Array) -> Array:
        return super().put_(x, index, value)

    def anchored(self, z: Array, shift: Array, anchor: Array) -> tuple[Array, Array, Array]:
        if z.shape[self.axis] < FEW:
            return super().anchored(z, shift, anchor)
        # A scatter would keep z beside the exponentials, which may take its memory; chosen, they
        # must not be made twice either.
        lax = self.jax.lax
        e = lax.platform_dependent(
            self.exp_shifted(z, shift), cpu=lax.optimization_barrier, default=lambda e: e
        )
        e = self._choose(0.0, e, anchor)
        return e, self.row_sum(e), self.pick(z, anchor)

    def anchored_sums(
        self, z: Array, shift: Array, anchor: Array, counted: Array | None
    ) -> tuple[Array, Array, Array]:
        sums = self.jax.custom_jvp(self._sums_alone)
        sums.defjvp(self._sums_jvp)
        return sums(z, shift, anchor, counted)

    def _sums_alone(
        self, z: Array, shift: Array, anchor: Array, counted: Array | None
    ) -> tuple[Array, Array, Array]:
        # XLA fuses products into a sum on a CPU, but neither choices nor counting: with these, the
        # exponentials would be written to memory.
        xp, classes = self.xp, z.shape[self.axis]
        if classes > EXACT:
            _, rest, own = super().anchored(z, shift, anchor)
        else:
            places = self.jax.lax.optimization_barrier(xp.astype(self.places(z), xp.float32))
            off = xp.minimum(xp.abs(places - xp.astype(anchor, xp.float32)), 1)
            rest = self.row_sum(xp.exp(z - shift) * xp.astype(off, z.dtype))
            own = self.pick(z, anchor)
        sums = shift, rest, own - shift
        return sums if counted is None else tuple(self.masked(x, counted) for x in sums)

    def _sums_jvp(self, primals: Any, tangents: Any) -> tuple[Any, Any]:
        # Differentiated by JAX, the exponentials would be kept beside their gradient, and an entry
        # would be picked by a scatter. This is one product and one choice.
        (z, shift, anchor, counted), along = primals, tangents[0]

        def kept(x: Array) -> Array:
            return x if counted is None else self.masked(x, counted)

        # An ignored row is blanked in tangents and sums, not in the logits: a choice before the
        # exponentials would keep them from being vectorised. This one XLA takes out again; it
        # keeps such a row's NaN from further derivatives.
        if counted is not None:
            z = self.xp.where(counted, z, self.stop_gradient(z))
        below, shift = self.centred(z, shift)
        e, rest, lead = super().anchored(below, self.xp.zeros_like(shift), anchor)
        along, at_anchor = kept(along), self.places(z) == anchor
        here = self.row_sum(self.xp.where(at_anchor, along, 0))
        sums = kept(shift), kept(rest), kept(lead)
        change = self.xp.zeros_like(shift), kept(self.row_sum(e * along)), here
        return sums, self.jax.tree.map(self._varying, change, sums)

    def centred(self, z: Array, shift: Array) -> tuple[Array, Array]:
        return self.derived(lambda z, shift: (z - shift, shift), super().centred, z, shift)

    def derived(
        self, value: Callable[..., Any], formula: Callable[..., Any], *arrays: Array
    ) -> Any:
        def jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
            results, change = self.jax.jvp(formula, primals, tangents)
            return results, self.jax.tree.map(self._varying, change, results)

        both = self.jax.custom_jvp(value)
        both.defjvp(jvp)
        return both(*arrays)

    def with_slopes(self, function: Any, *rows: Any) -> Array:
        # Nothing traced may be closed over.
        count, numbers = len(rows), {at: x for at, x in enumerate(rows) if isinstance(x, float)}

        def filled(arrays: Any) -> list[Any]:
            left = iter(arrays)
            return [numbers[at] if at in numbers else next(left) for at in range(count)]

        @self.jax.custom_jvp
        def value(*arrays: Array) -> Array:
            return function.value(*filled(arrays))

        def jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
            slopes = function.slopes(*filled(primals))
            slopes = [slope for at, slope in enumerate(slopes) if at not in numbers]
            result = value(*primals)
            change = self.xp.zeros_like(result)
            for slope, along in zip(slopes, tangents, strict=True):
                if not isinstance(along, self.jax.custom_derivatives.SymbolicZero):
                    change = change + slope * along  # 0 · ∞ has no place in a constant's share
            return result, change

        value.defjvp(jvp, symbolic_zeros=True)
        # Without the axis of length one, along which XLA's reductions would run.
        arrays = (
            self.xp.squeeze(x, axis=self.axis) for at, x in enumerate(rows) if at not in numbers
        )
        return self.xp.expand_dims(value(*arrays), axis=self.axis)

    def _varying(self, x: Array, *like: Any) -> Array:
        """Let x differ from device to device as others do, for a loop's carry cannot change type.

        Inside `shard_map` that is part of an array's type.
        """
        axes = [self.jax.typeof(other).manual_axis_type.varying for other in (x, *like)]
        names = tuple(sorted(axes[0].union(*axes) - axes[0]))
        return self.jax.lax.pcast(x, names, to="varying")

    def gathered(self, x: Array) -> Array:
        mesh = self.explicit.mesh_of(x)
        return x if mesh is None else self.explicit.split(x, mesh)

    def add_product_(self, total: Array, a: Array, b: Array) -> Array:
        total = self._varying(total, a, b)
        return self.jax.lax.platform_dependent(
            total, a, b, cpu=self._add_in_parts, default=super().add_product_
        )

    def _add_in_parts(self, total: Array, a: Array, b: Array) -> Array:
        # XLA keeps a product beside what it is added to, but writes parts into a loop's carry.
        lax, classes = self.jax.lax, total.shape[0]
        parts = PARTS if total.size > LARGE else 1
        size = classes // parts

        def add(start: Any, size: int, total: Array) -> Array:
            part = lax.dynamic_slice_in_dim(total, start, size)
            columns = lax.dynamic_slice_in_dim(a, start, size, axis=1)
            part = super(Jax, self).add_product_(part, columns, b)
            return lax.dynamic_update_slice_in_dim(total, part, start, 0)

        total = lax.fori_loop(0, parts, lambda i, total: add(i * size, size, total), total)
        left = classes - parts * size
        return add(parts * size, left, total) if left else total

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
        size -= size % LANES if size > LANES else 0
        walked = [x is not None and x.shape[0] == count for x in arrays]

        # Compiled once whatever the number of steps; differentiated, a step is computed again.
        @self.jax.checkpoint
        def on_rows(totals: Any, parts: list[Array]) -> tuple[Any, tuple[Array, ...]]:
            left = iter(parts)
            return step(
                totals, *(next(left) if w else x for w, x in zip(walked, arrays, strict=True))
            )

        end, mesh = count - count % size, self.jax.sharding.get_abstract_mesh()
        rows = [x for w, x in zip(walked, arrays, strict=True) if w]
        # Where rows may be split over devices, a step takes some of each device's: they stay there.
        across = bool(mesh.auto_axes)

        def grouped(x: Array) -> Array:
            if across:
                return xp.moveaxis(xp.reshape(x, (size, end // size, *x.shape[1:])), 1, 0)
            return xp.reshape(x, (end // size, size, *x.shape[1:]))

        def together(x: Array) -> Array:
            return xp.reshape(xp.moveaxis(x, 0, 1) if across else x, (end, *x.shape[2:]))

        groups = [grouped(x[:end]) for x in rows]
        if mesh.manual_axes:
            after, _ = self.jax.eval_shape(on_rows, totals, [x[0] for x in groups])
            totals = self.jax.tree.map(self._varying, totals, after)
        totals, found = lax.scan(on_rows, totals, groups)
        found = tuple(together(x) for x in found)
        if end == count:
            return totals, found
        totals, rest = on_rows(totals, [x[end:] for x in rows])
        return totals, tuple(xp.concatenate(two) for two in zip(found, rest, strict=True))

    def over(self, x: Array | float, denominator: Array | float) -> Array:
        if not isinstance(denominator, self.jax.Array):
            return x / denominator
        # JAX squares a denominator in its derivative, so it gets one near 1.
        scale = self.stop_gradient(1 / denominator)
        scale = self.xp.where((scale == 0) | ~self.xp.isfinite(scale), 1.0, scale)
        return (x * scale) / (denominator * scale)

    def stop_gradient(self, array: Array) -> Array:
        return self.jax.lax.stop_gradient(array)


BACKEND = Jax()
