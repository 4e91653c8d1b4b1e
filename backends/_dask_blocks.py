"""Dask: a kernel's function on the blocks of logits, by the adapter of the blocks' own library.

Where a row's classes are in one block, the function is run once on each. Where they are in
several, it is run in the stages of `_stages`: the merging of what parts say is the tree of a
reduction over the blocks of classes, so that one number a row travels, or a few, and no logits.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from xp_xent.backends import has_unknown, owner_of
from xp_xent.backends._dask_work import Blocks, Work, work_of
from xp_xent.backends._stages import Answer, Question, merged, staged
from xp_xent.backends._threads import threads

Array = Any

PROBED = 3  # classes of the arrays that tell what a function returns: neither 1 nor its square


# In tasks


def _whole_rows(work: Work, z: Array, *blocks: Array) -> Blocks:
    """Return what the function makes of rows all of whose classes are here."""
    adapter: Any = owner_of(z)
    function, operands = work.bound(adapter, z, blocks)
    with np.errstate(all="ignore"), threads(1):  # other tasks use the other processors
        found = adapter.map_blocks(function, z, *operands, whole=work.whole)
    return found if isinstance(found, tuple) else (found,)


def _stage(
    work: Work, answers: Sequence[Answer], of: int, start: int, z: Array, blocks: Blocks
) -> Question | Blocks:
    """Run the function on a part of the classes until it asks what is not answered, or its end."""
    adapter = staged(z, start, of, answers)
    function, operands = work.bound(adapter, z, blocks)
    try:
        with np.errstate(all="ignore"):
            found = function(z, *operands)
    except Question as question:
        return question
    return found if isinstance(found, tuple) else (found,)


def _part(work: Work, count: int, of: int, z: Array, start: Array, *blocks: Array) -> Any:
    """Return what a part says when `count` questions, whose answers come first, are answered."""
    found = _stage(work, blocks[:count], of, int(start[0]), z, blocks[count:])
    return found.said if isinstance(found, Question) else found


def _rows(work: Work, dtypes: Sequence[Any], count: int, of: int, *blocks: Array) -> Any:
    """Return what the last stage has: of a part with one class that holds nothing.

    Results of one number a row are the same for any part, so that none need be read. `dtypes` are
    those of z and of operands that are not given, because they have a number for each class.
    """
    answers, left = blocks[:count], iter(blocks[count:])
    first = answers[0][0]
    xp: Any = owner_of(first).xp  # type: ignore[union-attr]
    shape = (*first.shape[:-1], 1)
    z, *given = [next(left) if x is None else xp.zeros(shape, dtype=x) for x in dtypes]
    return _stage(work, answers, of, 0, z, tuple(given))


def _vector(work: Work, x: Array, *blocks: Array) -> Array:
    adapter = owner_of(x)
    function, operands = work.bound(adapter, x, blocks)
    found = function(adapter, x, *operands)
    return found.reshape((1,) * len(x.shape) + found.shape)


def _merged(merge: str, said: Any, axis: Any, keepdims: bool) -> Answer:
    with np.errstate(all="ignore"):
        return merged(merge, said if isinstance(said, list) else [said])


def _itself(block: Any, axis: Any, keepdims: bool) -> Any:
    return block


def _chosen(function: Callable[..., Blocks], places: Sequence[int], *blocks: Array) -> Any:
    found = function(*blocks)
    return found[places[0]] if len(places) == 1 else tuple([found[i] for i in places])


# Graphs of these


def on_blocks(adapter: Any, function: Any, z: Any, operands: Sequence[Any], whole: bool) -> Any:
    """Apply a function that treats each row alone to rows z (..., K), block by block."""
    work, arrays = work_of(adapter, function, z, operands, whole)
    found = _in_stages(work, z, arrays) if z.numblocks[-1] > 1 else None
    if found is None:
        z = z.rechunk({z.ndim - 1: -1})  # a result has a number for two classes each
        arrays = [aligned(x, z) for x in arrays]
        probed = _whole_rows(work, *(_empty(x, x.shape[-1]) for x in (z, *arrays)))
        call = partial(_whole_rows, work)
        found = _applied(call, (z, *arrays), probed, [(x.shape[-1],) for x in probed])
    return found if len(found) > 1 else found[0]


def added_up(adapter: Any, function: Any, arrays: Sequence[Any]) -> Any:
    """Add up the vectors that a function of an adapter and of arrays makes of their blocks."""
    x, *others = arrays
    work, others = work_of(adapter, function, x, others, False)
    call, blocks = partial(_vector, work), [x, *(aligned(y, x) for y in others)]
    probed, names = call(*(_empty(y, 1) for y in blocks)), tuple(range(x.ndim))
    found = da.blockwise(
        call, (*names, x.ndim), *(y for block in blocks for y in (block, names)),
        new_axes={x.ndim: probed.shape[-1]}, dtype=probed.dtype, meta=_meta(probed),
        adjust_chunks={at: (1,) * n for at, n in enumerate(x.numblocks)}, align_arrays=False,
    )  # fmt: skip
    return found.sum(axis=names)


def _in_stages(work: Work, z: Any, arrays: list[Any]) -> tuple[Any, ...] | None:
    """Apply it to rows whose classes are in several blocks; None if it is not of parts."""
    arrays = [aligned(x, z) for x in arrays]
    empty = [_empty(x, PROBED if x.shape[-1] > 1 else 1) for x in (z, *arrays)]
    sizes, of = z.chunks[-1], z.shape[-1]
    answers, known = list[Any](), list[Answer]()
    while True:
        probed = _stage(work, known, of, 0, empty[0], tuple(empty[1:]))
        part = partial(_part, work, len(answers), of)
        given = (z, starts(z, z.ndim - 1), *answers, *arrays)
        if not isinstance(probed, Question):
            break
        known.append(merged(probed.merge, [probed.said]))
        merge = partial(_merged, probed.merge)
        answers.append(
            da.reduction(
                _blockwise(part, given, (1,) * len(sizes)), _itself, merge, combine=merge,
                axis=z.ndim - 1, keepdims=True, concatenate=False, dtype=object, meta=_OBJECT(z),
            )
        )  # fmt: skip
    if not {x.shape[-1] for x in probed} <= {1, PROBED}:
        return None
    of_rows, of_classes = (
        [i for i, x in enumerate(probed) if x.shape[-1] == width] for width in (1, PROBED)
    )
    found: dict[int, Any] = {}
    if of_rows:
        dtypes = [z.dtype, *(x.dtype if x.shape[-1] > 1 else None for x in arrays)]
        rows = partial(_rows, work, dtypes, len(answers), of)
        beside = (*answers, *(x for x in arrays if x.shape[-1] == 1))
        results = _applied(rows, beside, probed, [(1,)] * len(of_rows), of_rows)
        found |= dict(zip(of_rows, results, strict=True))
    if of_classes:
        results = _applied(part, given, probed, [sizes] * len(of_classes), of_classes)
        found |= dict(zip(of_classes, results, strict=True))
    return tuple([found[i] for i in range(len(probed))])


def _applied(
    function: Callable[..., Blocks],
    arrays: Sequence[Any],
    probed: Blocks,
    sizes: Sequence[tuple[int, ...]],
    places: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """Return those results of a function of blocks that are asked for, all made by one task.

    `probed` are results of no rows, `sizes` the lengths along the last axis.
    """
    places = range(len(probed)) if places is None else places
    call, names = partial(_chosen, function, tuple(places)), tuple(range(arrays[0].ndim))
    if len(places) == 1:
        return (_blockwise(call, arrays, sizes[0], probed[places[0]]),)
    both = _blockwise(call, arrays, arrays[0].chunks[-1])
    return tuple(
        da.blockwise(
            operator.getitem, names, both, names, at, None, dtype=probed[i].dtype,
            meta=_meta(probed[i]), adjust_chunks={names[-1]: size},
        )
        for at, (i, size) in enumerate(zip(places, sizes, strict=True))
    )  # fmt: skip


def _blockwise(
    function: Callable[..., Any], arrays: Sequence[Any], size: tuple[int, ...], like: Any = None
) -> Any:
    """Apply a function to blocks that lie beside each other; a vector is along the last axis."""
    names = tuple(range(arrays[0].ndim))
    pairs = [y for x in arrays for y in (x, names if x.ndim == len(names) else names[-1:])]
    return da.blockwise(
        function, names, *pairs, align_arrays=False, adjust_chunks={names[-1]: size},
        dtype=object if like is None else like.dtype,
        meta=_OBJECT(arrays[0]) if like is None else _meta(like),
    )  # fmt: skip


def _OBJECT(x: Any) -> np.ndarray:  # noqa: N802
    return np.empty((0,) * x.ndim, dtype=object)


def _meta(x: Array) -> Array:
    return x[(slice(0, 0),) * x.ndim]


def _empty(x: Any, width: int) -> Array:
    """Return an array like the blocks of another, without a row."""
    xp: Any = owner_of(x._meta).xp  # type: ignore[union-attr]
    return xp.zeros((*(1 if n == 1 else 0 for n in x.shape[:-1]), width), dtype=x.dtype)


def aligned(x: Any, z: Any) -> Any:
    """Return an operand in the blocks of z, along axes where it is not of length 1."""
    wanted = {}
    for axis, (have, want) in enumerate(zip(x.chunks, z.chunks, strict=True)):
        if have in ((1,), want):
            continue
        if not np.isnan((*have, *want)).any():
            wanted[axis] = want
        elif len(have) != len(want):
            raise ValueError(
                f"chunks: got {len(have)} along axis {axis} beside {len(want)} of the logits, not "
                "all of which have a known length; use compute_chunk_sizes(), or cut both alike"
            )
    return x.rechunk(wanted) if wanted else x


def starts(x: Any, axis: int) -> Any:
    """Return the position along an axis with which each block begins, in a block each."""
    lengths = x.chunks[axis]
    if not has_unknown((x.shape[axis],)):
        return da.from_array(np.cumsum((0, *lengths[:-1])), chunks=1)
    line = x[(*(0,) * axis, slice(None), *(0,) * (x.ndim - 1 - axis))]
    known = line.map_blocks(_length, chunks=((1,) * len(lengths),), dtype=np.int64)
    return da.cumsum(known, axis=0) - known


def _length(line: Array) -> np.ndarray:
    return np.asarray([line.shape[0]])
