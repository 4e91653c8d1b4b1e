"""Large arrays in blocks of rows."""

import math
from collections.abc import Iterator

BLOCK = 1 << 20  # elements


def blocks(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice | int, ...]]:
    """Cut the axes of an array into indices of blocks, the last axes whole.

    Parameters
    ----------
    shape : tuple of int
        Of the axes to be cut.
    size : int
        Positions that a block may have; one position is always taken.

    Yields
    ------
    tuple of slice or int
        In the order of the array's positions.

    Examples
    --------
    >>> from xp_xent.flow.row_blocks import blocks
    >>> list(blocks((3, 4), 8))
    [(slice(0, 2, None),), (slice(2, 3, None),)]
    """
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner > size and len(shape) > 1:
        for first in range(shape[0]):
            for later in blocks(shape[1:], size):
                yield (first, *later)
        return
    step = max(1, size // max(inner, 1))
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])),)
