"""Sound binary cross-entropy, by the same steps of which each can be spoiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from _sound import WIDE, Array, Call, Loss, sigmoid, softplus, wide


class Binary(Loss):
    """Binary cross-entropy."""

    function = "binary_cross_entropy_with_logits"

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Array, Array]:
        return super().__call__(logits, targets, **{"ignore_index": None, **options})

    def targets(self, targets: Array, call: Call) -> Array:
        epsilon = WIDE(call.label_smoothing)
        return wide(targets) * (1 - epsilon) + epsilon / 2

    def terms(self, z: Array, call: Call) -> tuple[Array, Array]:
        """Give −log σ(z) and −log(1 − σ(z))."""
        return softplus(-z), softplus(z)

    def slopes(self, z: Array, call: Call) -> tuple[Array, Array]:
        """Give 1 − σ(z) and σ(z)."""
        return sigmoid(-z), sigmoid(z)

    def weights(self, y: Array, call: Call) -> tuple[Array, Array]:
        """Give what multiplies the terms of positives and negatives."""
        w, p = (1 if x is None else wide(x) for x in (call.weight, call.pos_weight))
        return w * p * y, w * (1 - y)

    def loss(self, z: Array, masses: tuple[Array, Array], call: Call) -> Array:
        pairs = zip(masses, self.terms(z, call), strict=True)
        positive, negative = (np.where(a != 0, a * term, 0) for a, term in pairs)
        return positive + negative

    def gradient(self, z: Array, masses: tuple[Array, Array], call: Call) -> Array:
        (positive, negative), (miss, p) = masses, self.slopes(z, call)
        return negative * p - positive * miss

    def counts(self, targets: Array, call: Call) -> Array:
        counted = np.ones(targets.shape, dtype=bool) if call.where is None else call.where
        return counted if call.ignore_index is None else counted & (targets != call.ignore_index)

    def shares(self, counted: Array, call: Call) -> Array:
        return counted * self.once(call)

    def once(self, call: Call) -> Array:
        """Give each element's own weight in the mean."""
        return WIDE(1) if call.sample_weight is None else wide(call.sample_weight)

    def mask(self, x: Array, counted: Array) -> Array:
        return np.where(counted, x, 0)

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        if targets.shape != logits.shape:
            raise ValueError("shapes do not fit")
        z, y = wide(logits), self.targets(targets, call)
        counted, masses = self.counts(targets, call), self.weights(y, call)
        if (counted & ((targets < 0) | (targets > 1))).any():
            raise ValueError("a target is out of range")
        losses = self.mask(self.loss(z, masses, call) * self.once(call), counted)
        gradient = self.mask(self.gradient(z, masses, call) * self.once(call), counted)
        broken = np.isnan(z) & counted
        losses, gradient = (np.where(broken, np.nan, x) for x in (losses, gradient))
        total = self.total(self.shares(counted, call), call)
        gradient = self.divide(gradient, counted, total, call)
        cotangent = None if call.cotangent is None else wide(call.cotangent)
        gradient = self.pull_back(gradient, cotangent, call)
        value = self.reduce(losses, total, call)
        return self.finish(value, gradient, call, (z.shape, z.shape))
