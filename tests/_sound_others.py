"""Sound versions of the losses beside cross-entropy, built of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from _sound import WIDE, Array, Call, CrossEntropy, Odds, wide


class NextToken(CrossEntropy):
    """Each row is scored against the token of the next; the last one is not."""

    function = "next_token_cross_entropy"

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        value, gradient = super().solve(logits[:-1], targets[1:], call)
        return value, np.concatenate([gradient, np.zeros_like(logits[-1:])])


class NegativeLogLikelihood(CrossEntropy):
    """−log p of the label, where the log-probabilities are given."""

    function = "nll_loss"

    def odds(self, z: Array, call: Call) -> Odds:
        return Odds(-z, np.zeros_like(z), np.ones_like(z), z[:, :1])


class Focal(CrossEntropy):
    """(1 − p)**γ times −log p of the label."""

    function = "softmax_focal_loss"

    def __call__(
        self, logits: Array, targets: Array, /, alpha: Array = None, gamma: float = 2.0, **rest: Any
    ) -> tuple[Array, Array]:
        self.alpha, self.gamma = alpha, WIDE(gamma)
        return super().__call__(logits, targets, **rest)

    def focus(self, a: Array, odds: Odds, call: Call) -> tuple[Array, Array]:
        """Give each row's factor, and what multiplies p − onehot in its gradient."""
        miss, p, loss = (np.sum(a * x, axis=-1) for x in (odds.miss, odds.p, odds.surprise))
        alpha = 1 if self.alpha is None else wide(self.alpha)[call.targets]
        factor = alpha * miss**self.gamma
        return factor, factor + alpha * self.gamma * loss * p * miss ** (self.gamma - 1)

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return self.focus(a, odds, call)[0] * super().row_loss(a, odds, call)

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return self.focus(a, odds, call)[1][:, None] * super().row_gradient(a, odds, call)


class Divergence(CrossEntropy):
    """Σ q (log q − log p)."""

    function = "kl_divergence"

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        log_q = np.log(np.where(a > 0, a, 1))
        return super().row_loss(a, odds, call) + np.sum(a * log_q, axis=-1)
