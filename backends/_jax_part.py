"""JAX inside `jax.shard_map`: each device has a part of the rows, of the classes, or of both.

What parts exchange are numbers of rows, never anything of the classes' length. Collectives are
differentiated by JAX, which knows of what varies from device to device and what does not.
"""

from typing import Any

import jax
from jax import lax

from xp_xent.backends._base import Array
from xp_xent.backends._jax import Jax
from xp_xent.backends._jax_sums import Sums
from xp_xent.backends._part import Part
from xp_xent.backends._split import Split


class Axes:
    """The devices along axes of a mesh, over which `jax.shard_map` runs."""

    def __init__(self, argument: str, names: Any) -> None:
        self.names = names if isinstance(names, tuple) else (names,)
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
