"""`xp_xent.integrations.boosting`: the libraries' built-in objectives, reproduced in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits

from xp_xent import (
    binary_cross_entropy_with_logits,
    cross_entropy,
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
