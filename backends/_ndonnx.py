"""ndonnx: what is done to its arrays is written down as an ONNX model, which others run."""

from typing import Any

import numpy as np

from xp_xent.backends._base import Adapter, Array
from xp_xent.backends._numbers import LENGTHS


class Ndonnx(Adapter):
    name = "ndonnx"
    packages = ("ndonnx",)
    module = "ndonnx"
    differentiable = False  # ONNX has no derivatives: they are models of closed forms

    def can_read_values(self, array: Array) -> bool:
        try:  # What is made of arguments has no value yet, what is made of constants has.
            array.unwrap_numpy()
        except ValueError:
            return False
        return True

    def indices(self, x: Array, axis: int | None = None) -> Array:
        axis = self.class_axis if axis is None else axis
        if x.shape[axis] is not None:
            return super().indices(x, axis)
        shape = (1,) * (len(x.shape) + axis) + (-1,) + (1,) * (-1 - axis)
        return self.xp.reshape(self.xp.arange(x.dynamic_shape[axis]), shape)

    def _entries(self, x: Array, index: Array) -> Array:
        if None not in index.shape:
            return super()._entries(x, index)
        # In which nothing can be reshaped to.
        xp, at_index = self.xp, self.indices(x, -1) == self.xp.expand_dims(index, axis=-1)
        return xp.sum(xp.where(at_index, x, 0.0), axis=-1)

    def map_blocks(self, function: Any, rows: Array, *operands: Any, **_: bool) -> Any:
        return function(rows, *(self._required(x, rows) for x in operands))

    def map_steps(self, step: Any, totals: Any, arrays: tuple[Array, ...], size: int) -> Any:
        # All at once: how many steps there are would have to be known.
        first, *others = arrays
        return step(totals, first, *(self._required(x, first) for x in others))

    def _required(self, x: Any, rows: Array) -> Any:
        # A length that is not known is to be that of the rows. If it turns out to be another one,
        # this reshape of one element fails, before the model broadcasts a length of 1.
        xp, given = self.xp, getattr(x, "shape", ())[:-1]
        if all(n == 1 for n in given) or None not in (*given, *rows.shape[:-1]):
            return x
        whole, ones = rows.dynamic_shape, xp.asarray([1])
        wanted = xp.concat([ones if n == 1 else whole[i : i + 1] for i, n in enumerate(given)])
        off = xp.sum(xp.abs(x.dynamic_shape[:-1] - wanted), keepdims=True)
        return xp.where(xp.reshape(ones == 1, 1 + off)[0], x, x)

    def float_dtypes(self) -> tuple[str, ...]:
        return ("float16", "float32", "float64")  # half precision is only converted

    def to_numpy(self, array: Array) -> np.ndarray:
        return array.unwrap_numpy().copy()  # there is no DLPack


BACKEND = Ndonnx()
LENGTHS[type(None)] = lambda one, other: True  # a length that is not known: see `_required`
