"""Several axes of an array as one: what is reduced over them has one class axis."""

import math
from typing import Any

Array = Any


class Folded:
    """Arrays whose `axes`, counted from 0 in ascending order, are made one: `axis` of `shape`.

    Of no axes it is one of length 1, at the end. Axes that follow each other stay where they are.
    """

    def __init__(self, backend: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        self.backend, self.xp = backend, backend.xp
        self.given, self.axes = shape, axes
        ndim, count = len(shape), len(axes)
        self.is_one = count == 1
        self.axis = axes[0] if axes else ndim
        self._order: tuple[int, ...] | None = None
        if axes != tuple(range(self.axis, self.axis + count)):
            others = tuple(at for at in range(ndim) if at not in axes)
            self.axis, self._order = len(others), (*others, *axes)
            shape = tuple(shape[at] for at in self._order)
        self._unfolded = shape
        of_axes = math.prod(shape[self.axis : self.axis + count])
        self.shape = (*shape[: self.axis], of_axes, *shape[self.axis + count :])

    def __call__(self, array: Array) -> Array:
        """View an array of the given shape."""
        if self.is_one:
            return array
        if self._order is not None:
            array = self.xp.permute_dims(array, self._order)
        return self.backend._reshape(array, self.shape)

    def aligned(self, array: Array) -> Array:
        """View what broadcasts to the given shape as what broadcasts to the folded one."""
        reshape, given = self.backend._reshape, self.given
        shape = (*(1,) * (len(given) - len(array.shape)), *array.shape)
        if self.is_one:
            return array if len(array.shape) == len(given) else reshape(array, shape)
        array, count = reshape(array, shape), len(self.axes)
        if any(shape[at] != given[at] for at in self.axes):
            whole = [n if at in self.axes else shape[at] for at, n in enumerate(given)]
            array = self.xp.broadcast_to(array, tuple(whole))
        if self._order is not None:
            array = self.xp.permute_dims(array, self._order)
        shape, axis = array.shape, self.axis
        return reshape(array, (*shape[:axis], self.shape[axis], *shape[axis + count :]))

    def undo(self, array: Array) -> Array:
        """View a result of the folded shape as one of the given shape."""
        if self.is_one:
            return array
        array = self.backend._reshape(array, self._unfolded)
        if self._order is None:
            return array
        places = [self._order.index(at) for at in range(len(self._order))]
        return self.xp.permute_dims(array, tuple(places))

    def reduced(self, array: Array, keepdims: bool) -> Array:
        """View one number in place of the folded axis as the result of a reduction."""
        if self.is_one and keepdims:
            return array
        array = self.xp.squeeze(array, axis=self.axis)
        if not keepdims:
            return array
        kept = [1 if at in self.axes else n for at, n in enumerate(self.given)]
        return self.backend._reshape(array, tuple(kept))
