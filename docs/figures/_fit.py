"""Fit a linear classifier by steps against the gradient, for the figures."""

from typing import Any

import numpy as np

from xp_xent import value_and_grad


def fit(loss: Any, features: Any, targets: Any, classes: int, steps: int, **options: Any) -> Any:
    """Give the classifier's matrix (D, classes)."""
    matrix = np.zeros((features.shape[1], classes))
    for _ in range(steps):
        logits = features @ matrix
        slope = value_and_grad(loss)(logits.reshape(targets.shape + (classes,) * (classes > 1)), targets, **options)[1]
        matrix -= features.T @ slope.reshape(logits.shape)
    return matrix
