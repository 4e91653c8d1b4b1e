"""Minus the mean loss of a classifier's log-probabilities, as scikit-learn calls a scorer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from xp_xent.integrations._softmax_regression import on_host

Array = Any


@dataclass(frozen=True)
class CrossEntropyScorer:
    """What `cross_entropy_scorer` returns."""

    loss: Callable[..., Array]
    options: dict[str, Any]

    def __call__(
        self, estimator: Any, X: Array, y: Array, sample_weight: Array | None = None
    ) -> float:
        """Return the negative mean loss."""
        log_probabilities = _log_probabilities(estimator, X)
        xp = array_namespace(log_probabilities)
        classes, labels = on_host(estimator.classes_), on_host(y)
        codes = np.clip(np.searchsorted(classes, labels), None, len(classes) - 1)
        if np.any(unknown := classes[codes] != labels):
            raise ValueError(f"y: got {labels[unknown][0]}, which the classifier has not seen")
        codes = xp.asarray(codes, device=device(log_probabilities))
        value = self.loss(log_probabilities, codes, sample_weight=sample_weight, **self.options)
        return -float(value)


def _log_probabilities(estimator: Any, X: Array) -> Array:
    """Return them; of probabilities of 0 they are −inf."""
    if hasattr(estimator, "predict_log_proba"):
        return estimator.predict_log_proba(X)
    with np.errstate(divide="ignore"):
        probabilities = estimator.predict_proba(X)
        return array_namespace(probabilities).log(probabilities)
