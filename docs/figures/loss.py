"""Loss against the probability of the true class."""

from typing import Any

import numpy as np

from xp_xent import cross_entropy, softmax_focal_loss


def draw(axes: Any) -> None:
    """Draw cross-entropy, smoothed, and focal."""
    p = np.linspace(0.005, 0.995, 200)
    logits, label = np.log(np.stack([p, 1 - p], axis=-1)), np.zeros(200, dtype=int)
    rows = {"reduction": "none"}
    axes.plot(p, cross_entropy(logits, label, **rows), label="cross-entropy, −log p")
    smooth = cross_entropy(logits, label, label_smoothing=0.1, **rows)
    axes.plot(p, smooth, label="smoothed, ε = 0.1", linestyle="--")
    axes.plot(p, softmax_focal_loss(logits, label, **rows), label="focal, γ = 2", linestyle=":")
    axes.set(xlabel="probability of the true class", ylabel="loss, nats", ylim=(0, 5))
    axes.legend()
