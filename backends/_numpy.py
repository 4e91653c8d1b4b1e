"""NumPy: rows walked in cache-sized, contiguous blocks."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend

# Elements of a block: with its few temporaries it stays in a core's second-level cache.
BLOCK = 1 << 16


class NumPy(Backend):
    name = "numpy"
    roots = ("numpy",)
    module = "numpy"

    def refuses(self, array: Array) -> str | None:
        if isinstance(array, np.ma.MaskedArray):
            return "got a numpy.ma.MaskedArray, whose mask would be lost; pass its data and where="
        if isinstance(array, np.matrix):
            return "got a numpy.matrix, wanted a numpy.ndarray; use numpy.asarray"
        return None

    def device(self, array: Array) -> str:
        return "cpu"

    def is_readable(self, array: Array) -> bool:
        return True

    def float_dtypes(self) -> tuple[str, ...]:
        try:
            import ml_dtypes  # noqa: F401  (NumPy's bfloat16, where it is installed)
        except ImportError:
            return ("float16", "float32", "float64")
        return ("float16", "bfloat16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        if dtype == "bfloat16":
            import ml_dtypes

            return np.array(host, dtype=ml_dtypes.bfloat16)
        return np.array(host, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def quiet(self) -> AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        # A block is made contiguous with the class axis last, so that a row is summed in the
        # same order whatever the batch or the memory layout around it: same row, same bits.
        shape = rows.shape
        outputs: tuple[np.ndarray, ...] | None = None
        single = True
        for index in _blocks(shape):
            parts = (None if x is None else _block(x, index, shape) for x in (rows, *operands))
            results = function(*parts)
            single = not isinstance(results, tuple)
            results = (results,) if single else results
            if outputs is None:
                outputs = tuple(_like(rows, part) for part in results)
            for output, part in zip(outputs, results, strict=True):
                output[index] = part
        assert outputs is not None
        return outputs[0] if single else outputs


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Cut rows of shape (..., K) into index tuples of at most BLOCK elements, or one row."""
    rows = shape[:-1]
    if math.prod(shape) <= BLOCK:
        yield (Ellipsis,)
        return
    # The first axis whose slices of length one fit into a block is the one to cut.
    axis = 0
    while axis < len(rows) - 1 and math.prod(shape[axis + 1 :]) > BLOCK:
        axis += 1
    if not rows:
        yield (Ellipsis,)
        return
    step = max(1, BLOCK // max(1, math.prod(shape[axis + 1 :])))
    for outer in np.ndindex(*rows[:axis]):
        before = tuple(slice(i, i + 1) for i in outer)
        for start in range(0, rows[axis], step):
            yield (*before, slice(start, start + step))


def _block(array: np.ndarray, index: tuple[Any, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Take a block of an operand; an axis along which it broadcasts is kept whole."""
    if index != (Ellipsis,):
        index = tuple(
            slice(None) if array.shape[axis] == 1 and shape[axis] != 1 else part
            for axis, part in enumerate(index)
        )
    return np.ascontiguousarray(array[index]).reshape(array[index].shape)


def _like(rows: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Allocate a result: laid out in memory as the rows are, where it has their shape."""
    shape = (*rows.shape[:-1], part.shape[-1])
    if shape == rows.shape:
        return np.empty_like(rows, dtype=part.dtype, subok=False)
    return np.empty(shape, dtype=part.dtype)


BACKEND = NumPy()
