"""The arrays of one side, laid out as rows: N positions of K classes, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xp_xent.backends import dtype_name

Floats = NDArray[np.float64]
Index = slice | NDArray[np.intp]
BLOCK = 1 << 16  # numbers that are walked at a time: they stay in cache


def take(view: Any, positions: tuple[int, ...], index: Index) -> NDArray[Any]:
    """Read rows of positions + (...), whose positions count as if they were one axis.

    Nothing but these rows is read or copied: a view with its axes moved has no flat form.
    """
    if len(positions) == 1:
        return np.asarray(view[index])
    if isinstance(index, slice):
        index = np.arange(*index.indices(int(np.prod(positions, dtype=np.int64))))
    return np.asarray(view[np.unravel_index(index, positions)])


def broadcasts(shape: Sequence[int], to: tuple[int, ...]) -> bool:
    """Tell if arrays of a shape broadcast to another."""
    try:
        return np.broadcast_shapes(tuple(shape), to) == to
    except ValueError:
        return False


@dataclass(frozen=True, eq=False)
class Case:
    """What a loss is given, with the classes last.

    Attributes
    ----------
    logits : array, shape positions + (K,)
        Of any floating dtype; it may be a memory map, and is then never held as a whole.
    labels : integer array, shape positions, or None
    probabilities : array, shape positions + (K,), or None
        One of the two is given.
    weight : ndarray, shape (K,), or None
    sample_weight, where : ndarray, shape positions, or None
    class_where : boolean array, shape positions + (K,), or None
        The classes that take part.
    axis : int
        Where the classes were, counted from the front.
    shared : bool
        Whether the sample weight has a share in the mean's denominator.
    """

    logits: Any
    labels: Any = None
    probabilities: Any = None
    weight: Any = None
    sample_weight: Any = None
    where: Any = None
    class_where: Any = None
    axis: int = -1
    shared: bool = True

    @property
    def positions(self) -> tuple[int, ...]:
        """The shape of the labels."""
        return tuple(self.logits.shape[:-1])

    @cached_property
    def count(self) -> int:
        """N, the number of rows."""
        return int(np.prod(self.positions, dtype=np.int64))

    @property
    def classes(self) -> int:
        """K."""
        return int(self.logits.shape[-1])

    @property
    def size(self) -> int:
        """How many logits there are."""
        return self.count * self.classes

    @property
    def dtype(self) -> str:
        """The logits' dtype, by name."""
        return dtype_name(self.logits.dtype)

    @cached_property
    def flat_labels(self) -> NDArray[np.int64]:
        """The labels, (N,)."""
        return np.asarray(self.labels, dtype=np.int64).reshape(-1)

    def blocks(self) -> Iterator[slice]:
        """Walk the rows."""
        step = max(1, BLOCK // self.classes)
        for start in range(0, self.count, step):
            yield slice(start, min(start + step, self.count))

    def rows(self, index: Index) -> Floats:
        """Read some rows of logits in float64, −inf where a class takes no part."""
        z, part = take(self.logits, self.positions, index).astype(np.float64), self.part(index)
        return z if part is None else np.where(part, z, -np.inf)

    def part(self, index: Index) -> NDArray[np.bool_] | None:
        """Tell which classes of some rows take part; None: all."""
        return None if self.class_where is None else take(self.class_where, self.positions, index)

    def masses(self, index: Index) -> Floats:
        """Read some rows of target probabilities in float64."""
        return take(self.probabilities, self.positions, index).astype(np.float64)

    def claimed(self, gradient: Any, index: Index) -> Floats:
        """Read some rows of a gradient that is laid out as the logits are."""
        return take(gradient, self.positions, index).astype(np.float64)

    def gradient(self, rows: Floats) -> Floats:
        """Give the part of a gradient by the rows' classes that the other side has."""
        return rows


class BinaryCase(Case):
    """Elements with a logit each: rows of two classes, the second one's logit being 0.

    `logits` and `probabilities` have a last axis of one.
    """

    @property
    def classes(self) -> int:
        """2: yes and no."""
        return 2

    def rows(self, index: Index) -> Floats:
        """Put the logit of 0 beside the element's own."""
        z = super().rows(index)
        return np.concatenate([z, np.zeros_like(z)], axis=-1)

    def masses(self, index: Index) -> Floats:
        """Put 1 − y beside y."""
        y = super().masses(index)
        return np.concatenate([y, 1.0 - y], axis=-1)

    def gradient(self, rows: Floats) -> Floats:
        """Leave out the slope by the 0."""
        return rows[..., :1]
