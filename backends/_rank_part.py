"""Adapters for parts of arrays that lie with PyTorch's ranks: on NumPy's kernels, or PyTorch's.

A label's loss is two walks around one exchange. The first sums up the exponentials of the classes
that are here:

    top = max z_j        rest = Σ exp(z_j − top) over the classes but the label's        own = z_y

with 0 for `own` where the label is elsewhere. Those of all ranks are merged in the order of the
ranks, a sum of positive terms in which the label's own is not; the second walk makes the gradient.
"""

from collections.abc import Callable
from typing import Any

from xp_xent.backends import _numpy, _rank_spread, _torch
from xp_xent.backends._base import Array
from xp_xent.backends._part import Part, merged_sums, to_subtract
from xp_xent.backends._ranks import HostRanks, Ranks
from xp_xent.backends._row_sums import ExpSums, RowSums


class RankPart(Part):
    """What both have in common; `local` is the adapter of the library for what is here."""

    local: Any
    classes: Any
    rows: Any
    _totals: dict[int, tuple[Array, Array]]  # by identity, with what was summed up

    @classmethod
    def of(cls, local: Any, classes: Ranks | None, rows: Ranks | None) -> Any:
        """Return the adapter for parts that these ranks have."""
        new = cls.__new__(cls)
        new.__dict__.update(local.__dict__)
        new.local, new.classes, new.rows, new._totals = local, classes, rows, {}
        return new

    def _at_axis(self, axis: int) -> Any:
        new: Any = super()._at_axis(axis)
        if new is not self:
            new.local = self.local._at_axis(axis)
        return new

    def can_read_values(self, array: Array) -> bool:
        # What a rank sees in its values must not change what it exchanges.
        return False

    def total(self, x: Array) -> Array:
        # A denominator is asked for by the loss and by its gradient, and summed up once.
        if self.rows is None or (hasattr(x, "requires_grad") and x.requires_grad):
            return super().total(x)
        known = self._totals.get(id(x))
        if known is None or known[0] is not x:
            known = self._totals[id(x)] = x, super().total(x)
        return known[1]

    def _classes_here(self, x: Array, here: int) -> Array:
        if self.classes is None:
            return x
        first = self.classes.first(here)
        return x[first : first + here]

    # Of the size of features or a classifier, what ranks have is added up at the end, once.

    def _over_classes(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays

    def _over_rows(self, *arrays: Array) -> tuple[Array, ...]:
        return arrays

    # Reductions over the classes of several ranks

    def _row_max(self, x: Array) -> Array:
        if self.classes is None:
            return super()._row_max(x)
        return self.classes.max(self._largest_here(x)[0])

    def _row_argmax(self, x: Array) -> Array:
        if self.classes is None:
            return super()._row_argmax(x)
        x = self.stop_gradient(x)
        largest, index = self._largest_here(x)
        index = index + self.classes.first(x.shape[self.class_axis])
        values, places = self.classes.gather(largest, index)
        found, at, where = values[0], places[0], self.xp.where
        for value, place in zip(values[1:], places[1:], strict=True):
            # Ties go to the first; so do NaN, before all numbers.
            take = (value > found) | ((value != value) & (found == found))
            found, at = where(take, value, found), where(take, place, at)
        return at

    def _largest_here(self, x: Array) -> tuple[Array, Array]:
        """Return the maximum over the classes here and where it is; −inf of no classes."""
        if x.shape[self.class_axis] == 0:
            none = self.local.row_sum(x)
            return none - self.xp.inf, self.cast(none, self.indices(x).dtype)
        index = self.local._row_argmax(x)
        return self.local.take_label(x, index), index

    # Rows are not cut where each block would exchange for itself

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **how: Any
    ) -> Any:
        if self.classes is None:
            return super().map_blocks(function, rows, *operands, **how)
        return function(rows, *operands)

    def exp_sums(self, z: Array, reference: Array | None, dtype: Any, **how: Any) -> ExpSums:
        if self.classes is None:
            return super(Part, self).exp_sums(z, reference, dtype, **how)
        if self.differentiable or reference is None or how.get("need", "exps") == "exps":
            return RowSums.exp_sums(self, z, reference, dtype, **how)
        return self._merged(z, reference, dtype)

    def exp_gradient(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        if self.classes is None:
            return super().exp_gradient(sums, factor, entry, valid, dtype)
        return RowSums.exp_gradient(self, sums, factor, entry, valid, dtype)

    def _spread_sums(self, rows: Any, dtype: Any) -> Any:
        # A row of classes as the last axis, whose elements nobody differentiates one by one.
        if self.classes is None or self.differentiable or rows.label is None:
            return None
        return None if rows.class_valid is not None else _rank_spread.sums(self, rows, dtype)

    def spread_gradient(self, *given: Any) -> Array:
        """Return the gradient of rows that `_spread_sums` summed up."""
        return _rank_spread.gradient(self, *given)

    def _merged(self, z: Array, reference: Array, dtype: Any) -> ExpSums:
        """Sum up the classes that are here, block by block, and merge what the ranks have."""
        xp, (index, here) = self.xp, self._placed_here(z, reference)
        if z.shape[self.class_axis] == 0:
            none = self.cast(self.local.row_sum(z), dtype)
            found = none - xp.inf, none, none
        else:
            found = self.local.map_blocks(_sums(self.local, dtype), z, index, here)
        top, rest, own = merged_sums(xp, *self.classes.gather(*found))
        return ExpSums(z, reference, top, top, rest, own - top)

    def _gradient_again(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        if self.classes is None or self.differentiable:
            return super()._gradient_again(sums, factor, entry, valid, dtype)
        if sums.z.shape[self.class_axis] == 0:
            return self.cast(sums.z, dtype)
        index, here = self._placed_here(sums.z, sums.reference)
        step = _gradient(self.local, sums.row_max.dtype, dtype)
        operands = sums.level, index, here, factor, entry, valid
        return self.local.map_blocks(step, sums.z, *operands)

    def _placed_here(self, z: Array, reference: Array) -> tuple[Array, Array]:
        """Return where among the classes here a row's label is, and whether it is."""
        count = z.shape[self.class_axis]
        index = reference - self.classes.first(count)
        here = (index >= 0) & (index < count)
        return self.xp.where(here, index, 0), here


def _sums(local: Any, dtype: Any) -> Callable[..., tuple[Array, ...]]:
    xp = local.xp

    def on_block(z: Array, index: Array, here: Array) -> tuple[Array, ...]:
        z = local.kernel_layout(z, dtype)
        top = local._row_max(z)
        exps = local._exp(z, to_subtract(xp, top))
        left = xp.where(here, 0.0, local.take_label(exps, index))
        rest = local.row_sum(local.set_at_label(exps, index, left))
        return top, rest, xp.where(here, local.take_label(z, index), 0.0)

    return on_block


def _gradient(local: Any, dtype: Any, rounded: Any) -> Callable[..., Array]:
    def on_block(
        z: Array, level: Array, index: Array, here: Array, factor: Any, entry: Array, valid: Any
    ) -> Array:
        exps = local.scale_rows(local._exp(local.kernel_layout(z, dtype), level), factor)
        entry = local.xp.where(here, entry, local.take_label(exps, index))
        exps = local.set_at_label(exps, index, entry)
        return local.cast(local.scale_rows(exps, valid=valid), rounded)

    return on_block


class NumPyPart(RankPart, _numpy.NumPy):
    """NumPy's kernels on the memory of a rank's tensors."""

    differentiable = False

    @classmethod
    def of(cls, local: Any, classes: Ranks | None, rows: Ranks | None) -> Any:
        """Return the adapter for parts that these ranks have."""
        on_host = (x and HostRanks(x.groups, x.lengths) for x in (classes, rows))
        return super().of(local, *on_host)


class TorchPart(RankPart, _torch.Torch):
    """PyTorch's operations, on any device and under its compiler."""
