"""Faults in the gradient: what is upstream, what is left out, what is rounded too early."""

from __future__ import annotations

from typing import Any

import numpy as np
from _fault import fault
from _sound import WIDE, Call, CrossEntropy, Odds

Array = Any


@fault("Cotangent", "gradient")
class ForgetsTheCotangent(CrossEntropy):
    """The gradient is that of the plain sum, whatever is upstream."""

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        return gradient


@fault("Cotangent", "gradient")
class FirstCotangentForAll(CrossEntropy):
    """What is upstream of the first row multiplies all of them."""

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        return gradient if cotangent is None else gradient * cotangent[:1]


@fault("Cotangent", "gradient")
class MeanOfTheCotangents(CrossEntropy):
    """The mean of what is upstream multiplies all rows."""

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        return gradient if cotangent is None else gradient * np.mean(cotangent)


@fault("Cotangent", "gradient")
class ForgetsTheScale(CrossEntropy):
    """A reduced loss is taken for the last step: a factor behind it is forgotten."""

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        none = call.reduction == "none"
        return super().pull_back(gradient, cotangent, call) if none else gradient


@fault("Reduction", "gradient")
class GradientOfTheSum(CrossEntropy):
    """The gradient of the mean is not divided."""

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        return super().divide(gradient, counted, WIDE(1), call)


@fault("GradientTarget", "gradient")
class ForgetsTheLabel(CrossEntropy):
    """The gradient is p, without the label's −1."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return super().row_gradient(a, odds, call) + a


@fault("GradientTarget", "gradient")
class WrongSign(CrossEntropy):
    """q − p: the loss is climbed."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return -super().row_gradient(a, odds, call)


@fault("GradientSum", "property")
class FiltersSmallEntries(CrossEntropy):
    """Entries below 2**-12 are left out, to save time."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        gradient = super().row_gradient(a, odds, call)
        return np.where(np.abs(gradient) < 2.0**-12, 0, gradient)


@fault("Ties", "gradient")
class ThroughTheMaximum(CrossEntropy):
    """A gradient goes through the shift, shared among equal maxima on one way only."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        top = call.logits == np.max(call.logits, axis=-1, keepdims=True)
        first = np.cumsum(top, axis=-1) * top == 1
        extra = top / np.sum(top, axis=-1, keepdims=True) - first
        return super().row_gradient(a, odds, call) + extra


@fault("HalfGradient", "gradient")
class GradientFormedInHalf(CrossEntropy):
    """p is rounded to the logits' dtype before the label's 1 is subtracted."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        p = odds.p.astype(np.float64).astype(call.own).astype(np.float64).astype(WIDE)
        return np.sum(a, axis=-1, keepdims=True) * p - a + self.penalty_pull(odds, call)


@fault("Unnormalised", "gradient")
class ForgetsTheMass(CrossEntropy):
    """p − q, where the probabilities' sum belongs before p."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return odds.p - a + self.penalty_pull(odds, call)


@fault("OneHot", "gradient")
class OneHotBySubtraction(CrossEntropy):
    """p − q of probabilities is a difference, that of labels is not."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        if not call.soft:
            return super().row_gradient(a, odds, call)
        return (odds.p.astype(call.compute) - a.astype(call.compute)).astype(WIDE)


@fault("ZLoss", "gradient")
class PenaltyWithoutGradient(CrossEntropy):
    """The penalty is in the value alone."""

    def penalty_pull(self, odds: Odds, call: Call) -> Array:
        return 0


@fault("Softcap", "gradient")
class CapWithoutSlope(CrossEntropy):
    """The derivative of the cap is left out."""

    def cap(self, z: Array, call: Call) -> tuple[Array, Array]:
        return super().cap(z, call)[0], np.ones_like(z)


@fault("Softcap", "gradient")
class SlopeBySubtraction(CrossEntropy):
    """1 − tanh² is 0 for saturated logits."""

    def cap(self, z: Array, call: Call) -> tuple[Array, Array]:
        capped, slope = super().cap(z, call)
        if call.softcap is None:
            return capped, slope
        tanh = (capped / call.softcap).astype(call.compute)
        return capped, (1 - tanh * tanh).astype(WIDE)


@fault("Softcap")
class HardCap(CrossEntropy):
    """Logits are clipped instead of bent."""

    def cap(self, z: Array, call: Call) -> tuple[Array, Array]:
        if call.softcap is None:
            return super().cap(z, call)
        return np.clip(z, -call.softcap, call.softcap), 1.0 * (np.abs(z) < call.softcap)


@fault("Smoothing", "gradient")
class GradientWithoutSmoothing(CrossEntropy):
    """The gradient is that of the labels alone."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        q = self.probabilities(call.targets, a.shape[-1], call)
        return super().row_gradient(q, odds, call)


@fault("WeightedMean", "gradient")
class GradientWithoutWeights(CrossEntropy):
    """Class weights are in the value alone."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        q = self.spread(self.probabilities(call.targets, a.shape[-1], call), call)
        return super().row_gradient(q, odds, call)


@fault("FactorRange", "gradient")
class SquaredDenominator(CrossEntropy):
    """The gradient of the mean is divided by the denominator's square."""

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        square = np.square(np.asarray(total).astype(call.compute))
        return super().divide(gradient * total, counted, square.astype(WIDE), call)


@fault("FactorRange", "gradient")
class FactorOverTheSum(CrossEntropy):
    """What multiplies a row is divided by Σ exp(z) first, for exp(z) to be multiplied once."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        self.whole = np.exp(np.where(np.abs(odds.lse) < 40, odds.lse, 0))  # others are shifted
        return odds

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        small = super().divide(gradient, counted, total, call) / self.whole
        return small.astype(call.compute).astype(WIDE) * self.whole
