"""Find rare tumours: binary data of which one row in nine is positive, with and without weights.

The data is scikit-learn's breast-cancer set with only every fifth malignant tumour kept, and a
linear model on its ten mean features. Every figure is on held-out rows, by cross-validation.

    python examples/imbalanced.py [--backend torch]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Adam, Array, parse_options, print_table, progress
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import average_precision_score, precision_score, recall_score
from sklearn.model_selection import StratifiedKFold

from xp_xent import (
    backends,
    binary_cross_entropy_with_logits,
    positive_class_weight,
    sigmoid_focal_loss,
    value_and_grad,
)


def plain(logits: Array, targets: Array) -> tuple[Array, Array]:
    return value_and_grad(binary_cross_entropy_with_logits)(logits, targets)


def weighted(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Each positive row counts as often as there are negative rows for it."""
    ratio = positive_class_weight(targets)
    return value_and_grad(binary_cross_entropy_with_logits)(logits, targets, pos_weight=ratio)


def focal(logits: Array, targets: Array) -> tuple[Array, Array]:
    """The same balance between the classes, and less weight on rows that are already easy."""
    ratio = float(positive_class_weight(targets))
    alpha = ratio / (1 + ratio)
    return value_and_grad(sigmoid_focal_loss)(logits, targets, alpha=alpha, gamma=2.0)


def load() -> tuple[np.ndarray, np.ndarray]:
    features, benign = load_breast_cancer(return_X_y=True)
    malignant = np.flatnonzero(benign == 0)
    kept = np.sort(np.r_[np.flatnonzero(benign), malignant[::5]])
    return features[kept, :10], 1 - benign[kept]


def fit(
    backend: Any,
    loss: Callable[[Array, Array], tuple[Array, Array]],
    features: np.ndarray,
    labels: np.ndarray,
    steps: int,
    label: str,
) -> tuple[np.ndarray, float]:
    """Fit a linear model; return its weights and bias."""
    x = backend.asarray(features, dtype="float32")
    targets = backend.asarray(labels, dtype="float32")
    zeros = np.zeros(features.shape[1])
    parameters = backend.asarray(zeros, dtype="float32"), backend.asarray(zeros[0], dtype="float32")
    adam = Adam(backend.xp, parameters, rate=0.1)
    with progress(label, steps) as show:
        for step in range(1, steps + 1):
            weights, bias = parameters
            value, d_logits = loss(x @ weights + bias, targets)
            gradients = (d_logits @ x + 1e-3 * weights, backend.xp.sum(d_logits))
            parameters = adam.step(parameters, gradients)
            show(step, value)
    return backend.to_numpy(parameters[0]), float(parameters[1])


def main() -> None:
    options = parse_options(__doc__, steps=200)
    backend = backends.get(options.backend)
    features, labels = load()
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(features, labels))
    rows = []
    for name, loss in (("plain", plain), ("pos_weight", weighted), ("focal", focal)):
        logits = np.empty(len(labels))
        for number, (train, held_out) in enumerate(folds, 1):
            mean, scale = features[train].mean(axis=0), features[train].std(axis=0)
            weights, bias = fit(
                backend,
                loss,
                (features[train] - mean) / scale,
                labels[train],
                options.steps,
                f"{name}, fold {number} of 5",
            )
            logits[held_out] = (features[held_out] - mean) / scale @ weights + bias
        predicted = logits > 0
        rows.append(
            (
                name,
                f"{recall_score(labels, predicted):.3f}",
                f"{precision_score(labels, predicted, zero_division=0):.3f}",
                f"{np.mean(predicted == labels):.3f}",
                f"{average_precision_score(labels, logits):.3f}",
            )
        )
    print(f"\n{labels.sum()} malignant of {len(labels)} tumours, on {options.backend}")
    print_table(("loss", "recall", "precision", "accuracy", "average precision"), rows)
    print(
        "\nThe weights find more of the rare class and raise more false alarms. Average precision,"
        "\nwhich no threshold enters, hardly moves: they shift the threshold, not the ranking."
    )


if __name__ == "__main__":
    main()
