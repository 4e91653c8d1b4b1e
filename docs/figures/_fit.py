"""Fit a linear classifier by steps against the gradient, for the figures."""

from typing import Any

import numpy as np

from xp_xent import value_and_grad


def fit(loss: Any, features: Any, targets: Any, classes: int, steps: int, **options: Any) -> Any:
    """Give the classifier's matrix (D, classes)."""
    matrix = np.zeros((features.shape[1], classes))
    shape = targets.shape + ((classes,) if classes > 1 else ())
    slope_of = value_and_grad(loss)
    for _ in range(steps):
        logits = features @ matrix
        slope = slope_of(logits.reshape(shape), targets, **options)[1]
        matrix -= features.T @ slope.reshape(logits.shape)
    return matrix
