"""Faults in the values: cancellation, overflow, clipping, precision, masked classes, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
from _fault import fault
from _sound import WIDE, Call, CrossEntropy, Odds

Array = Any


class Narrow(CrossEntropy):
    """Computes log p, p and 1 − p in the dtype that a computation has."""

    def log_p(self, z: Array, call: Call) -> Array:
        shifted = z - np.max(z, axis=-1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))

    def odds(self, z: Array, call: Call) -> Odds:
        log_p = self.log_p(z.astype(call.compute), call)
        p = np.exp(log_p)
        lse = super().odds(z, call).lse
        return Odds(-log_p.astype(WIDE), p.astype(WIDE), (1 - p).astype(WIDE), lse)


@fault("Confident")
class LogSoftmaxBySubtraction(Narrow):
    """z − max − log Σ exp: the common log-softmax; a confident row's loss is 0."""


@fault("Confident")
class MissBySubtraction(CrossEntropy):
    """The label's gradient entry is p − 1, from a rounded p."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        p = odds.p.astype(call.compute)
        return Odds(odds.surprise, odds.p, (1 - p).astype(WIDE), odds.lse)


@fault("Clamped")
class LogOfSoftmax(Narrow):
    """log(softmax(z)): −inf as soon as p underflows."""

    def log_p(self, z: Array, call: Call) -> Array:
        e = np.exp(z - np.max(z, axis=-1, keepdims=True))
        return np.log(e / np.sum(e, axis=-1, keepdims=True))


@fault("Clamped")
class ClippedProbability(CrossEntropy):
    """p is clipped to [1e-7, 1 − 1e-7] before the logarithm."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        surprise = -np.log(np.clip(odds.p, WIDE(1e-7), 1 - WIDE(1e-7)))
        return Odds(surprise, odds.p, odds.miss, odds.lse)


@fault("Clamped")
class EpsilonInLogarithm(CrossEntropy):
    """log(p + 1e-10)."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        return Odds(-np.log(odds.p + WIDE(1e-10)), odds.p, odds.miss, odds.lse)


@fault("SharedOffset")
class NoShift(Narrow):
    """exp(z) without the shift by the maximum: it overflows, and underflows."""

    def log_p(self, z: Array, call: Call) -> Array:
        return z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))


@fault("SharedOffset")
class LogSumExpMinusLogit(Narrow):
    """lse(z) − z: every digit is lost to a shared offset."""

    def log_p(self, z: Array, call: Call) -> Array:
        top = np.max(z, axis=-1, keepdims=True)
        return z - (top + np.log(np.sum(np.exp(z - top), axis=-1, keepdims=True)))


@fault("Extreme")
class ShiftByLargestMagnitude(Narrow):
    """The shift is max|z|: rows of very negative logits underflow wholly."""

    def log_p(self, z: Array, call: Call) -> Array:
        shifted = z - np.max(np.abs(z), axis=-1, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


@fault("MaskedRow")
class RunningMaximumOfNothing(Narrow):
    """Blocks of four classes; a first block of −inf makes exp(−inf + inf) NaN."""

    def log_p(self, z: Array, call: Call) -> Array:
        top = np.full_like(z[:, :1], -np.inf)
        total = np.zeros_like(top)
        for start in range(0, z.shape[-1], 4):
            block = z[:, start : start + 4]
            new = np.maximum(top, np.max(block, axis=-1, keepdims=True))
            total = total * np.exp(top - new) + np.sum(np.exp(block - new), axis=-1, keepdims=True)
            top = new
        return (z - top) - np.log(total)


@fault("MaskedClass")
class ZeroTimesInfinity(CrossEntropy):
    """Σ q log p without a guard: 0 times −inf is NaN."""

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return np.sum(a * odds.surprise, axis=-1) + self.penalty(odds, call)


@fault("MaskedRow")
class MaskedRowIsZero(CrossEntropy):
    """A row of nothing but −inf has loss 0."""

    def broken(self, z: Array, call: Call) -> Array:
        return super().broken(z, call) & ~np.all(z == -np.inf, axis=-1)

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return np.nan_to_num(super().row_loss(a, odds, call), posinf=np.inf)


@fault("Overflow")
class HidesNaN(CrossEntropy):
    """NaN and infinities among the logits become numbers."""

    def prepare(self, logits: Array) -> Array:
        return np.where(np.isnan(logits) | (logits == np.inf), logits.dtype.type(0), logits)


@fault("HalfPrecision")
class LossInHalf(CrossEntropy):
    """Each row's loss of half-precision logits is rounded to their dtype."""

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        loss = super().row_loss(a, odds, call)
        return loss.astype(np.float64).astype(call.own).astype(np.float64).astype(WIDE)


