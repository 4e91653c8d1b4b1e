"""How often a model is right against how sure it is, with and without smoothing."""

from typing import Any

import numpy as np
from _fit import fit

from xp_xent import cross_entropy, softmax


def draw(axes: Any) -> None:
    """Fit 60 noisy rows of 40 features, which is overfitted, and judge it on 6000 others."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=(40, 3)) * 0.4
    features = rng.normal(size=(6060, 40))
    labels = (features @ true + rng.gumbel(size=(6060, 3))).argmax(axis=1)
    axes.plot([0.3, 1], [0.3, 1], color="0.7", label="what is right")
    for smoothing, marker in ((0.0, "o"), (0.3, "s")):
        matrix = fit(cross_entropy, features[:60], labels[:60], 3, 400, label_smoothing=smoothing)
        p = softmax(features[60:] @ matrix)
        sure, right = p.max(axis=1), p.argmax(axis=1) == labels[60:]
        bins = np.digitize(sure, np.linspace(0.3, 1, 9))
        used = [b for b in np.unique(bins) if (bins == b).sum() > 30]
        points = np.asarray([(sure[bins == b].mean(), right[bins == b].mean()) for b in used])
        axes.plot(*points.T, marker=marker, label=f"label_smoothing={smoothing}")
    axes.set(xlabel="probability of the answer", ylabel="share of right answers")
    axes.legend()
