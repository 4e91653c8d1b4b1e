"""Where the class axis is: between the shapes that users see and those that kernels take."""

from typing import Any, NamedTuple

Array = Any


class Layout(NamedTuple):
    """Where the class axis is in the user's arrays; None: each element is a row of its own.

    `inside` is where kernels find it, counted from the end: last, or where it is already.
    """

    xp: Any
    axis: int | None
    inside: int = -1

    def inward(self, array: Array) -> Array:
        """View an array of the logits' shape as kernels take it."""
        if self.axis is None:
            return self.xp.expand_dims(array, axis=-1)
        if self.axis == len(array.shape) + self.inside:
            return array
        # Not moveaxis, for which torch.vmap has no rule.
        others = [axis for axis in range(len(array.shape)) if axis != self.axis]
        return self.xp.permute_dims(array, (*others, self.axis))

    def outward(self, array: Array) -> Array:
        """Undo `inward`."""
        if self.axis is None:
            return self.xp.squeeze(array, axis=-1)
        if self.axis == len(array.shape) + self.inside:
            return array
        axes = list(range(len(array.shape) - 1))
        axes.insert(self.axis, len(axes))
        return self.xp.permute_dims(array, tuple(axes))

    def losses_shape(self, rows: Array) -> tuple[int, ...]:
        """Give the shape in which the user sees the losses of rows (..., K)."""
        shape = list(rows.shape)
        del shape[self.inside]
        return tuple(shape)

    def column(self, array: Array) -> Array:
        """View one number a row as (..., 1)."""
        return array[(..., None, *(slice(None),) * (-1 - self.inside))]

    def losses_outward(self, losses: Array) -> Array:
        """Give losses (..., 1) the shape that the user sees."""
        return self.xp.squeeze(losses, axis=self.inside)

    def cotangent_inward(self, cotangent: Array) -> Array:
        """Undo `losses_outward`."""
        return self.xp.expand_dims(cotangent, axis=self.inside)
