"""An adapter whose arrays are parts of larger ones: what is reduced over classes or rows.

Kernels see a part of the classes, and the whole of them through what is overridden here. A
`Fabric` is how parts reach each other; all else of a library's adapter holds for a part as it is.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, Protocol

from xp_xent.backends._base import Array, Backend
from xp_xent.backends._row_sums import ExpSums, RowSums


class Fabric(Protocol):
    """How parts reach each other along one direction: the classes', or the rows'."""

    def count(self, here: int) -> Any:
        """Return a length of all parts, of which `here` are in this one; NaN: not known."""

    def first(self, here: int) -> Any:
        """Return how much of that length lies in the parts before this one."""

    def sum(self, *arrays: Array) -> tuple[Array, ...]:
        """Add arrays up over the parts, all of them in one exchange."""

    def max(self, x: Array) -> Array:
        """Return the maximum over the parts, constant to differentiation."""

    def min(self, x: Array) -> Array:
        """Return the minimum over the parts, constant to differentiation."""

    def sum_elsewhere(self, x: Array) -> Array:
        """Add an array up over all parts but this one."""


def merged_sums(
    xp: Any, row_max: Sequence[Array], other_sum: Sequence[Array], at_label: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """Merge what parts of the classes have of rows, in their order: all terms are positive.

    A part that is masked whole has a maximum of −∞, and a sum of 0 that stays 0. The label's logit
    is 0 in the parts that do not have it.
    """
    most = reduce(xp.maximum, row_max)
    level = to_subtract(xp, most)
    scaled = (x * xp.exp(part - level) for x, part in zip(other_sum, row_max, strict=True))
    return most, reduce(add, scaled), reduce(add, at_label)


def to_subtract(xp: Any, row_max: Array) -> Array:
    """Return the maximum of some classes; 0 where all of these are masked, and others not."""
    return xp.where(row_max == -xp.inf, 0.0, row_max)


class Part(Backend):
    """What stands before a library's adapter in the bases of that for its parts.

    Attributes
    ----------
    classes, rows : Fabric or None
        How parts reach each other; None where the classes, or the rows, are all here.
    num_classes : int or None
        Columns beyond are no classes, but fill the last part up; None: there are none.
    """

    classes: Fabric | None = None
    rows: Fabric | None = None
    num_classes: int | None = None

    @property
    def _rows(self) -> Fabric | None:
        return self.rows

    # Facts of the whole

    @property
    def _is_padded(self) -> bool:  # type: ignore[override]
        return self.num_classes is not None

    def _column_count(self, here: int) -> Any:
        return here if self.classes is None else self.classes.count(here)

    def _class_count(self, here: int) -> Any:
        columns = self._column_count(here)
        if self.num_classes is None:
            return columns
        if isinstance(columns, int) and self.num_classes > columns:  # others do not compare
            raise ValueError(
                f"num_classes: got {self.num_classes}, wanted at most {columns}, as many as there "
                "are columns in all parts"
            )
        return self.num_classes

    def _has_whole_rows(self, here: int) -> bool:
        return bool(self._column_count(here) == here == self._class_count(here))

    def _row_count(self, shape: tuple[int, ...]) -> Any:
        here: Any = super()._row_count(shape)
        return here if self.rows is None else self.rows.count(here)

    def indices(self, x: Array, axis: int | None = None) -> Array:
        found = super().indices(x, axis)
        if axis is not None or self.classes is None:
            return found
        return found + self.classes.first(x.shape[self.class_axis])

    def _classes_here(self, x: Array, here: int) -> Array:
        if self.classes is None and not self._is_padded:
            return x
        first = 0 if self.classes is None else self.classes.first(here)
        place = self._arange(here, x) + first
        # What a column that is no class has does not matter.
        return self.xp.take(x, self.xp.minimum(place, x.shape[0] - 1), axis=0)

    def _of_elements(self) -> Any:
        if self.classes is None and not self._is_padded:
            return self
        raise ValueError(
            "split: got classes= or num_classes= for a loss whose elements stand alone; wanted "
            "rows= alone, over everything that its arrays are split over"
        )

    # Reductions

    def _over_classes(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays if self.classes is None else self.classes.sum(*arrays)

    def _over_rows(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays if self.rows is None else self.rows.sum(*arrays)

    def total(self, x: Array) -> Array:
        found = super().total(x)
        return found if self.rows is None else self.rows.sum(found)[0]

    def row_sum(self, x: Array) -> Array:
        found = super().row_sum(x)
        return found if self.classes is None else self.classes.sum(found)[0]

    def _sum_elsewhere(self, x: Array) -> Array | float:
        return 0.0 if self.classes is None else self.classes.sum_elsewhere(super().row_sum(x))

    def _row_max(self, x: Array) -> Array:
        found = super()._row_max(x)
        return found if self.classes is None else self.classes.max(found)

    def _row_argmax(self, x: Array) -> Array:
        if self.classes is None:
            return super()._row_argmax(x)
        x, axis = self.stop_gradient(x), self.class_axis
        none = self.classes.count(x.shape[axis])
        # The first of the places where the maximum is; of a NaN that of the first NaN.
        largest = (x == self._row_max(x)) | (x != x)
        places = self.xp.where(largest, self.indices(x), none)
        return self.classes.min(self.xp.min(places, axis=axis, keepdims=True))

    def take_label(self, x: Array, index: Array) -> Array:
        if self.classes is None:
            return super().take_label(x, index)
        return self.row_sum(self.xp.where(self.indices(x) == index, x, 0))

    def set_at_label(self, x: Array, index: Array, value: Any) -> Array:
        if self.classes is None:
            return super().set_at_label(x, index, value)
        return Backend.set_at_label(self, x, index, value)

    def other_sums(self, p: Array, at_reference: Any, whole: Any = 1.0) -> Array:
        return Backend.other_sums(self, p, at_reference, whole)

    # The statistic of a row

    def exp_sums(self, z: Array, reference: Array | None, dtype: Any, **how: Any) -> ExpSums:
        # Not as a library's adapter may: without the maximum, say, on which all parts agree.
        return RowSums.exp_sums(self, z, reference, dtype, **how)

    def _summed(self, exps: Array, z: Array, reference: Array) -> tuple[Array, Array]:
        if self.classes is None:
            return super()._summed(exps, z, reference)
        at_reference = self.xp.where(self.indices(z) == reference, z, 0)
        one, other = self.classes.sum(*(Backend.row_sum(self, x) for x in (exps, at_reference)))
        return one, other

    def _exps(self, z: Array, level: Array | float, reference: Array) -> tuple[Array, ...]:
        if self.classes is None:
            return super()._exps(z, level, reference)
        return RowSums._exps(self, z, level, reference)
