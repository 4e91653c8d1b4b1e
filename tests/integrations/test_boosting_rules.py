"""`xp_xent.integrations.boosting` on arrays: curvature rules, orders, labels, refusals."""

from __future__ import annotations

import copy
import doctest
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest

from xp_xent import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_divergence,
    poly_cross_entropy,
    sigmoid_focal_loss,
    softmax,
    softmax_focal_loss,
)
from xp_xent.integrations import boosting
from xp_xent.integrations.boosting import (
    catboost_objective,
    lightgbm_metric,
    lightgbm_objective,
    xgboost_metric,
    xgboost_objective,
)

SCORES = np.random.default_rng(1).normal(size=(5, 3))
LABELS = np.asarray([0, 2, 1, 1, 0], dtype=np.float32)  # as XGBoost and LightGBM keep them
WEIGHTS = np.asarray([1.0, 0.0, 2.0, 3.0, 0.5])


@pytest.mark.parametrize("make", [xgboost_objective, lightgbm_objective])
def test_curvature_rules(make: Any) -> None:
    p = softmax(SCORES)
    gradient = (p - np.eye(3)[LABELS.astype(int)]) * WEIGHTS[:, None]
    rules = {
        "upper_bound": 2 * p * (1 - p), "friedman": 1.5 * p * (1 - p), "diagonal": p * (1 - p),
    }  # fmt: skip
    for rule, curvature in rules.items():
        answer = make(cross_entropy, curvature=rule, minimum=None)(LABELS, SCORES, WEIGHTS)
        np.testing.assert_allclose(answer[0], gradient, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(answer[1], curvature * WEIGHTS[:, None], rtol=1e-12)
    answer = make(cross_entropy, curvature="absolute_gradient", minimum=0.25)
    np.testing.assert_allclose(
        answer(LABELS, SCORES, WEIGHTS)[1], np.maximum(abs(gradient), 0.25), rtol=1e-12
    )


def test_minimum_is_each_librarys_own() -> None:
    scores = np.asarray([[800.0, 0.0], [0.0, 800.0]])
    labels = np.asarray([0.0, 1.0])
    assert np.all(xgboost_objective(cross_entropy)(labels, scores)[1] == 1e-16)
    assert np.all(lightgbm_objective(cross_entropy)(labels, scores)[1] == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flat_scores_in_either_order(dtype: Any) -> None:
    scores = SCORES.astype(dtype)
    for make, order in ((xgboost_objective, "C"), (lightgbm_objective, "F")):
        objective = make(cross_entropy)
        flat = objective(LABELS, scores.reshape(-1, order=order), WEIGHTS)
        for one, matrix in zip(flat, objective(LABELS, scores, WEIGHTS), strict=True):
            assert one.dtype == matrix.dtype == dtype
            assert np.array_equal(one, matrix.reshape(-1, order=order))


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (softmax_focal_loss, {"gamma": 1.5, "alpha": [0.2, 0.3, 0.5]}),
        (poly_cross_entropy, {"epsilon": 1.0}),
        (cross_entropy, {"weight": np.asarray([1.0, 2.0, 3.0]), "label_smoothing": 0.1}),
        (CrossEntropyLoss(label_smoothing=0.1), {}),
    ],
)
def test_gradient_is_that_of_the_sum_which_the_metric_averages(loss: Any, options: Any) -> None:
    """By differences; the metric's mean divides by weights of examples, classes' included."""
    metric = partial(xgboost_metric(loss, **options), LABELS)
    objective = xgboost_objective(loss, **options)(LABELS, SCORES, WEIGHTS)
    total = loss(SCORES, LABELS.astype(int), sample_weight=WEIGHTS, reduction="sum", **options)
    step = 1e-6 * np.eye(15).reshape(15, 5, 3)
    apart = [metric(SCORES + h, WEIGHTS) - metric(SCORES - h, WEIGHTS) for h in step]
    slopes = np.reshape(apart, (5, 3)) / 2e-6 * (total / metric(SCORES, WEIGHTS))
    np.testing.assert_allclose(objective[0], slopes, rtol=1e-6, atol=1e-8)
    assert np.all(objective[1] > 0)


def test_several_labels_and_probabilities() -> None:
    """XGBoost takes a matrix of labels: binary losses, or the targets of a softmax."""
    targets = np.asarray([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0]], np.float32)
    for loss in (
        binary_cross_entropy_with_logits,
        partial(sigmoid_focal_loss),
        BCEWithLogitsLoss(),
    ):
        gradient, _ = xgboost_objective(loss)(targets.reshape(-1), SCORES, WEIGHTS)
        alone = xgboost_objective(loss)(targets[:, 1], SCORES[:, 1], WEIGHTS)[0]
        np.testing.assert_allclose(gradient[:, 1], alone, rtol=1e-12)
    soft = softmax(SCORES[::-1])
    gradient, _ = xgboost_objective(cross_entropy)(soft, SCORES)
    np.testing.assert_allclose(gradient, softmax(SCORES) - soft, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "made",
    [
        xgboost_objective(cross_entropy, label_smoothing=0.1),
        lightgbm_metric(sigmoid_focal_loss, gamma=1.0, name="focal"),
        catboost_objective(cross_entropy),
    ],
)
def test_copies_are_equal(made: Any) -> None:
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_refusals() -> None:
    with pytest.raises(TypeError, match="wanted one of binary_cross_entropy_with_logits"):
        xgboost_objective(kl_divergence)
    with pytest.raises(TypeError, match="reduction: the boosting library decides it"):
        xgboost_metric(cross_entropy, reduction="sum")
    with pytest.raises(ValueError, match="curvature: got '2p'"):
        lightgbm_objective(cross_entropy, curvature="2p")
    with pytest.raises(ValueError, match="set num_class"):
        xgboost_objective(cross_entropy)(LABELS, SCORES[:, 0])
    with pytest.raises(ValueError, match="labels: got 5 of them, sigmoid_focal_loss wants 15"):
        xgboost_objective(sigmoid_focal_loss)(LABELS > 0, SCORES)
    with pytest.raises(ValueError, match="labels: got fractions or NaN"):
        xgboost_objective(cross_entropy)(LABELS + 0.5, SCORES)


def test_on_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    objective = xgboost_objective(cross_entropy)
    answer = objective(LABELS, cupy.asarray(SCORES), WEIGHTS)
    for ours, wanted in zip(answer, objective(LABELS, SCORES, WEIGHTS), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(ours), wanted, rtol=1e-12)


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(boosting).failed == 0
