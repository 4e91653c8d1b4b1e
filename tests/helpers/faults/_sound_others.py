"""Sound versions of the losses beside cross-entropy, built of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from _sound import WIDE, Array, Call, CrossEntropy, Odds, sigmoid, wide
from _sound_binary import Binary


class NextToken(CrossEntropy):
    """Each row is scored against the token of the next; the last one is not."""

    function = "next_token_cross_entropy"

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        if call.where is not None:
            call.where = call.where[..., 1:]
        if call.sample_weight is not None:
            call.sample_weight = call.sample_weight[..., 1:]
        if call.class_where is not None:
            call.class_where = np.broadcast_to(call.class_where, logits.shape)[..., :-1, :]
        value, gradient = super().solve(logits[..., :-1, :], targets[..., 1:], call)
        return value, np.concatenate([gradient, np.zeros_like(logits[..., -1:, :])], axis=-2)


class NegativeLogLikelihood(CrossEntropy):
    """−log p of the label, where the log-probabilities are given."""

    function = "nll_loss"

    def odds(self, z: Array, call: Call) -> Odds:
        return Odds(-z, np.zeros_like(z), np.ones_like(z), z[:, :1])


class Focal(CrossEntropy):
    """(1 − p)**γ times −log p of each class that has mass."""

    function = "softmax_focal_loss"

    def __call__(
        self, logits: Array, targets: Array, /, alpha: Array = None, gamma: float = 2.0, **rest: Any
    ) -> tuple[Array, Array]:
        self.alpha, self.gamma = alpha, WIDE(gamma)
        return super().__call__(logits, targets, **rest)

    def focus(self, a: Array, odds: Odds, call: Call) -> tuple[Array, Array]:
        """Give each class's factor, and what multiplies p − onehot in the gradient of its term."""
        alpha = WIDE(1) if self.alpha is None else wide(self.alpha)
        factor = alpha * odds.miss**self.gamma
        bent = np.where(odds.miss > 0, self.gamma * odds.miss ** (self.gamma - 1), 0)
        return factor, factor + alpha * np.where(a != 0, odds.surprise, 0) * odds.p * bent

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return super().row_loss(a * self.focus(a, odds, call)[0], odds, call)

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return super().row_gradient(a * self.focus(a, odds, call)[1], odds, call)


class Divergence(CrossEntropy):
    """Σ q (log q − log p)."""

    function = "kl_divergence"

    def __call__(
        self,
        logits: Array,
        targets: Array,
        /,
        log_targets: bool = False,
        normalized: bool = False,
        **rest: Any,
    ) -> tuple[Array, Array]:
        self.normalized = normalized
        targets = np.exp(wide(targets)) if log_targets else targets
        return super().__call__(logits, targets, **rest)

    def odds(self, z: Array, call: Call) -> Odds:
        if not self.normalized:
            return super().odds(z, call)
        return Odds(-z, np.zeros_like(z), np.ones_like(z), z[:, :1])

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        log_q = np.log(np.where(a > 0, a, 1))
        return super().row_loss(a, odds, call) + np.sum(a * log_q, axis=-1)


class JensenShannon(CrossEntropy):
    """β KL(q ‖ m) + (1 − β) KL(p ‖ m), q of the other logits."""

    function = "jensen_shannon_divergence"

    def __call__(
        self, logits: Array, targets: Array, /, beta: float = 0.5, **rest: Any
    ) -> tuple[Array, Array]:
        self.beta = WIDE(beta)
        return super().__call__(logits, targets, **rest)

    def parts(self, a: Array, odds: Odds, call: Call) -> tuple[Array, Array]:
        """Give what each class adds, and the slope by p."""
        other, beta = self.odds(self.cap(a, call)[0], call), self.beta
        m = beta * other.p + (1 - beta) * odds.p
        m = np.where(m > 0, m, 1)
        surprise = [np.where(x.p > 0, x.surprise, 0) for x in (odds, other)]
        by_p = (1 - beta) * (-surprise[0] - np.log(m))
        return odds.p * by_p + beta * other.p * (-surprise[1] - np.log(m)), by_p

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return np.sum(self.parts(a, odds, call)[0], axis=-1)

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        by_p = self.parts(a, odds, call)[1]
        return odds.p * (by_p - np.sum(odds.p * by_p, axis=-1, keepdims=True))


