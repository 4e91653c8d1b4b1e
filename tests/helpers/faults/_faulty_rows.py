"""Faults with rows and labels: which count, which are none, along which axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from _fault import fault
from _sound import WIDE, Call, CrossEntropy

Array = Any

# Rows that do not count


@fault("IgnoredRow")
class MeanOverAllRows(CrossEntropy):
    """Ignored rows are in the mean's denominator."""

    def total(self, shares: Array, call: Call) -> Array:
        plain = call.reduction == "mean" and call.normalizer is None
        return WIDE(len(shares)) if plain else super().total(shares, call)


@fault("IgnoredRow")
class GradientOfIgnoredRows(CrossEntropy):
    """Ignored rows have no loss, but a gradient."""

    def mask_gradient(self, gradient: Array, counted: Array) -> Array:
        return gradient

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        return gradient / total


@fault("IgnoredRow")
class MultipliesByTheMask(CrossEntropy):
    """The mask is a factor of 0, and 0 times NaN is NaN."""

    def mask(self, x: Array, counted: Array) -> Array:
        return x * counted


@fault("IgnoredRow")
class ForgetsTheMask(CrossEntropy):
    """where= is accepted and not used."""

    def counts(self, targets: Array, call: Call) -> Array:
        call.where = None
        return super().counts(targets, call)


@fault("IgnoredRow", "error", "value", "gradient")
class FixedIgnoreIndex(CrossEntropy):
    """ignore_index is always −100."""

    def counts(self, targets: Array, call: Call) -> Array:
        call.ignore_index = -100
        return super().counts(targets, call)


@fault("NothingCounted")
class NothingCountedIsZero(CrossEntropy):
    """The mean of nothing is 0, which hides an empty batch."""

    def total(self, shares: Array, call: Call) -> Array:
        total = super().total(shares, call)
        return WIDE(1) if total == 0 else total


@fault("Empty")
class NoRowsAreZero(CrossEntropy):
    """The mean over no rows is 0."""

    def total(self, shares: Array, call: Call) -> Array:
        return super().total(shares, call) if len(shares) else WIDE(1)


# Labels


@fault("LabelRange", "no error")
class WrapsLabels(CrossEntropy):
    """Negative labels count from the end."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        wrapped = np.where(labels.astype(np.int64) < 0, labels + classes, labels)
        return super().labels(wrapped, counted, classes)


@fault("LabelRange", "no error")
class ClampsLabels(CrossEntropy):
    """Labels out of range become the first or the last class."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        return super().labels(np.clip(labels.astype(np.int64), 0, classes - 1), counted, classes)


@fault("LabelRange", "no error")
class NarrowsLabels(CrossEntropy):
    """Labels are converted to int32, in which 2**32 + 1 is class 1."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        return super().labels(labels.astype(np.int32), counted, classes)


@fault("LabelRange", "no error")
class IgnoresNegativeLabels(CrossEntropy):
    """Every negative label is taken for an ignored one."""

    def counts(self, targets: Array, call: Call) -> Array:
        counted = super().counts(targets, call)
        return counted if call.soft else counted & (targets >= 0)


@fault("LabelRange", "no error")
class OneHotOfNothing(CrossEntropy):
    """A label out of range gives a one-hot row of zeros, and so a loss of 0."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        self.inside = (labels >= 0) & (labels < classes)
        return super().labels(np.where(self.inside, labels, 0), counted, classes)

    def probabilities(self, targets: Array, classes: int, call: Call) -> Array:
        q = super().probabilities(targets, classes, call)
        return q if call.soft else q * self.inside[:, None]


@fault("LabelDtype")
class PositionsInTheLabelsDtype(CrossEntropy):
    """Row times classes plus label is computed in the labels' dtype, which overflows."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        sound = super().labels(labels, counted, classes)
        flat = (np.arange(len(labels)) * classes).astype(labels.dtype) + labels
        return np.where(counted, flat.astype(np.int64) % classes, sound)


@fault("LabelDtype", "error")
class OnlyInt64(CrossEntropy):
    """Labels of other integer dtypes are refused."""

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        if labels.dtype != np.int64:
            raise TypeError("expected int64")
        return super().labels(labels, counted, classes)


@fault("WrongKind", "no error")
class BroadcastsLabels(CrossEntropy):
    """Labels of shape (N, 1) are taken, and whatever else has as many elements."""

    def fits(self, z: Array, targets: Array, call: Call) -> None:
        if not call.soft and targets.size != z.size // z.shape[-1]:
            raise ValueError("shapes do not fit")


@fault("Axis", "error", "value", "gradient")
class LastAxisAlways(CrossEntropy):
    """axis= is accepted and not used."""

    def axis_of(self, call: Call) -> int:
        return -1
