"""Rows cut into blocks, so that temporaries are as large as a block and not as the logits."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend
from xp_xent.backends._row_sums import ExpSums

# Bytes of a block in the loss's dtype, where a library's operations run one after the other on a
# device: a loss alone has one temporary of that size, and a mask beside it at most, which keeps it
# below 25 MB; there are elements enough to occupy a device, and caches of tens of megabytes hold
# the block from one operation to the next.
ROOM = 1 << 24

Index = tuple[Any, ...]


def cut(shape: tuple[int, ...], most: int, axis: int = -1) -> Iterator[Index]:
    """Cut rows with the classes along an axis into index tuples of at most so many elements.

    A block has at least one row.
    """
    if math.prod(shape) <= most or len(shape) == 1:
        yield (Ellipsis,)
        return
    axes = [at for at in range(len(shape)) if at != axis % len(shape)]
    sizes, one = [shape[at] for at in axes], math.prod(shape) // shape[axes[0]]
    # The first axis whose slices of length one fit into a block is the one to cut.
    depth = 0
    while depth < len(axes) - 1 and one > most:
        depth += 1
        one //= sizes[depth]
    # Blocks of equal size, for threads that share them.
    size, step = sizes[depth], max(1, most // one)
    step, index = -(-size // -(-size // step)), [slice(None)] * (axes[depth] + 1)
    for outer in np.ndindex(*sizes[:depth]):
        for at, i in zip(axes, outer, strict=False):
            index[at] = slice(i, i + 1)
        for start in range(0, size, step):
            index[axes[depth]] = slice(start, start + step)
            yield tuple(index)


def folded(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return whether several entries of an array may lie in one place of its memory."""
    span = 0
    for stride, n in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride <= span:
            return True
        span += stride * (n - 1)
    return False


FOLDED = "got an array several of whose entries lie, or may lie, in one place of memory"
SHARED = "got an array that shares memory, or may, with an input or another output"


def part(array: Any, index: Index, shape: tuple[int, ...]) -> Any:
    """View a block of an operand of rows; an axis along which it broadcasts is kept whole."""
    # A number is the same in each, as None is; NumPy's scalars are numbers that have a shape.
    if index == (Ellipsis,) or not getattr(array, "shape", ()):
        return array
    narrowed = (
        slice(None) if array.shape[at] == 1 and shape[at] != 1 else one
        for at, one in enumerate(index)
    )
    return array[(*narrowed, Ellipsis)]


def walk(
    backend: Backend,
    function: Callable[..., Any],
    rows: Array,
    *operands: Any,
    overwrite: bool = False,
    whole: bool = False,
    out: Array | None = None,
) -> Any:
    """Do as `Backend.map_blocks` on blocks of ROOM bytes, one after the other, without waiting.

    Results are written into arrays of their whole size.
    """
    if whole:  # `exp_sums` and `exp_gradient` are cut
        return function(rows, *operands)
    shape, axis, size = tuple(rows.shape), backend.class_axis, rows.dtype.itemsize
    # Half precision is computed in float32, and converted first: two temporaries.
    most = ROOM // (size if size >= 4 else 8)
    outputs: list[Array] = []
    single = True
    for index in cut(shape, most, axis):
        parts = (part(x, index, shape) for x in (rows, *operands))
        results = function(*parts)
        if index == (Ellipsis,):
            return results
        single = not isinstance(results, tuple)
        results = (results,) if single else results
        if not outputs:
            new = results if out is None else results[:-1]
            outputs = [_output(backend, rows, found, overwrite) for found in new]
            if out is not None:
                outputs.append(out)
        for output, found in zip(outputs, results, strict=True):
            output[index] = found
        del found, results  # or the next block's would come beside them
    return outputs[0] if single else tuple(outputs)


def _output(backend: Backend, rows: Array, found: Array, over: bool) -> Array:
    """Allocate a result, as the rows lie in memory where it has their shape; or take the rows."""
    axis, shape = backend.class_axis, list(rows.shape)
    # With one class, losses would have the rows' shape as well.
    if found.shape[axis] == shape[axis] != 1:
        same = over and found.dtype == rows.dtype
        return rows if same else backend.xp.empty_like(rows, dtype=found.dtype)
    shape[axis] = found.shape[axis]
    return backend.xp.empty(tuple(shape), dtype=found.dtype, device=backend.device(rows))


def exp_sums(backend: Any, z: Array, reference: Array, dtype: Any) -> ExpSums:
    """Sum the exponentials block by block, and keep none."""
    xp, axis = backend.xp, backend.class_axis

    def on_block(z: Array, reference: Array) -> tuple[Array, Array, Array]:
        row_max = backend.cast(xp.max(z, axis=axis, keepdims=True), dtype)
        _, other_sum, reference_z = backend._exps(z, row_max, reference)
        return row_max, other_sum, backend.cast(reference_z, dtype)

    row_max, other_sum, reference_z = walk(backend, on_block, z, reference)
    return ExpSums(z, reference, row_max, row_max, other_sum, reference_z - row_max)


def exp_gradient(
    backend: Any, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
) -> Array:
    """Make the exponentials again, block by block, of which only sums were kept."""

    def on_block(
        z: Array, row_max: Array, reference: Array, factor: Array, entry: Array, valid: Any
    ) -> Array:
        exps = backend.scale_rows(backend._exp(z, row_max), factor)
        exps = backend.set_at_label(exps, reference, entry)
        return backend.cast(backend.scale_rows(exps, valid=valid), dtype)

    return walk(backend, on_block, sums.z, sums.row_max, sums.reference, factor, entry, valid)
