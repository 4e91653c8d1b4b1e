"""Faults of the maps: derivatives that cancel, logarithms that are clipped, what is shared."""

from __future__ import annotations

import numpy as np
from _fault import fault
from _sound import Array, Odds, sigmoid, wide
from _sound_maps import LogSigmoid, LogSoftmax, LogSumExp, Sigmoid, Softmax


@fault("MapDerivative", "gradient")
class SoftmaxOfSquares(Softmax):
    """p c − p Σ p c: for one class, p − p², which is 0 where p rounds to 1."""

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        p, c = self.narrow(odds.p), self.narrow(c)
        return p * c - p * np.sum(p * c, axis=-1, keepdims=True)


@fault("MapDerivative", "gradient")
class SoftmaxOfDifferences(Softmax):
    """p (c − Σ p c)."""

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        p, c = self.narrow(odds.p), self.narrow(c)
        return p * (c - np.sum(p * c, axis=-1, keepdims=True))


@fault("MapDerivative", "gradient")
class LogSoftmaxOfDifferences(LogSoftmax):
    """c − p Σ c: for one class, 1 − p."""

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        p, c = self.narrow(odds.p), self.narrow(c)
        return c - p * np.sum(c, axis=-1, keepdims=True)


@fault("MapDerivative", "gradient")
class SigmoidOfSquares(Sigmoid):
    """p − p²."""

    def slope(self, z: Array) -> Array:
        p = self.narrow(sigmoid(z))
        return wide(p - p * p)


@fault("MapDerivative", "gradient")
class LogSigmoidOfDifference(LogSigmoid):
    """1 − p."""

    def slope(self, z: Array) -> Array:
        return wide(1 - self.narrow(sigmoid(z)))


@fault("Cotangent", "gradient")
class SoftmaxForgetsTheCotangent(Softmax):
    """The cotangent is taken for ones."""

    def upstream(self, c: Array) -> Array:
        return np.ones_like(c)


@fault("Ties", "gradient")
class LogSumExpThroughTheMaximum(LogSumExp):
    """A gradient goes through the shift, to the first of equal maxima on one way only."""

    def pull(self, z: Array, odds: Odds, c: Array) -> Array:
        top = z == np.max(z, axis=-1, keepdims=True)
        first = np.cumsum(top, axis=-1) * top == 1
        return c * (odds.p + top / np.sum(top, axis=-1, keepdims=True) - first)


@fault("MaskedRow", "gradient")
class LogSumExpOfNothing(LogSumExp):
    """exp(−inf + inf) makes the slope of a masked row NaN."""

    def gradient(self, z: Array, odds: Odds, c: Array, broken: Array) -> Array:
        return c * np.exp(z - odds.lse)


@fault("Confident", "value")
class LogSoftmaxMinusLogSum(LogSoftmax):
    """z − max − log Σ exp: a sure class has 0."""

    def row(self, z: Array, odds: Odds) -> Array:
        shifted = self.narrow(z - np.max(z, axis=-1, keepdims=True))
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


@fault("Confident", "value")
class LogOfSoftmaxMap(LogSoftmax):
    """log(softmax(x))."""

    def row(self, z: Array, odds: Odds) -> Array:
        return np.log(self.narrow(odds.p))


@fault("Confident", "value")
class ClippedLogSoftmax(LogSoftmax):
    """p is clipped to [1e-7, 1] before the logarithm."""

    def row(self, z: Array, odds: Odds) -> Array:
        return np.maximum(-odds.surprise, np.log(1e-7))


@fault("Confident", "value")
class LogOfSigmoidMap(LogSigmoid):
    """log(sigmoid(x))."""

    def value(self, z: Array) -> Array:
        return np.log(self.narrow(sigmoid(z)))


@fault("Confident", "value")
class ClippedSigmoid(Sigmoid):
    """x is clipped to ±15 before the exponential."""

    def value(self, z: Array) -> Array:
        return sigmoid(np.clip(z, -15, 15))


@fault("Overflow", "value")
class SigmoidOfQuotient(Sigmoid):
    """exp(x)/(1 + exp(x)): NaN at infinity."""

    def value(self, z: Array) -> Array:
        return np.exp(z) / (1 + np.exp(z))


@fault("SharedOffset", "value")
class LogSumExpWithoutShift(LogSumExp):
    """log Σ exp(x) as it stands overflows."""

    def row(self, z: Array, odds: Odds) -> Array:
        return np.log(np.sum(np.exp(self.narrow(z)), axis=-1, keepdims=True))


@fault("SharedOffset", "value")
class SoftmaxWithoutShift(Softmax):
    """exp(x) as it stands overflows."""

    def row(self, z: Array, odds: Odds) -> Array:
        e = np.exp(self.narrow(z))
        return e / np.sum(e, axis=-1, keepdims=True)


@fault("Axis", "value", "gradient")
class SoftmaxAlongTheLastAxis(Softmax):
    """The axis is taken for the last one."""

    def axis_of(self, axis: int) -> int:
        return -1


@fault("Overflow", "value")
class SoftmaxHidesNaN(Softmax):
    """A row with NaN becomes numbers."""

    def value(self, z: Array, odds: Odds, broken: Array) -> Array:
        return np.nan_to_num(super().value(z, odds, broken))


@fault("MaskedClass", "value")
class MaskIsLarge(LogSoftmax):
    """−inf is replaced by −1e4."""

    def row(self, z: Array, odds: Odds) -> Array:
        return np.maximum(-odds.surprise, -1e4)


@fault("MapDerivative", "property")
class SoftmaxIsNotNormalised(Softmax):
    """What is added up to divide by leaves something out."""

    def row(self, z: Array, odds: Odds) -> Array:
        return odds.p * 1.001


@fault("SharedOffset", "property")
class LogSoftmaxMinusLogSumExp(LogSoftmax):
    """x − lse(x): every digit is lost to a shared offset."""

    def row(self, z: Array, odds: Odds) -> Array:
        return self.narrow(z) - self.narrow(odds.lse)
