"""JAX: loops over groups of rows, and what is added up in them."""

from collections.abc import Callable
from typing import Any

import jax

from xp_xent.backends._base import Array, Backend
from xp_xent.backends._jax_varying import varying_axes

# Matrix products are faster on rows in whole vectors.
LANES = 32
# A matrix product that is large is added in so many parts.
LARGE, PARTS = 1 << 21, 8


class Loops(Backend):
    """The part of JAX's adapter that walks over rows in steps."""

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        total = self._varying(total, a, b)
        return jax.lax.platform_dependent(
            total, a, b, cpu=self._add_in_parts, default=super().add_product
        )

    def _add_in_parts(self, total: Array, a: Array, b: Array) -> Array:
        # XLA keeps a product beside what it is added to, but writes parts into a loop's carry.
        lax, classes = jax.lax, total.shape[0]
        parts = PARTS if total.size > LARGE else 1
        size = classes // parts

        def add(start: Any, size: int, total: Array) -> Array:
            part = lax.dynamic_slice_in_dim(total, start, size)
            columns = lax.dynamic_slice_in_dim(a, start, size, axis=1)
            part = super(Loops, self).add_product(part, columns, b)
            return lax.dynamic_update_slice_in_dim(total, part, start, 0)

        total = lax.fori_loop(0, parts, lambda i, total: add(i * size, size, total), total)
        left = classes - parts * size
        return add(parts * size, left, total) if left else total

    def map_steps(
        self,
        step: Callable[..., tuple[Any, tuple[Array, ...]]],
        totals: Any,
        arrays: tuple[Array, ...],
        size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        lax, xp, count = jax.lax, self.xp, arrays[0].shape[0]
        if count <= size:
            return step(totals, *arrays)
        size -= size % LANES if size > LANES else 0
        walked = [x is not None and x.shape[0] == count for x in arrays]

        # Compiled once whatever the number of steps; differentiated, a step is computed again.
        @jax.checkpoint
        def on_rows(totals: Any, parts: list[Array]) -> tuple[Any, tuple[Array, ...]]:
            left = iter(parts)
            return step(
                totals, *(next(left) if w else x for w, x in zip(walked, arrays, strict=True))
            )

        end, mesh = count - count % size, jax.sharding.get_abstract_mesh()
        rows = [x for w, x in zip(walked, arrays, strict=True) if w]
        # Where rows may be split over devices, a step takes some of each device's: they stay there.
        meshes = [mesh, *[jax.typeof(x).sharding.mesh for x in rows]]
        across = any(of.auto_axes for of in meshes)

        def grouped(x: Array) -> Array:
            if across:
                return xp.moveaxis(xp.reshape(x, (size, end // size, *x.shape[1:])), 1, 0)
            return xp.reshape(x, (end // size, size, *x.shape[1:]))

        def put_together(x: Array) -> Array:
            return xp.reshape(xp.moveaxis(x, 0, 1) if across else x, (end, *x.shape[2:]))

        groups = [grouped(x[:end]) for x in rows]
        if mesh.manual_axes:
            after, _ = jax.eval_shape(on_rows, totals, [x[0] for x in groups])
            totals = jax.tree.map(self._varying, totals, after)
        totals, found = lax.scan(on_rows, totals, groups)
        found = tuple(put_together(x) for x in found)
        if end == count:
            return totals, found
        totals, other_sum = on_rows(totals, [x[end:] for x in rows])
        return totals, tuple(xp.concatenate(two) for two in zip(found, other_sum, strict=True))

    def _varying(self, x: Array, *like: Any) -> Array:
        """Let x differ from device to device as others do, for a loop's carry cannot change type.

        Inside `shard_map` that is part of an array's type.
        """
        axes = [varying_axes(other) for other in (x, *like)]
        names = tuple(sorted(axes[0].union(*axes) - axes[0]))
        return jax.lax.pcast(x, names, to="varying")
