"""Faults of binary cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from _fault import fault
from _sound import WIDE, Call, wide
from _sound_binary import Binary

Array = Any
Pair = tuple[Array, Array]


@fault("BinaryExtreme", "value")
class LogOfSigmoid(Binary):
    """log(σ(z)) and log(1 − σ(z)), from a rounded σ."""

    def terms(self, z: Array, call: Call) -> Pair:
        p = 1 / (1 + np.exp(-z.astype(call.compute)))
        return -np.log(p).astype(WIDE), -np.log(1 - p).astype(WIDE)


@fault("BinaryExtreme", "gradient")
class SigmoidMinusTarget(Binary):
    """σ(z) − y: exactly 0 for a confident element that is right."""

    def slopes(self, z: Array, call: Call) -> Pair:
        p = (1 / (1 + np.exp(-z))).astype(call.compute)
        return (1 - p).astype(WIDE), p.astype(WIDE)


@fault("BinaryExtreme", "value")
class ReluForm(Binary):
    """max(z, 0) − z·y + log1p(exp(−|z|)): NaN at −inf, and a difference for soft targets."""

    def loss(self, z: Array, masses: Pair, call: Call) -> Array:
        x = z.astype(call.compute)
        positive, negative = masses
        total = (positive + negative).astype(call.compute)
        part = (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))) * total
        return (part - x * positive.astype(call.compute)).astype(WIDE)


@fault("BinaryExtreme", "gradient")
class NoDerivativeAtZero(Binary):
    """The derivative of max(z, 0) and |z| at exactly 0 is taken to be 0."""

    def gradient(self, z: Array, masses: Pair, call: Call) -> Array:
        return np.where(z == 0, -masses[0], super().gradient(z, masses, call))


@fault("BinaryExtreme", "value")
class ExpOverflows(Binary):
    """log1p(exp(z)) without a bound: +inf from 89 on in float32."""

    def terms(self, z: Array, call: Call) -> Pair:
        x = z.astype(call.compute)
        return np.log1p(np.exp(-x)).astype(WIDE), np.log1p(np.exp(x)).astype(WIDE)


@fault("Clamped", "value")
class LogarithmNotBelow100(Binary):
    """Each logarithm is at least −100."""

    def terms(self, z: Array, call: Call) -> Pair:
        left, right = super().terms(z, call)
        return np.minimum(left, 100), np.minimum(right, 100)


@fault("BinarySymmetry", "value")
class OneSidedSoftplus(Binary):
    """−log σ(z) is softplus(z) − z: positives lose digits that negatives keep."""

    def terms(self, z: Array, call: Call) -> Pair:
        negative = super().terms(z, call)[1].astype(call.compute)
        return (negative - z.astype(call.compute)).astype(WIDE), negative.astype(WIDE)


@fault("BinarySymmetry", "gradient")
class OneSidedGradient(Binary):
    """1 − σ(z) is a difference, σ(z) is not."""

    def slopes(self, z: Array, call: Call) -> Pair:
        p = super().slopes(z, call)[1].astype(call.compute)
        return (1 - p).astype(WIDE), p.astype(WIDE)


@fault("PosWeight")
class PosWeightOnNegatives(Binary):
    """The weight for positives multiplies the negatives' term."""

    def weights(self, y: Array, call: Call) -> Pair:
        w, p = (1 if x is None else wide(x) for x in (call.weight, call.pos_weight))
        return w * y, w * p * (1 - y)


@fault("PosWeight")
class PosWeightOnBoth(Binary):
    """The weight for positives multiplies everything."""

    def weights(self, y: Array, call: Call) -> Pair:
        w, p = (1 if x is None else wide(x) for x in (call.weight, call.pos_weight))
        return w * p * y, w * p * (1 - y)


@fault("PosWeight", "gradient")
class PosWeightWithoutGradient(Binary):
    """The weight for positives is in the value alone."""

    def gradient(self, z: Array, masses: Pair, call: Call) -> Array:
        p = 1 if call.pos_weight is None else wide(call.pos_weight)
        return super().gradient(z, (masses[0] / np.where(p == 0, 1, p), masses[1]), call)


@fault("BinaryMean")
class MeanByWeight(Binary):
    """The mean divides by the sum of the weights."""

    def shares(self, counted: Array, call: Call) -> Array:
        weight = 1 if call.weight is None else wide(call.weight)
        return counted * weight


@fault("BinaryMean")
class MeanOverRows(Binary):
    """Elements of a row are added up, and the mean is over rows."""

    def total(self, shares: Array, call: Call) -> Array:
        total = super().total(shares, call)
        plain = call.reduction == "mean" and call.normalizer is None
        return total / shares.shape[-1] if plain and shares.ndim > 1 else total


@fault("Smoothing")
class SmoothsByTheWhole(Binary):
    """y(1 − ε) + ε, as if there were one class."""

    def targets(self, targets: Array, call: Call) -> Array:
        return super().targets(targets, call) + WIDE(call.label_smoothing) / 2


@fault("IgnoredRow")
class MaskedElementsCount(Binary):
    """Masked elements are in the mean's denominator."""

    def shares(self, counted: Array, call: Call) -> Array:
        return np.ones(counted.shape, dtype=WIDE)


@fault("IgnoredRow")
class MaskIsAFactor(Binary):
    """0 times NaN is NaN."""

    def mask(self, x: Array, counted: Array) -> Array:
        return x * counted


@fault("NothingCounted", "value")
class NoElementIsZero(Binary):
    """The mean of no element is 0."""

    def total(self, shares: Array, call: Call) -> Array:
        return np.maximum(super().total(shares, call), 1)


@fault("LabelDtype")
class NegatesInTheTargetsDtype(Binary):
    """1 − y is computed as −(y − 1) in the targets' dtype: 0 − 1 in uint8 is 255."""

    def targets(self, targets: Array, call: Call) -> Array:
        if targets.dtype.kind == "u":
            return 1 + wide(targets - targets.dtype.type(1))
        return super().targets(targets, call)


@fault("Cotangent", "gradient")
class ForgetsTheElementsCotangent(Binary):
    """The gradient is that of the plain sum."""

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        return gradient


@fault("HalfGradient", "gradient")
class BinaryGradientInHalf(Binary):
    """σ(z) is rounded to the logits' dtype, then the target is subtracted."""

    def slopes(self, z: Array, call: Call) -> Pair:
        p = super().slopes(z, call)[1].astype(np.float64).astype(call.own)
        p = p.astype(np.float64).astype(WIDE)
        return 1 - p, p


@fault("Dtype", "dtype")
class BinaryLossInFloat64(Binary):
    """float32 logits give a float64 loss."""

    def value_dtype(self, call: Call) -> Any:
        return np.float64


@fault("Mutation", "mutation")
class SmoothsInPlace(Binary):
    """Smoothing is written into the caller's targets."""

    def targets(self, targets: Array, call: Call) -> Array:
        smooth = super().targets(targets, call)
        if targets.dtype.kind == "f":
            targets *= 0.5
        return smooth
