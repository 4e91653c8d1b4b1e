"""Faults of the other losses; and in every loss, gradients rounded twice or formed in half."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from _fault import fault
from _faulty_gradients import GradientFormedInHalf
from _sound import WIDE, Array, Call, CrossEntropy, Loss, Odds, sigmoid
from _sound_binary import Binary
from _sound_others import Divergence, Focal, NegativeLogLikelihood, NextToken, SigmoidFocal

OTHER_HALF = {"float16": ml_dtypes.bfloat16, "bfloat16": np.float16}


class RoundedTwice(Loss):
    """The gradient is right in float32, and rounded to the one half precision by the other."""

    def finish(
        self, value: Array, gradient: Array, call: Call, shapes: tuple[Any, Any]
    ) -> tuple[Array, Array]:
        if call.own.name in OTHER_HALF:
            gradient = np.asarray(gradient, np.float64).astype(OTHER_HALF[call.own.name])
        return super().finish(value, gradient.astype(np.float64), call, shapes)


HALVED = (CrossEntropy, Binary, NextToken, NegativeLogLikelihood, Focal, Divergence, SigmoidFocal)
for _base in HALVED:
    _name = f"{_base.__name__}RoundedTwice"
    fault("HalfGradient", "gradient")(
        type(_name, (RoundedTwice, _base), {"__doc__": RoundedTwice.__doc__})
    )


@fault("HalfGradient", "gradient")
class NextTokenFormedInHalf(NextToken, GradientFormedInHalf):
    """p is rounded before the label's 1 is subtracted."""


@fault("HalfGradient", "gradient")
class DivergenceFormedInHalf(Divergence, GradientFormedInHalf):
    """p is rounded before q is subtracted."""


@fault("HalfGradient", "gradient")
class FocalFormedInHalf(Focal):
    """The factor of the gradient and p − onehot are formed in the logits' dtype."""

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        p, onehot = (x.astype(np.float64).astype(call.own) for x in (odds.p, a))
        slope = np.sum(a * self.focus(a, odds, call)[1], axis=-1, keepdims=True)
        slope = slope.astype(np.float64).astype(call.own)
        return (slope * (p - onehot)).astype(np.float64).astype(WIDE)


@fault("HalfGradient", "gradient")
class NllMeanInHalf(NegativeLogLikelihood):
    """Weights and their sum are rounded to the logits' dtype, and divided in it."""

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        own, whole = (np.asarray(x, np.float64).astype(call.own) for x in (gradient, total))
        return np.where(counted, (own / whole).astype(np.float64), 0).astype(WIDE)


@fault("Confident", "value", "gradient")
class FocalOfOneMinusP(Focal):
    """1 − p is a difference from 1."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        miss = (1 - odds.p.astype(call.compute)).astype(WIDE)
        return Odds(odds.surprise, odds.p, miss, odds.lse)


@fault("Confident")
class DivergenceOfLogSoftmax(Divergence):
    """log p is a logit minus the log-sum-exp."""

    def odds(self, z: Array, call: Call) -> Odds:
        odds = super().odds(z, call)
        log_p = z.astype(call.compute) - odds.lse.astype(call.compute)
        return Odds(-log_p.astype(WIDE), odds.p, odds.miss, odds.lse)


@fault("IgnoredRow")
class NextTokenMeanOverAll(NextToken):
    """The mean divides by the tokens, whether they count or not."""

    def total(self, shares: Array, call: Call) -> Array:
        return super().total(np.ones_like(shares), call)


@fault("Reduction", "value", "gradient", "shape")
class NextTokenUnshifted(NextToken):
    """Each row is scored against its own token."""

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        return CrossEntropy.solve(self, logits, targets, call)


@fault("Reduction")
class DivergenceOfElements(Divergence):
    """The mean is over elements, not over rows."""

    def total(self, shares: Array, call: Call) -> Array:
        wide = call.targets.shape[-1] if call.reduction == "mean" else 1
        return super().total(shares, call) * wide


@fault("ClassWeight")
class FocalAlphaTwice(Focal):
    """alpha multiplies the loss twice."""

    def focus(self, a: Array, odds: Odds, call: Call) -> tuple[Array, Array]:
        alpha = 1 if self.alpha is None else np.asarray(self.alpha, np.float64)
        factor, slope = super().focus(a, odds, call)
        return factor * alpha, slope * alpha


@fault("BinaryExtreme", "value", "gradient")
class SigmoidFocalOfOneMinusP(SigmoidFocal):
    """The probability that a target does not have is a difference from 1."""

    def missed(self, z: Array, masses: tuple[Array, Array]) -> Array:
        p, q = sigmoid(z).astype(np.float32), sigmoid(-z).astype(np.float32)
        return (masses[0] * (1 - p) + masses[1] * (1 - q)).astype(WIDE)


@fault("Focus", "gradient")
class PowersInTheFormat(SigmoidFocal):
    """u**(γ − 1) overflows, and p (1 − p) times the loss, which it multiplies, is 0."""

    def bend(self, u: Array, by_z: Array, loss: Array, call: Call) -> Array:
        own, by_z, loss = (x.astype(call.compute) for x in (u, by_z, loss))
        power = own ** float(self.gamma - 1)
        return (float(self.gamma) * power * (by_z * loss)).astype(WIDE)


@fault("Focus", "gradient")
class FocusWithoutSlope(SigmoidFocal):
    """The focus is taken for a weight that does not depend on the logits."""

    def bend(self, u: Array, by_z: Array, loss: Array, call: Call) -> Array:
        return WIDE(0)


@fault("Focus")
class FocusOnTheLikelierClass(SigmoidFocal):
    """A target between 0 and 1 is rounded where the focus looks at it."""

    def missed(self, z: Array, masses: tuple[Array, Array]) -> Array:
        return sigmoid(np.where(masses[0] > 0.5, -z, z))


@fault("ClassWeight")
class AlphaOfBothClasses(SigmoidFocal):
    """Negatives are weighted by alpha too, not by the rest of it."""

    def share(self, masses: tuple[Array, Array]) -> Array:
        return 1 if self.alpha is None else self.alpha
