"""A call of each loss with every option that is an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from _cases import BINARY, Case


def sample(loss: str, rows: int = 6, classes: int = 5) -> Case:
    """Give a call of a loss with every array option, the same each time."""
    rng = np.random.default_rng(13)
    logits = rng.normal(size=(rows, classes))
    labels, soft = rng.integers(0, classes, rows), rng.random((rows, classes))
    row, every = {"sample_weight": rng.random(rows)}, {"where": rng.random(rows) < 0.7}
    weight = {"weight": rng.random(classes)}
    if loss in BINARY:
        each = {"where": soft > 0.3, "sample_weight": rng.random(soft.shape)} | weight
        if loss == "binary_cross_entropy":
            return Case(loss, (rng.uniform(0.1, 0.9, soft.shape), soft), each)
        alpha = {"alpha": rng.random(classes)} if loss == "sigmoid_focal_loss" else {}
        return Case(loss, (logits, soft), each | {"pos_weight": rng.random(classes)} | alpha)
    if loss in ("kl_divergence", "entropy"):
        return Case(loss, (logits, soft) if loss == "kl_divergence" else (logits,), every)
    if loss == "jensen_shannon_divergence":
        return Case(loss, (logits, rng.normal(size=logits.shape)), row | every)
    if loss == "linear_cross_entropy":
        arrays: Any = (logits, rng.normal(size=(4, classes)), labels % 4)
        return Case(loss, arrays, row | every | {"bias": rng.normal(size=4)})
    if loss == "softmax_focal_loss":
        return Case(loss, (logits, labels), row | every | weight | {"alpha": rng.random(classes)})
    return Case(loss, (logits, labels), row | every | weight)
