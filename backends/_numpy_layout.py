"""How rows lie in NumPy's memory: for inner loops, where a row's entry is, where results go."""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

# Below so many classes, inner loops run along the rows: each class is laid out together for them.
FEW = 64
# From so many classes on, NumPy adds a row that lies together in memory in pairs.
PAIRS = 8

# Makes the arrays of results: in NumPy's memory, or in that of a library which lends its arrays.
memory: ContextVar[Callable[[tuple[int, ...], Any], np.ndarray]] = ContextVar(
    "xp_xent_memory", default=np.empty
)


def laid_out(block: np.ndarray) -> np.ndarray:
    """Lay a block out for inner loops, and for one order in which rows are summed.

    The layout depends on the number of classes alone, so that a row has the same bits whatever the
    batch, the memory layout and the threads around it.
    """
    classes = block.shape[-1]
    if classes >= FEW:
        contiguous = block.flags.c_contiguous
        return block if contiguous else np.ascontiguousarray(block).reshape(block.shape)
    if classes == 1:
        return block
    # Class by class in memory: operations then run along the rows, which are many.
    if block.flags.c_contiguous:
        return block.reshape(-1, classes).T.copy().T.reshape(block.shape)
    if _by_class(block):
        return block
    last = block.ndim - 1
    by_class = block.transpose(last, *range(last)).copy()
    return by_class.transpose(*range(1, last + 1), 0)


def row_sums(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of rows, (..., 1), and the rows laid out as they were summed."""
    if PAIRS <= x.shape[-1] < FEW and x.size == x.shape[-1]:
        # One row lies together, whatever its layout; among others it is summed class by class.
        return np.add.accumulate(x, axis=-1)[..., -1:], x
    laid = laid_out(x)
    return np.add.reduce(laid, axis=-1, keepdims=True), laid


def _by_class(block: np.ndarray) -> bool:
    """Return whether a block of few classes is laid out class by class already."""
    if block.shape[-1] >= FEW:
        return False
    apart, size = block.strides[-1], block.itemsize
    for n, stride in zip(block.shape, block.strides, strict=True):
        if stride == size and 1 < n <= apart // size:
            return True
    return False


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether arrays have one shape and are laid out alike, by rows or by classes."""
    if a.shape != b.shape:
        return False
    return (a.flags.c_contiguous and b.flags.c_contiguous) or (_by_class(a) and _by_class(b))


class Located(NamedTuple):
    """Rows as one line of elements, and where in it each row's index is.

    NumPy indexes a line several times faster than rows.
    """

    line: np.ndarray
    at: np.ndarray
    shape: tuple[int, ...]  # (..., 1)


def located(x: np.ndarray, index: np.ndarray) -> Located | None:
    """Find each row's index in x (..., K); None where the line would be a copy."""
    classes, shape, size = x.shape[-1], x.shape[:-1], x.itemsize
    if shape != index.shape[:-1] or x.size == 0:
        return None
    label = index.reshape(-1)
    if x.flags.c_contiguous:
        at = np.arange(0, x.size, classes)
        at += label
        return Located(x.reshape(-1), at, index.shape)
    by_class = x.transpose(x.ndim - 1, *range(x.ndim - 1))
    if by_class.flags.c_contiguous:
        count = label.size
        return Located(by_class.reshape(-1), label * count + np.arange(count), index.shape)
    if not all(stride > 0 and stride % size == 0 for stride in x.strides):
        return None
    *steps, step = (stride // size for stride in x.strides)
    at = label * np.int64(step)
    last = (classes - 1) * step
    for count, apart, span in _merged(shape, steps):
        view = at.reshape(-1, count, span)
        view += np.arange(0, count * apart, apart)[:, None]
        last += (count - 1) * apart
    line = np.lib.stride_tricks.as_strided(x, (last + 1,), (size,))
    return Located(line, at, index.shape)


def _merged(shape: tuple[int, ...], steps: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Return axes that are as one in memory together: length, step, and elements of one index."""
    count, apart, span = 1, 0, 1
    for n, step in zip(reversed(shape), reversed(steps), strict=True):
        if n > 1 and count > 1 and step != count * apart:
            yield count, apart, span
            count, apart, span = n, step, span * count
        elif n > 1:
            count, apart = count * n, apart if count > 1 else step
    yield count, apart, span


def few(mask: np.ndarray) -> np.ndarray:
    """Find where a mask that lies together in memory is true: in few places, if in any."""
    line = mask.reshape(-1)
    words = line[: line.size // 8 * 8].view(np.uint64)
    some = np.flatnonzero(words > 0)  # three times as quick as of single bytes
    if line.size % 8 or some.size > words.size // 8:
        return np.flatnonzero(line)
    near = (8 * some[:, None] + np.arange(8)).reshape(-1)
    return near[line[near]]


def settled(rows: np.ndarray, results: Any) -> Any:
    """Return results of all rows, one or a tuple, as `like_rows` lays them out."""
    shape, strides = rows.shape[:-1], rows.strides
    for part in results if isinstance(results, tuple) else (results,):
        if part.shape[:-1] != shape or not (part.shape[-1] == 1 or part.strides == strides):
            break
    else:
        return results
    if isinstance(results, tuple):
        return tuple([settled(rows, part) for part in results])
    output = like_rows(rows, results, None)
    output[...] = results
    return output


def like_rows(rows: np.ndarray, part: np.ndarray, over: np.ndarray | None) -> np.ndarray:
    """Allocate a result, as the rows lie in memory where it has their shape; or write over them."""
    shape = (*rows.shape[:-1], part.shape[-1])
    if over is not None and (shape, part.dtype) == (over.shape, over.dtype):
        return over
    if shape == rows.shape:
        return empty_like(rows, part.dtype)
    return memory.get()(shape, part.dtype)


def empty_like(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Allocate an array of the shape of x, its axes in the same order in memory."""
    make = memory.get()
    if make is np.empty:
        return np.empty_like(x, dtype=dtype, subok=False)
    if x.flags.c_contiguous:
        return make(x.shape, dtype)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    made = make(tuple([x.shape[axis] for axis in order]), dtype)
    return made.transpose(np.argsort(order))


def rows_of(x: Any, shape: tuple[int, ...], chosen: np.ndarray) -> Any:
    """Return the chosen rows of an operand of rows; a number is the same for each."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return x
    return np.broadcast_to(x, (*shape, x.shape[-1]))[chosen]


def room_of(
    outputs: list[np.ndarray], index: tuple[Any, ...], shape: tuple[int, ...]
) -> np.ndarray | None:
    """View a block of the gradient: of the one result of the rows' shape."""
    if shape[-1] == 1:  # losses have that shape as well
        return None
    return next((output[index] for output in outputs if output.shape == shape), None)
