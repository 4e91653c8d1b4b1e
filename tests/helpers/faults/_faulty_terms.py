"""Faults in the terms: smoothing, weights, denominators, probabilities, penalties."""

from __future__ import annotations

from typing import Any

import numpy as np
from _fault import fault
from _sound import WIDE, Call, CrossEntropy, Odds, wide

Array = Any

# Smoothing


@fault("SmoothingIgnored")
class SmoothsIgnoredRows(CrossEntropy):
    """The smoothed part is added for ignored rows too."""

    def mask(self, x: Array, counted: Array) -> Array:
        return super().mask(x, counted) + np.where(counted, 0, self.epsilon * np.abs(x))

    def spread(self, q: Array, call: Call) -> Array:
        self.epsilon = WIDE(call.label_smoothing)
        return super().spread(q, call)


@fault("SmoothingKind")
class OthersAsUniform(CrossEntropy):
    """ε/K, where ε/(K − 1) on the other classes is asked for."""

    def spread(self, q: Array, call: Call) -> Array:
        call.smoothing = "uniform"
        return super().spread(q, call)


@fault("SmoothingKind")
class UniformAsOthers(CrossEntropy):
    """ε/(K − 1) on the other classes, where ε/K is asked for."""

    def spread(self, q: Array, call: Call) -> Array:
        call.smoothing = "others"
        return super().spread(q, call)


@fault("SmoothingKind")
class SmoothingKeepsTheLabel(CrossEntropy):
    """ε/K is added, and nothing taken from the label."""

    def spread(self, q: Array, call: Call) -> Array:
        return q + WIDE(call.label_smoothing) / q.shape[-1]


@fault("SmoothingWeights")
class SmoothedTermsHaveTheLabelsWeight(CrossEntropy):
    """The label's weight multiplies the whole smoothed loss."""

    def masses(self, q: Array, call: Call) -> Array:
        if call.weight is None or call.soft:
            return super().masses(q, call)
        return self.spread(q, call) * wide(call.weight)[call.targets][:, None]


@fault("SmoothingWeights")
class SmoothedDenominator(CrossEntropy):
    """The mean divides by the smoothed weights, not by the labels'."""

    def masses(self, q: Array, call: Call) -> Array:
        self.sums = np.sum(super().masses(q, call), axis=-1)
        return super().masses(q, call)

    def shares(self, once: Array, call: Call) -> Array:
        smoothed = call.weight is not None and not call.soft and call.label_smoothing
        return once * self.sums if smoothed else super().shares(once, call)


# Weights


@fault("WeightedMean")
class WeightedMeanByCount(CrossEntropy):
    """The mean of weighted rows divides by their number."""

    def shares(self, once: Array, call: Call) -> Array:
        return once


@fault("WeightedMean")
class ProbabilitiesMeanByWeight(CrossEntropy):
    """The mean of rows of probabilities divides by their weighted mass."""

    def masses(self, q: Array, call: Call) -> Array:
        self.sums = np.sum(super().masses(q, call), axis=-1)
        return super().masses(q, call)

    def shares(self, once: Array, call: Call) -> Array:
        return once * self.sums if call.soft else super().shares(once, call)


@fault("ClassWeight")
class WeightTwice(CrossEntropy):
    """Class weights multiply target and loss."""

    def masses(self, q: Array, call: Call) -> Array:
        a = super().masses(q, call)
        return a if call.weight is None else a * wide(call.weight)


@fault("ClassWeight")
class NormalisedWeights(CrossEntropy):
    """Class weights are divided by their sum first."""

    def masses(self, q: Array, call: Call) -> Array:
        a = super().masses(q, call)
        return a if call.weight is None else a / np.sum(wide(call.weight))


@fault("SampleWeight")
class SampleWeightsByCount(CrossEntropy):
    """The mean of weighted samples divides by their number."""

    def shares(self, once: Array, call: Call) -> Array:
        return super().shares(np.ones_like(once), call)


@fault("SampleWeight")
class SampleWeightsOnlyDivide(CrossEntropy):
    """Sample weights change the denominator alone."""

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        once = self.once(len(a), call)
        return super().row_loss(a, odds, call) / np.where(once == 0, 1, once)


# Denominators


@fault("Reduction")
class SumIsMean(CrossEntropy):
    """reduction="sum" gives the mean."""

    def total(self, shares: Array, call: Call) -> Array:
        return np.sum(shares) if call.reduction == "sum" else super().total(shares, call)


@fault("Normalizer")
class IgnoresTheNormalizer(CrossEntropy):
    """normalizer= is accepted and not used: an accumulated batch is weighted wrongly."""

    def total(self, shares: Array, call: Call) -> Array:
        call.normalizer = None
        return super().total(shares, call)


@fault("Normalizer")
class NormalizesTheMean(CrossEntropy):
    """The mean is divided once more by the given denominator."""

    def total(self, shares: Array, call: Call) -> Array:
        total = super().total(shares, call)
        return total if call.normalizer is None else total * np.sum(shares)


# Probabilities, penalties


@fault("Unnormalised")
class NormalisesProbabilities(CrossEntropy):
    """Probabilities are divided by their sum."""

    def probabilities(self, targets: Array, classes: int, call: Call) -> Array:
        q = super().probabilities(targets, classes, call)
        return q / np.sum(q, axis=-1, keepdims=True)


@fault("Probabilities")
class LikeliestLabel(CrossEntropy):
    """Rows of probabilities are reduced to their largest entry."""

    def probabilities(self, targets: Array, classes: int, call: Call) -> Array:
        q = super().probabilities(targets, classes, call)
        return np.eye(classes, dtype=WIDE)[np.argmax(q, axis=-1)]


@fault("ZLoss")
class WeightedPenalty(CrossEntropy):
    """The penalty is class-weighted like the loss."""

    def penalty(self, odds: Odds, call: Call) -> Array:
        if call.weight is None or call.soft:
            return super().penalty(odds, call)
        return super().penalty(odds, call) * wide(call.weight)[call.targets]


@fault("ZLoss")
class PenaltyNotSquared(CrossEntropy):
    """λ·|lse| instead of λ·lse²."""

    def penalty(self, odds: Odds, call: Call) -> Array:
        return WIDE(call.z_loss) * np.abs(odds.lse[:, 0])


@fault("ZLoss")
class PenaltyBySum(CrossEntropy):
    """The penalty has no share of the mean's denominator: it is added up."""

    def total(self, shares: Array, call: Call) -> Array:
        self.rows = super().total(shares, call)
        return self.rows

    def reduce(self, losses: Array, total: Array, call: Call) -> Array:
        return super().reduce(losses, total, call) + (0 if not call.z_loss else WIDE(call.z_loss))
