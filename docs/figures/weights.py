"""Precision against recall under three weights of the positives."""

from typing import Any

import numpy as np
from _fit import fit

from xp_xent import binary_cross_entropy_with_logits


def draw(axes: Any) -> None:
    """Fit 2000 rows of which about one in twelve is positive; judge on 8000 others."""
    rng = np.random.default_rng(2)
    features = np.concatenate([rng.normal(size=(10_000, 4)), np.ones((10_000, 1))], axis=1)
    odds = features @ np.asarray([1.2, -0.8, 0.5, 0.0, -3.0])
    y = (rng.logistic(size=10_000) < odds).astype(float)
    for weight, marker in ((1.0, "o"), (4.0, "s"), (12.0, "^")):
        loss = binary_cross_entropy_with_logits
        matrix = fit(loss, features[:2000], y[:2000], 1, 400, pos_weight=weight)
        logits = (features[2000:] @ matrix)[:, 0]
        order = np.argsort(-logits)
        hits = np.cumsum(y[2000:][order])
        precision, recall = hits / np.arange(1, len(hits) + 1), hits / hits[-1]
        (line,) = axes.plot(recall[20:], precision[20:], label=f"pos_weight={weight:g}")
        at = max(20, int((logits > 0).sum()) - 1)
        axes.plot(recall[at], precision[at], marker, color=line.get_color(), markersize=9)
    axes.set(xlabel="recall", ylabel="precision")
    axes.legend(title="mark: p > ½")
