"""JAX: a loss's sums of exponentials, with derivatives stated where JAX's own take longer."""

from typing import Any

import jax

from xp_xent.backends._base import Array, Backend
from xp_xent.backends._jax_loops import Loops
from xp_xent.backends._row_sums import less

# From so many classes on a label's entry is better written alone than chosen among all.
FEW = 64
# Integers up to here are exact in float32.
EXACT = 1 << 24


class Sums(Loops):
    """The part of JAX's adapter that sums up rows."""

    def _choose(self, value: float, x: Array, index: Array) -> Array:
        return self.xp.where(self.indices(x) == index, value, x)

    def _blanked(self, x: Array, valid: Array) -> Array:
        return self.xp.where(valid, x, 0.0)

    def _exps(self, z: Array, level: Array | float, reference: Array) -> tuple[Array, Array, Array]:
        if z.shape[self.class_axis] < FEW:
            return super()._exps(z, level, reference)
        # A scatter would keep z beside the exponentials, which may take its memory; chosen, they
        # must not be made twice either.
        lax = jax.lax
        e = lax.platform_dependent(
            self._exp(z, level), cpu=lax.optimization_barrier, default=lambda e: e
        )
        e = self._choose(0.0, e, reference)
        return e, *self._summed(e, z, reference)

    def _stated_exps(self, z: Array, level: Array, reference: Array) -> tuple[Array, ...]:
        if not jax.typeof(z).sharding.mesh.auto_axes:
            return super()._exps(z, level, reference)
        # Where classes may be split, the compiler would gather the places of a scatter.
        e = self._choose(0.0, self._exp(z, level), reference)
        return e, *self._summed(e, z, reference)

    def _stated_sums(
        self, z: Array, row_max: Array, reference: Array, valid: Array | None
    ) -> tuple[Array, Array, Array]:
        sums = jax.custom_jvp(self._plain_sums)
        sums.defjvp(self._sums_jvp)
        return sums(z, row_max, reference, valid)

    def _plain_sums(
        self, z: Array, row_max: Array, reference: Array, valid: Array | None
    ) -> tuple[Array, Array, Array]:
        # XLA fuses products into a sum on a CPU, but neither choices nor counting: with these, the
        # exponentials would be written to memory.
        xp, classes = self.xp, self._class_count(z.shape[self.class_axis])
        if classes > EXACT:
            _, other_sum, reference_z = super()._exps(z, row_max, reference)
        else:
            places = jax.lax.optimization_barrier(xp.astype(self.indices(z), xp.float32))
            off = xp.minimum(xp.abs(places - xp.astype(reference, xp.float32)), 1)
            exps = xp.exp(z - row_max) * xp.astype(off, z.dtype)
            other_sum, reference_z = self._summed(exps, z, reference)
        sums = row_max, other_sum, reference_z - row_max
        return sums if valid is None else tuple(self._blanked(x, valid) for x in sums)

    def _sums_jvp(self, primals: Any, tangents: Any) -> tuple[Any, Any]:
        # Differentiated by JAX, the exponentials would be kept beside their gradient, and an entry
        # would be picked by a scatter. This is one product and one choice.
        z, row_max, reference, valid = primals

        def kept(x: Array) -> Array:
            return x if valid is None else self._blanked(x, valid)

        # An ignored row is blanked in tangents and sums, not in the logits: a choice before the
        # exponentials would keep them from being vectorised. This one XLA takes out again; it
        # keeps such a row's NaN from further derivatives.
        if valid is not None:
            z = self.xp.where(valid, z, self.stop_gradient(z))
        below, row_max = self.custom_derivative(less, self._less_largest, z, row_max)
        e, other_sum, gap = self._stated_exps(below, self.xp.zeros_like(row_max), reference)
        change_of_z = kept(tangents[0])
        at_reference = self.xp.where(self.indices(z) == reference, change_of_z, 0)
        by_class = e * change_of_z, at_reference
        by_sum, by_gap = self._over_classes(*[Backend.row_sum(self, x) for x in by_class])
        sums = kept(row_max), kept(other_sum), kept(gap)
        change = self.xp.zeros_like(row_max), kept(by_sum), kept(by_gap)
        return sums, jax.tree.map(self._varying, change, sums)