@fault("HalfAccumulation")
class SumInHalf(Narrow):
    """Σ exp is accumulated in the logits' dtype, one class after the other."""

    def log_p(self, z: Array, call: Call) -> Array:
        shifted = (z - np.max(z, axis=-1, keepdims=True)).astype(call.own)
        total = np.zeros(len(z), dtype=call.own)
        for e in np.exp(shifted).T:
            total = (total + e).astype(call.own)
        return shifted.astype(call.compute) - np.log(total.astype(call.compute))[:, None]


@fault("HalfAccumulation")
class RowsSumInHalf(CrossEntropy):
    """Losses are added up in the logits' dtype."""

    def reduce(self, losses: Array, total: Array, call: Call) -> Array:
        if call.reduction == "none" or call.own.itemsize > 2:
            return super().reduce(losses, total, call)
        return np.add.reduce(losses.astype(np.float64).astype(call.own)).astype(np.float64) / total


@fault("ManyClasses")
class DropsTheRemainder(CrossEntropy):
    """A loop over vectors of eight classes forgets what is left over."""

    def odds(self, z: Array, call: Call) -> Odds:
        kept = z.copy()
        if z.shape[-1] > 8:
            kept[:, z.shape[-1] // 8 * 8 :] = -np.inf
        return super().odds(kept, call)


@fault("NegativeLoss", "property")
class DenominatorWithoutTheClass(CrossEntropy):
    """The log-sum-exp is that of the other classes: a confident row's loss is negative."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        return Odds(np.log(odds.miss) - np.log(odds.p), odds.p, odds.miss, odds.lse)


@fault("Dtype", "dtype")
class AlwaysFloat64(CrossEntropy):
    """float32 logits give a float64 loss."""

    def value_dtype(self, call: Call) -> Any:
        return np.float64


@fault("Dtype", "dtype")
class LossInTheLogitsDtype(CrossEntropy):
    """Half-precision logits give a half-precision loss."""

    def value_dtype(self, call: Call) -> Any:
        return call.own


@fault("Dtype", "dtype")
class GradientInTheLossDtype(CrossEntropy):
    """Half-precision logits give a float32 gradient."""

    def gradient_dtype(self, call: Call) -> Any:
        return call.compute


@fault("Dtype")
class AlwaysSinglePrecision(CrossEntropy):
    """float64 logits are computed in float32."""

    def prepare(self, logits: Array) -> Array:
        return logits.astype(np.float32) if logits.dtype == np.float64 else logits


@fault("Mutation", "mutation")
class ShiftsInPlace(CrossEntropy):
    """The maximum is subtracted from the caller's logits."""

    def prepare(self, logits: Array) -> Array:
        logits -= np.max(logits, axis=-1, keepdims=True)
        return logits


@fault("IgnoredRow", "mutation")
class CleansLabelsInPlace(CrossEntropy):
    """Ignored labels are set to 0 in the caller's array."""

    def counts(self, targets: Array, call: Call) -> Array:
        counted = super().counts(targets, call)
        if not call.soft:
            targets[~counted] = 0
        return counted


@fault("Deterministic", "property")
class DifferentEveryTime(CrossEntropy):
    """Rows are added up in an order that changes from call to call."""

    calls = 0

    def reduce(self, losses: Array, total: Array, call: Call) -> Array:
        DifferentEveryTime.calls += 1
        value = super().reduce(losses, total, call)
        return value * (1 + 3 * np.finfo(call.compute).eps * (self.calls % 2))
