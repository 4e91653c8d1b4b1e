"""Boost trees with custom objectives, and reproduce the built-in ones of three libraries.

Each trains twice on the same data, with its built-in objective and with that of
`xp_xent.integrations.boosting`, and the training losses after the last round are compared.

    python examples/boosting.py
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import catboost
import lightgbm
import numpy as np
import xgboost
from common import print_table
from sklearn.datasets import load_breast_cancer, load_digits

from xp_xent import binary_cross_entropy_with_logits, cross_entropy
from xp_xent.integrations.boosting import catboost_objective, lightgbm_objective, xgboost_objective

ROUNDS, DEPTH, RATE = 10, 4, 0.3
FIVE_DIGITS = 5e-6


class Task(NamedTuple):
    """A data set and its loss."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    loss: Callable[..., Any]
    classes: dict[str, Any]  # how many: none for two of them, which have one score


def tasks() -> list[Task]:
    cells, malignant = load_breast_cancer(return_X_y=True)
    images, digits = load_digits(return_X_y=True)
    return [
        Task("binary", cells, malignant, binary_cross_entropy_with_logits, {}),
        Task("multiclass", images, digits, cross_entropy, {"num_class": 10}),
    ]


def with_xgboost(task: Task, custom: bool) -> np.ndarray:
    """Return the raw scores."""
    data = xgboost.DMatrix(task.features, label=task.labels)
    options = task.classes | {"max_depth": DEPTH, "eta": RATE, "nthread": 1, "base_score": 0.0}
    objective = None
    if custom:
        objective = xgboost_objective(task.loss)
    elif task.name == "binary":  # counts the start in probabilities
        options |= {"objective": "binary:logistic", "base_score": 0.5}
    else:
        options |= {"objective": "multi:softprob"}
    model = xgboost.train(options, data, ROUNDS, obj=objective)
    return model.predict(data, output_margin=True)


def with_lightgbm(task: Task, custom: bool) -> np.ndarray:
    """Return the raw scores."""
    options = task.classes | {"max_depth": DEPTH, "learning_rate": RATE, "num_threads": 1}
    # Start from scores of 0; and no histogram strategy that is chosen by timing.
    options |= {"boost_from_average": False, "force_col_wise": True, "verbosity": -1}
    options |= {"objective": lightgbm_objective(task.loss) if custom else task.name}
    model = lightgbm.train(options, lightgbm.Dataset(task.features, label=task.labels), ROUNDS)
    return model.predict(task.features, raw_score=True)


def with_catboost(task: Task, custom: bool) -> np.ndarray:
    """Return the raw scores."""
    builtin = "MultiClass" if task.classes else "Logloss"
    options = {"depth": DEPTH, "learning_rate": RATE, "iterations": ROUNDS, "thread_count": 1}
    # One Newton step a leaf, from scores of 0, without chance.
    options |= {"leaf_estimation_method": "Newton", "leaf_estimation_iterations": 1}
    options |= {"leaf_estimation_backtracking": "No", "boosting_type": "Plain"}
    options |= {"bootstrap_type": "No", "random_strength": 0}
    options |= {"verbose": False, "allow_writing_files": False}
    if custom:
        options |= {"loss_function": catboost_objective(task.loss), "eval_metric": builtin}
        options |= {"classes_count": 10} if task.classes else {}
    else:
        options |= {"loss_function": builtin}
        options |= {} if task.classes else {"boost_from_average": False}
    model = catboost.CatBoost(options).fit(task.features, task.labels)
    return model.predict(task.features, prediction_type="RawFormulaVal")


def main() -> int:
    warnings.filterwarnings("ignore", "Failed to import numba", UserWarning)
    libraries = {"XGBoost": with_xgboost, "LightGBM": with_lightgbm, "CatBoost": with_catboost}
    rows, worst = [], 0.0
    for task in tasks():
        for library, scores in libraries.items():
            builtin, own = (
                float(task.loss(np.asarray(scores(task, custom), dtype=np.float64), task.labels))
                for custom in (False, True)
            )
            apart = abs(own - builtin) / builtin
            worst = max(worst, apart)
            figures = (f"{builtin:.8f}", f"{own:.8f}", f"{apart:.1e}")
            rows.append((f"{library}, {task.name}", *figures))
    print_table(("objective", "built-in loss", "custom loss", "apart"), rows)
    agrees = worst <= FIVE_DIGITS
    print(
        f"\nThe training losses {'agree' if agrees else 'DO NOT agree'} to five digits after "
        f"{ROUNDS} rounds."
    )
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
