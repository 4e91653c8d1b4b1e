"""`xp_xent.integrations.boosting`: the built-in objectives, reproduced in the libraries themselves."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits

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
from xp_xent.integrations.boosting import (
    catboost_objective,
    lightgbm_metric,
    lightgbm_objective,
    xgboost_metric,
    xgboost_objective,
)

ROUNDS = 4
FIVE_DIGITS = 5e-6
LOSSES = {"binary": binary_cross_entropy_with_logits, "multiclass": cross_entropy}
# A library's own test of a metric or objective has nothing to do with ours.
pytestmark = pytest.mark.filterwarnings("ignore:Failed to import numba:UserWarning")


def data(kind: str) -> tuple[Any, Any, Any]:
    """Give features, labels and weights; 400 examples keep a run short."""
    load = load_breast_cancer if kind == "binary" else load_digits
    features, labels = load(return_X_y=True)
    weights = np.random.default_rng(0).uniform(0.5, 2, 400)
    return features[:400], labels[:400], weights


def xgboost_scores(kind: str, weighted: bool, **training: Any) -> Any:
    xgboost = pytest.importorskip("xgboost")
    features, labels, weights = data(kind)
    train = xgboost.DMatrix(features, label=labels, weight=weights if weighted else None)
    own = "obj" in training
    options = {"max_depth": 3, "nthread": 1, "base_score": 0.0, "disable_default_eval_metric": 1}
    if kind == "multiclass":
        options |= {"num_class": 10}
    if not own:
        names = {"binary": "binary:logistic", "multiclass": "multi:softprob"}
        options |= {"objective": names[kind], "base_score": 0.5 if kind == "binary" else 0.0}
    model = xgboost.train(options, train, ROUNDS, **training)
    return model.predict(train, output_margin=True)


def lightgbm_scores(kind: str, weighted: bool, objective: Any, **training: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    features, labels, weights = data(kind)
    train = lightgbm.Dataset(features, label=labels, weight=weights if weighted else None)
    options = {
        "objective": objective, "boost_from_average": False, "num_threads": 1, "metric": "none",
        "force_col_wise": True, "verbosity": -1, "max_depth": 3,
    }  # fmt: skip
    if kind == "multiclass":
        options |= {"num_class": 10}
    if "feval" in training:
        training |= {"valid_sets": [train]}
    model = lightgbm.train(options, train, ROUNDS, **training)
    return model.predict(features, raw_score=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_xgboost_built_in_objectives(kind: str, weighted: bool) -> None:
    loss = LOSSES[kind]
    builtin = xgboost_scores(kind, weighted)
    ours = xgboost_scores(kind, weighted, obj=xgboost_objective(loss))
    np.testing.assert_allclose(ours, builtin, rtol=1e-4, atol=1e-5)
    labels = data(kind)[1]
    assert loss(ours, labels) == pytest.approx(loss(builtin, labels), rel=FIVE_DIGITS)
    other = xgboost_scores(kind, weighted, obj=xgboost_objective(loss, label_smoothing=0.1))
    assert loss(other, labels) != pytest.approx(loss(builtin, labels), rel=1e-2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_lightgbm_built_in_objectives(kind: str, weighted: bool) -> None:
    """LightGBM leaves weights to a custom objective: without ours, the weighted cases differ."""
    loss = LOSSES[kind]
    builtin = lightgbm_scores(kind, weighted, kind)
    ours = lightgbm_scores(kind, weighted, lightgbm_objective(loss))
    np.testing.assert_allclose(ours, builtin, rtol=1e-4, atol=1e-5)
    labels = data(kind)[1]
    assert loss(ours, labels) == pytest.approx(loss(builtin, labels), rel=FIVE_DIGITS)


@pytest.mark.parametrize("kind", LOSSES)
def test_xgboost_classifier_and_metric(kind: str) -> None:
    """Through scikit-learn's wrapper: the same trees, and the mean that XGBoost's metric has."""
    xgboost = pytest.importorskip("xgboost")
    features, labels, weights = data(kind)
    loss = LOSSES[kind]
    start = 0.5 if kind == "binary" else 0.0  # the wrapper keeps binary:logistic beside ours
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS, max_depth=3, n_jobs=1, base_score=start,
        objective=xgboost_objective(loss), eval_metric=xgboost_metric(loss, name="ours"),
    )  # fmt: skip
    model = clone(model).fit(
        features, labels, sample_weight=weights, verbose=False,
        eval_set=[(features, labels)], sample_weight_eval_set=[weights],
    )  # fmt: skip
    ours = model.predict(features, output_margin=True)
    builtin = xgboost_scores(kind, weighted=True)
    np.testing.assert_allclose(ours, builtin, rtol=1e-4, atol=1e-5)
    reported = model.evals_result()["validation_0"]["ours"][-1]
    assert reported == pytest.approx(loss(builtin, labels, sample_weight=weights), abs=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_lightgbm_classifier_and_metric(kind: str) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    features, labels, weights = data(kind)
    loss = LOSSES[kind]
    model = lightgbm.LGBMClassifier(
        n_estimators=ROUNDS, max_depth=3, n_jobs=1, force_col_wise=True, verbosity=-1,
        objective=lightgbm_objective(loss), metric="none",
    )  # fmt: skip
    model.fit(
        features, labels, sample_weight=weights, eval_X=features, eval_y=labels,
        eval_sample_weight=[weights], eval_metric=lightgbm_metric(loss, name="ours"),
    )  # fmt: skip
    ours = model.booster_.predict(features, raw_score=True)
    np.testing.assert_allclose(ours, lightgbm_scores(kind, True, kind), rtol=1e-4, atol=1e-5)
    reported = model.evals_result_["valid_0"]["ours"][-1]
    assert reported == pytest.approx(loss(ours, labels, sample_weight=weights), rel=1e-6)


def test_native_metrics_are_the_libraries_own() -> None:
    """XGBoost prints six decimals of mlogloss; LightGBM has multi_logloss in double precision."""
    xgboost, lightgbm = map(pytest.importorskip, ("xgboost", "lightgbm"))
    features, labels, weights = data("multiclass")
    own: dict[str, Any] = {}
    xgboost_train = xgboost.DMatrix(features, label=labels, weight=weights)
    xgboost_scores(
        "multiclass", True, obj=xgboost_objective(cross_entropy),
        custom_metric=xgboost_metric(cross_entropy), evals=[(xgboost_train, "train")],
        evals_result=own, verbose_eval=False,
    )  # fmt: skip
    builtin: dict[str, Any] = {}
    options = {"objective": "multi:softprob", "num_class": 10, "max_depth": 3, "nthread": 1}
    xgboost.train(
        options | {"eval_metric": "mlogloss", "base_score": 0.0}, xgboost_train, ROUNDS,
        evals=[(xgboost_train, "train")], evals_result=builtin, verbose_eval=False,
    )  # fmt: skip
    assert own["train"]["cross_entropy"] == pytest.approx(builtin["train"]["mlogloss"], abs=1e-6)
    recorded: dict[str, Any] = {}
    lightgbm_scores(
        "multiclass", True, lightgbm_objective(cross_entropy),
        feval=lightgbm_metric(cross_entropy), callbacks=[lightgbm.record_evaluation(recorded)],
    )  # fmt: skip
    scores = lightgbm_scores("multiclass", True, "multiclass")
    wanted = cross_entropy(scores, labels, sample_weight=weights)
    assert recorded["training"]["cross_entropy"][-1] == pytest.approx(wanted, rel=FIVE_DIGITS)


def catboost_scores(kind: str, objective: Any, **options: Any) -> Any:
    catboost = pytest.importorskip("catboost")
    features, labels, weights = data(kind)
    options |= {
        "loss_function": objective, "iterations": 2, "depth": 3, "learning_rate": 0.3,
        "thread_count": 1, "leaf_estimation_method": "Newton", "leaf_estimation_iterations": 1,
        "leaf_estimation_backtracking": "No", "bootstrap_type": "No", "random_strength": 0,
        "boosting_type": "Plain", "verbose": False, "allow_writing_files": False,
    }  # fmt: skip
    model = catboost.CatBoost(options).fit(
        features[:200], labels[:200], sample_weight=weights[:200]
    )
    return model.predict(features, prediction_type="RawFormulaVal")


def test_catboost_built_in_objectives() -> None:
    builtin = catboost_scores("multiclass", "MultiClass")
    objective = catboost_objective(cross_entropy)
    ours = catboost_scores("multiclass", objective, eval_metric="MultiClass", classes_count=10)
    np.testing.assert_allclose(ours, builtin, rtol=1e-5, atol=1e-7)
    builtin = catboost_scores("binary", "Logloss", boost_from_average=False)
    objective = catboost_objective(binary_cross_entropy_with_logits)
    ours = catboost_scores("binary", objective, eval_metric="Logloss")
    np.testing.assert_allclose(ours, builtin, rtol=1e-5, atol=1e-7)


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
    for loss in (binary_cross_entropy_with_logits, partial(sigmoid_focal_loss), BCEWithLogitsLoss()):
        gradient, _ = xgboost_objective(loss)(targets.reshape(-1), SCORES, WEIGHTS)
        alone = xgboost_objective(loss)(targets[:, 1], SCORES[:, 1], WEIGHTS)[0]
        np.testing.assert_allclose(gradient[:, 1], alone, rtol=1e-12)
    soft = softmax(SCORES[::-1])
    gradient, _ = xgboost_objective(cross_entropy)(soft, SCORES)
    np.testing.assert_allclose(gradient, softmax(SCORES) - soft, rtol=1e-12, atol=1e-15)


def test_xgboost_trains_several_labels() -> None:
    xgboost = pytest.importorskip("xgboost")
    features, labels, weights = data("multiclass")
    several = np.stack([labels > 4, labels % 2 == 0], axis=1)
    train = xgboost.DMatrix(features, label=several, weight=weights)
    options = {"max_depth": 3, "nthread": 1, "base_score": 0.0}
    ours = xgboost.train(
        options, train, ROUNDS, obj=xgboost_objective(binary_cross_entropy_with_logits)
    ).predict(train, output_margin=True)
    options |= {"objective": "binary:logistic", "base_score": 0.5}
    builtin = xgboost.train(options, train, ROUNDS).predict(train, output_margin=True)
    np.testing.assert_allclose(ours, builtin, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(ValueError, match="labels: got fractions or NaN"):
        xgboost_objective(cross_entropy)(LABELS + 0.5, SCORES)


def test_on_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    objective = xgboost_objective(cross_entropy)
    answer = objective(LABELS, cupy.asarray(SCORES), WEIGHTS)
    for ours, wanted in zip(answer, objective(LABELS, SCORES, WEIGHTS), strict=True):
        np.testing.assert_allclose(cupy.asnumpy(ours), wanted, rtol=1e-12)
