"""Boost trees with custom objectives, and reproduce the built-in ones of XGBoost and LightGBM.

A boosting library asks an objective for the gradient of the summed loss by each raw score, and
for the diagonal of its Hessian. `value_grad_and_hessian_diagonal` with `reduction="sum"` gives
both, for any loss here and any of its options. For two classes the diagonal, p(1 − p), is what the
built-in objectives use. For K classes XGBoost takes the sum of the magnitudes in a row of the whole
Hessian, `curvature="upper_bound"`, and LightGBM the diagonal times K/(K − 1), as Friedman (2001)
does. With these the training losses are the built-in ones.

    python examples/boosting.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import xgboost
from common import print_table, progress
from sklearn.datasets import load_breast_cancer, load_digits

from xp_xent import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    value_grad_and_hessian_diagonal,
)

ROUNDS, DEPTH, RATE = 10, 4, 0.3
FIVE_DIGITS = 5e-6

Objective = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Task(NamedTuple):
    """A data set, its loss, and the names that the libraries have for it."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    loss: Callable[..., Any]
    classes: int  # 1 score an example for two classes

    def objective(self, kind: str, factor: float = 1.0) -> Objective:
        """Give what a boosting library wants of raw scores: gradient and curvature."""
        newton = value_grad_and_hessian_diagonal(self.loss, kind)

        def gradient_and_curvature(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores = np.asarray(scores, dtype=np.float64)
            _, gradient, curvature = newton(scores, self.labels, reduction="sum")
            return gradient, factor * curvature

        return gradient_and_curvature


def tasks() -> list[Task]:
    cells, malignant = load_breast_cancer(return_X_y=True)
    images, digits = load_digits(return_X_y=True)
    return [
        Task("binary", cells, malignant, binary_cross_entropy_with_logits, 1),
        Task("multiclass", images, digits, cross_entropy, 10),
    ]


def with_xgboost(task: Task, custom: bool, show: Callable[[int, Any], None]) -> list[float]:
    """Return the training loss after each round."""
    data = xgboost.DMatrix(task.features, label=task.labels)
    options: dict[str, Any] = {"max_depth": DEPTH, "eta": RATE, "nthread": 1, "tree_method": "hist"}
    # Both start from scores of 0; the built-in binary objective counts in probabilities.
    if task.classes > 1:
        options |= {"num_class": task.classes, "base_score": 0.0}
        builtin = "multi:softprob"
    else:
        options["base_score"] = 0.0 if custom else 0.5
        builtin = "binary:logistic"
    if not custom:
        options["objective"] = builtin
    objective = task.objective("upper_bound")
    own = {"obj": lambda scores, _: objective(scores)} if custom else {}
    losses: list[float] = []

    class Record(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            scores = model.predict(data, output_margin=True)
            losses.append(float(task.loss(scores.astype(np.float64), task.labels)))
            show(epoch + 1, losses[-1])
            return False

    xgboost.train(options, data, ROUNDS, callbacks=[Record()], **own)
    return losses


def with_lightgbm(task: Task, custom: bool, show: Callable[[int, Any], None]) -> list[float]:
    """Return the training loss after each round."""
    data = lightgbm.Dataset(task.features, label=task.labels)
    options: dict[str, Any] = {"max_depth": DEPTH, "learning_rate": RATE, "num_threads": 1}
    # Start from scores of 0; and no histogram strategy that is chosen by timing.
    options |= {"boost_from_average": False, "force_col_wise": True, "verbosity": -1}
    if task.classes > 1:
        options["num_class"] = task.classes
        objective = task.objective("diagonal", factor=task.classes / (task.classes - 1))
        builtin = "multiclass"
    else:
        objective, builtin = task.objective("diagonal"), "binary"
    options["objective"] = (lambda scores, _: objective(scores)) if custom else builtin
    losses: list[float] = []

    def record(state: Any) -> None:
        scores = state.model.predict(task.features, raw_score=True)
        losses.append(float(task.loss(scores, task.labels)))
        show(state.iteration + 1, losses[-1])

    lightgbm.train(options, data, ROUNDS, callbacks=[record])
    return losses


def main() -> int:
    rows, worst = [], 0.0
    for task in tasks():
        for library, train in (("XGBoost", with_xgboost), ("LightGBM", with_lightgbm)):
            losses = {}
            for kind in ("built-in", "custom"):
                with progress(f"{library} {task.name} {kind}", ROUNDS) as show:
                    losses[kind] = train(task, kind == "custom", show)
            builtin, own = (np.asarray(losses[kind]) for kind in ("built-in", "custom"))
            apart = float(np.max(np.abs(own - builtin) / builtin))
            worst = max(worst, apart)
            figures = (f"{builtin[-1]:.8f}", f"{own[-1]:.8f}", f"{apart:.1e}")
            rows.append((f"{library}, {task.name}", *figures))
    print_table(("objective", "built-in loss", "custom loss", "apart, any round"), rows)
    agrees = worst <= FIVE_DIGITS
    print(
        f"\nThe training losses {'agree' if agrees else 'DO NOT agree'} to five digits after each "
        f"of {ROUNDS} rounds."
    )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
