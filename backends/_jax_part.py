"""JAX inside `jax.shard_map`: each device has a part of the rows, of the classes, or of both.

What parts exchange are numbers of rows, never anything of the classes' length. Collectives are
differentiated by JAX, which knows of what varies from device to device and what does not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax

from xp_xent.backends._base import Array, Backend
from xp_xent.backends._jax import Jax
from xp_xent.backends._jax_sums import Sums
from xp_xent.backends._part import Part
from xp_xent.backends._row_sums import RowSums
from xp_xent.backends._split import Split


class Axes:
    """The devices along axes of a mesh, over which `jax.shard_map` runs."""

    def __init__(self, argument: str, names: Any) -> None:
        self.names = names if isinstance(names, tuple) else (names,)
        if not all(isinstance(name, str) for name in self.names):
            raise TypeError(
                f"split: got {argument}={names!r}, wanted the name of an axis of a mesh, or a "
                "tuple of names"
            )
        try:
            self.size = lax.axis_size(self.names)
        except NameError:
            raise ValueError(
                f"split: got {argument}={names!r}, wanted axes of a mesh over which "
                "jax.shard_map runs this call; under jax.jit alone, split arrays are taken as "
                "they are"
            ) from None

    def count(self, here: int) -> Any:
        """Return a length of all parts, of which `here` are in this one."""
        return here * self.size

    def first(self, here: int) -> Any:
        """Return how much of that length lies in the parts before this one."""
        return here * lax.axis_index(self.names)

    def sum(self, *arrays: Array) -> tuple[Array, ...]:
        """Add arrays up over the devices."""
        return tuple(lax.psum(arrays, self.names))

    def max(self, x: Array) -> Array:
        """Return the maximum over the devices."""
        return lax.pmax(lax.stop_gradient(x), self.names)

    def min(self, x: Array) -> Array:
        """Return the minimum over the devices."""
        return lax.pmin(lax.stop_gradient(x), self.names)

    def sum_elsewhere(self, x: Array) -> Array:
        """Add an array up over all devices but this one, in which nothing cancels."""
        every = lax.all_gather(x, self.names)
        place = lax.broadcasted_iota("int32", (self.size, *[1] * x.ndim), 0)
        return jax.numpy.sum(jax.numpy.where(place == lax.axis_index(self.names), 0, every), axis=0)


class JaxPart(Part, Jax):
    """JAX's adapter for what one device has of a call's arrays."""

    # Chosen, the exponentials without their label's are not made twice.
    _exps = Sums._exps
    _stated_exps = RowSums._exps

    def set_at_label(self, x: Array, index: Array, value: Any) -> Array:
        if self.classes is None or not isinstance(value, float):
            return super().set_at_label(x, index, value)
        branches = (partial(f, value) for f in (self._scatter, self._choose))
        cpu, default = (self._alike(branch) for branch in branches)
        return lax.platform_dependent(x, index, cpu=cpu, default=default)

    def _alike(self, branch: Callable[..., Array]) -> Callable[..., Array]:
        """Let results vary as both operands do: those of no rows may vary less."""
        return lambda x, index: self._varying(branch(x, index), x, index)

    def _scatter(self, value: float, x: Array, index: Array) -> Array:
        if self.classes is None:
            return super()._scatter(value, x, index)
        place, is_here = self._place(x, index)
        place = self.xp.where(is_here, place, x.shape[self.class_axis])  # dropped
        return self.xp.put_along_axis(
            x, place, value, axis=self.class_axis, inplace=False, mode="drop"
        )

    def take_label(self, x: Array, index: Array) -> Array:
        if self.classes is None:
            return super().take_label(x, index)
        return self.classes.sum(self._entry(x, index))[0]

    def _summed(self, exps: Array, z: Array, reference: Array) -> tuple[Array, Array]:
        if self.classes is None:
            return super()._summed(exps, z, reference)
        one, other = self.classes.sum(Backend.row_sum(self, exps), self._entry(z, reference))
        return one, other

    def _entry(self, x: Array, index: Array) -> Array:
        """Return each row's entry at its index, 0 where another part has it."""
        # XLA would write a choice among all classes to memory before it sums on a CPU.
        place, is_here = self._place(x, index)
        place = self.xp.where(is_here, place, 0)
        found = self.xp.take_along_axis(x, place, self.class_axis, mode="promise_in_bounds")
        return self.xp.where(is_here, found, 0)

    def _place(self, x: Array, index: Array) -> tuple[Array, Array]:
        """Return where an index of the whole is in this part, and whether it is in it."""
        classes: Any = self.classes
        here = x.shape[self.class_axis]
        place = index - classes.first(here)
        return place, (place >= 0) & (place < here)


def part_of(whole: Jax, split: Split) -> JaxPart:
    """Return the adapter for parts of arrays that are split so."""
    part = JaxPart.__new__(JaxPart)
    vars(part).update(vars(whole))
    part.classes, part.rows = (
        None if names is None else Axes(argument, names)
        for argument, names in (("classes", split.classes), ("rows", split.rows))
    )
    part.num_classes = split.num_classes
    return part
