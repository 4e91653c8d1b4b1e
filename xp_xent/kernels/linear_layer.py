"""A linear layer before a softmax: its logits, and how their derivatives are carried back."""

import math
from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True)
class Layer:
    """A linear layer in the loss's dtype; its features are (..., D)."""

    backend: Any
    features: Array
    classifier: Array
    bias: Array | None
    weights: Array  # the classifier in the loss's dtype
    dtype: Any

    def widened(self, array: Array) -> Array:
        """Convert to the loss's dtype."""
        return self.backend.cast(array, self.dtype)

    def flat(self, features: Array) -> Array:
        """View features (..., D) as (n, D)."""
        if len(features.shape) == 2:
            return features
        *rows, size = features.shape
        # Of no elements, the rows cannot be told from the rest.
        return self.backend.xp.reshape(features, (-1 if size else math.prod(rows), size))

    def forward(self, features: Array) -> Array:
        """Multiply features (n, D) to (n, K), without the bias."""
        return self.backend.xp.matmul(features, self.backend.xp.matrix_transpose(self.weights))

    def logits(self, features: Array) -> Array:
        """Compute the logits (n, K) of features (n, D)."""
        logits = self.forward(features)
        return logits if self.bias is None else logits + self.widened(self.bias)[None, :]

    def by_features(self, slope: Array, *, whole: bool = True) -> Array:
        """Carry a derivative by the logits back to the features, in their dtype.

        The `whole` of it, or what the classes in this part give.
        """
        found = self.backend.xp.matmul(slope, self.weights)
        if whole:
            (found,) = self.backend._over_classes(found)
        return self.backend.cast(found, self.features.dtype)