class Poly(CrossEntropy):
    """−log p of each class that has mass, and epsilon (1 − p)."""

    function = "poly_cross_entropy"

    def __call__(
        self, logits: Array, targets: Array, /, epsilon: float = 2.0, **rest: Any
    ) -> tuple[Array, Array]:
        self.epsilon = WIDE(epsilon)
        return super().__call__(logits, targets, **rest)

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        terms = odds.surprise + self.epsilon * odds.miss
        return np.sum(np.where(a != 0, a * terms, 0), axis=-1)

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return super().row_gradient(a * (1 + self.epsilon * odds.p), odds, call)


class Entropy(CrossEntropy):
    """What −log p is on average."""

    function = "entropy"

    def __call__(self, logits: Array, /, **options: Any) -> tuple[Array, Array]:
        rows = np.delete(logits.shape, options.get("axis", -1))
        return super().__call__(logits, np.zeros(rows, dtype=int), **options)

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return np.sum(np.where(odds.p > 0, odds.p * odds.surprise, 0), axis=-1)

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return odds.p * (odds.surprise - self.row_loss(a, odds, call)[:, None])


class Linear(CrossEntropy):
    """Behind a linear layer; the gradient is that of the features."""

    function = "linear_cross_entropy"

    def __call__(
        self, features: Array, classifier: Array, targets: Array, /, bias: Any = 0.0, **rest: Any
    ) -> tuple[Array, Array]:
        logits = wide(features) @ wide(classifier).T + wide(bias)
        value, gradient = super().__call__(logits, targets, **rest)
        return value, gradient @ wide(classifier)


class OfProbabilities(Binary):
    """Binary cross-entropy of probabilities."""

    function = "binary_cross_entropy"

    def terms(self, z: Array, call: Call) -> tuple[Array, Array]:
        return -np.log(z), -np.log1p(-z)

    def gradient(self, z: Array, masses: tuple[Array, Array], call: Call) -> Array:
        (positive, negative), rest = masses, 1 - z
        by_hit = positive / np.where(positive == 0, 1, z)
        return negative / np.where(negative == 0, 1, rest) - by_hit


class SigmoidFocal(Binary):
    """The binary loss times a power of the probability that the target does not have."""

    function = "sigmoid_focal_loss"

    def __call__(
        self, logits: Array, targets: Array, /, alpha: Any = None, gamma: float = 2.0, **rest: Any
    ) -> tuple[Array, Array]:
        self.alpha = None if alpha is None else wide(np.asarray(alpha))
        self.gamma = WIDE(gamma)
        return super().__call__(logits, targets, **rest)

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        # What multiplies the binary loss's terms has no part in the focus, nor in alpha's share.
        y = self.targets(targets, call)
        self.plain = y, 1 - y
        return super().solve(logits, targets, call)

    def share(self, masses: tuple[Array, Array]) -> Array:
        """Give the weight of the class."""
        return 1 if self.alpha is None else self.alpha * masses[0] + (1 - self.alpha) * masses[1]

    def missed(self, z: Array, masses: tuple[Array, Array]) -> Array:
        """Give the probability that the target does not have."""
        return masses[0] * sigmoid(-z) + masses[1] * sigmoid(z)

    def bend(self, u: Array, by_z: Array, loss: Array, call: Call) -> Array:
        """Give the slope of u**γ, times the binary loss."""
        return self.gamma * u ** (self.gamma - 1) * by_z * loss

    def loss(self, z: Array, masses: tuple[Array, Array], call: Call) -> Array:
        focus = self.missed(z, self.plain) ** self.gamma
        return self.share(self.plain) * focus * super().loss(z, masses, call)

    def gradient(self, z: Array, masses: tuple[Array, Array], call: Call) -> Array:
        y, other = self.plain
        u, by_z = self.missed(z, self.plain), (other - y) * sigmoid(z) * sigmoid(-z)
        slope = u**self.gamma * super().gradient(z, masses, call)
        slope = slope + self.bend(u, by_z, super().loss(z, masses, call), call)
        return self.share(self.plain) * slope
