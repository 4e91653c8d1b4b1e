"""CatBoost's objectives: derivatives of what is maximised, as Python's own numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent import hessian, value_and_grad
from xp_xent.integrations._boosting import BoostedLoss

Array = Any


# Not frozen: CatBoost notes on the objective whether it compiled it.
@dataclass
class CatBoostMulticlass:
    """What `catboost_objective` returns for K scores an example."""

    loss: BoostedLoss

    def calc_ders_multi(
        self, approxes: Array, target: Any, weight: float
    ) -> tuple[list[float], list[list[float]]]:
        """Return first and second derivatives of an example's −loss."""
        scores = np.asarray(approxes, dtype=np.float64)[None, :]
        arranged = self.loss.arrange(scores, np.atleast_1d(target), None)
        call = self.loss.options | {"reduction": "sum"}
        _, gradient = value_and_grad(self.loss.loss)(*arranged[:2], **call)
        curvature = hessian(self.loss.loss)(*arranged[:2], **call)
        return (-weight * gradient[0]).tolist(), (-weight * curvature[0]).tolist()


@dataclass
class CatBoostBinary:
    """What `catboost_objective` returns for one score an example."""

    loss: BoostedLoss

    def calc_ders_range(
        self, approxes: Array, targets: Array, weights: Array | None
    ) -> list[tuple[float, float]]:
        """Return first and second derivatives of each example's −loss."""
        scores, labels = (np.asarray(x, dtype=np.float64) for x in (approxes, targets))
        weight = None if weights is None else np.asarray(weights, dtype=np.float64)
        derivatives = self.loss.gradient_and_curvature(scores, labels, weight, "diagonal")
        return list(zip(*(-d for d in derivatives), strict=True))
