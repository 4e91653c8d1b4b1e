"""`xp_xent.integrations.scikit_learn`: scikit-learn's own checks, and its optimum."""

from __future__ import annotations

import doctest
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from array_api_strict import ArrayAPIStrictFlags
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import check_estimator

from xp_xent import cross_entropy, softmax_focal_loss
from xp_xent.integrations import scikit_learn
from xp_xent.integrations.scikit_learn import SoftmaxClassifier, cross_entropy_scorer

FIVE_DIGITS = 5e-6
SOLVERS = ("lbfgs", "newton-cg")


@pytest.fixture(autouse=True)
def dispatch_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What scikit-learn wants set, and of the strict library, before it takes other arrays."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with ArrayAPIStrictFlags(data_dependent_shapes=True):
        yield


def data(kind: str) -> tuple[Any, Any]:
    load = {"binary": load_breast_cancer, "multiclass": load_wine}[kind]
    features, labels = load(return_X_y=True)
    return scale(features), labels


def assert_same(ours: Any, wanted: Any) -> None:
    """Compare coefficients to five digits of the largest."""
    for name in ("coef_", "intercept_"):
        expected = getattr(wanted, name)
        apart = np.max(abs(np.asarray(getattr(ours, name)) - expected))
        assert apart <= FIVE_DIGITS * np.max(abs(wanted.coef_)), name


@pytest.mark.parametrize(
    "estimator",
    [
        SoftmaxClassifier(),
        SoftmaxClassifier(
            loss="focal", label_smoothing=0.1, class_weight="balanced", solver="newton-cg"
        ),
    ],
    ids=["lbfgs", "newton-cg"],
)
def test_scikit_learns_checks(estimator: Any) -> None:
    """All of them; those of arrays run on each library that is installed, on the CPU."""
    logs = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [
        (log["check_name"], log["exception"])
        for log in logs
        if log["status"] == "failed" and "Default device" not in str(log["exception"])
    ]
    assert failed == []
    passed = [log["check_name"] for log in logs if log["status"] == "passed"]
    assert len(passed) > 50
    assert "check_array_api_input" in passed
    skipped = {str(log["exception"]) for log in logs if log["status"] == "skipped"}
    absent = ("cuda", "XPU", "MPS", "no gpu", "is not installed")
    assert [why for why in skipped if not any(word in why for word in absent)] == []


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize(
    "options",
    [{}, {"C": 0.1, "class_weight": "balanced"}, {"C": 10.0, "fit_intercept": False}],
    ids=str,
)
def test_logistic_regressions_coefficients(kind: str, solver: str, options: Any) -> None:
    features, labels = data(kind)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(labels))
    ours = SoftmaxClassifier(solver=solver, tol=1e-10, **options).fit(features, labels, weights)
    wanted = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000, **options)
    wanted.fit(features, labels, weights)
    assert_same(ours, wanted)
    for method in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
        answer = getattr(ours, method)(features)
        np.testing.assert_allclose(answer, getattr(wanted, method)(features), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("options", [{"loss": "focal", "gamma": 1.5}, {"label_smoothing": 0.2}])
def test_other_losses_are_at_their_minimum(kind: str, options: Any) -> None:
    """Both solvers find one place, no step from which is downhill."""
    features, labels = data(kind)
    fits = [
        SoftmaxClassifier(solver=solver, tol=1e-9, **options).fit(features, labels)
        for solver in SOLVERS
    ]
    assert_same(*fits)
    plain = SoftmaxClassifier().fit(features, labels)
    assert np.max(abs(fits[0].coef_ - plain.coef_)) > 0.1
    call = {name: value for name, value in options.items() if name != "loss"}
    loss = softmax_focal_loss if "loss" in options else cross_entropy

    def minimised(coefficients: Any) -> float:
        scores = features @ coefficients.T + fits[1].intercept_
        logits = scores if kind == "multiclass" else np.hstack([np.zeros_like(scores), scores])
        return loss(logits, labels, reduction="sum", **call) + np.sum(coefficients**2) / 2

    found = fits[1].coef_
    step = 1e-2 * np.random.default_rng(0).normal(size=found.shape)
    uphill = [minimised(found + h) - minimised(found) for h in (step, -step)]
    assert min(uphill) > 0
    assert uphill[0] == pytest.approx(uphill[1], rel=0.1)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_arrays(library: str, solver: str) -> None:
    xp = pytest.importorskip(library)
    features, labels = data("multiclass")
    estimator = SoftmaxClassifier(solver=solver, tol=1e-10)
    wanted = estimator.fit(features, labels).predict_log_proba(features)
    with config_context(array_api_dispatch=True):
        estimator.fit(xp.asarray(features), xp.asarray(labels))
        answer = estimator.predict_log_proba(xp.asarray(features))
        assert isinstance(answer, type(estimator.coef_))
        assert isinstance(estimator.predict(xp.asarray(features)), type(answer))
        np.testing.assert_allclose(np.asarray(answer), wanted, rtol=1e-4, atol=1e-10)
        score = cross_entropy_scorer()(estimator, xp.asarray(features), xp.asarray(labels))
    assert score == pytest.approx(-cross_entropy(wanted, labels), rel=1e-5)


def test_confident_log_probabilities_keep_their_digits() -> None:
    features, labels = data("binary")
    estimator = SoftmaxClassifier().fit(features, labels)
    features *= 5
    lead = abs(estimator.decision_function(features))
    rounded = np.log(np.max(estimator.predict_proba(features), axis=1)) == 0
    logs = np.max(estimator.predict_log_proba(features), axis=1)
    assert np.count_nonzero(rounded) > 50
    np.testing.assert_allclose(logs[rounded], -np.exp(-lead[rounded]), rtol=1e-12)


def test_labels_that_are_words() -> None:
    features, labels = data("multiclass")
    words = np.asarray(["red", "rosé", "white"], dtype=object)[labels]
    weight = {"red": 1.0, "rosé": 2.0, "white": 3.0}
    ours = SoftmaxClassifier(class_weight=weight, tol=1e-10).fit(features, words)
    wanted = LogisticRegression(class_weight=weight, tol=1e-10, max_iter=1000).fit(features, words)
    assert_same(ours, wanted)
    assert list(ours.predict(features[:5])) == list(words[:5])


def test_scorer_in_a_grid_search() -> None:
    """It is minus scikit-learn's log loss, and finds what ``neg_log_loss`` finds."""
    features, labels = load_iris(return_X_y=True)
    grid = {"softmaxclassifier__C": [0.01, 1.0], "softmaxclassifier__label_smoothing": [0.0, 0.3]}
    pipeline = make_pipeline(StandardScaler(), SoftmaxClassifier())
    ours, theirs = (
        GridSearchCV(pipeline, grid, scoring=scoring, cv=3).fit(features, labels)
        for scoring in (cross_entropy_scorer(), "neg_log_loss")
    )
    assert ours.best_params_ == theirs.best_params_
    ours, theirs = (search.cv_results_["mean_test_score"] for search in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


class OnlyProbabilities(ClassifierMixin, BaseEstimator):
    """A classifier that counts."""

    def fit(self, X: Any, y: Any) -> OnlyProbabilities:
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares = counts / len(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        return np.tile(self.shares, (len(X), 1))


def test_scorer_of_other_classifiers_and_losses() -> None:
    features, labels = load_iris(return_X_y=True)
    scorer = cross_entropy_scorer()
    assert pickle.loads(pickle.dumps(scorer)) == scorer
    other = OnlyProbabilities()
    scores = cross_val_score(other, features, labels, scoring=scorer)
    np.testing.assert_allclose(scores, -np.log(3), rtol=1e-10)
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    weight = np.arange(150.0)
    wanted = -log_loss(labels, model.predict_proba(features), sample_weight=weight)
    assert scorer(model, features, labels, sample_weight=weight) == pytest.approx(wanted, rel=1e-9)
    focal = cross_entropy_scorer(softmax_focal_loss, gamma=1.0)(model, features, labels)
    logits = model.decision_function(features)
    assert focal == pytest.approx(-softmax_focal_loss(logits, labels, gamma=1.0), rel=1e-9)
    with pytest.raises(ValueError, match="y: got 5, which the classifier has not seen"):
        scorer(model, features, labels + 5)


def test_refusals_and_warnings() -> None:
    features, labels = data("multiclass")
    for options, message in (
        ({"loss": "hinge"}, "loss: got 'hinge'"),
        ({"solver": "sag"}, "solver: got 'sag'"),
        ({"C": 0.0}, "C: got 0.0, wanted a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            SoftmaxClassifier(**options).fit(features, labels)
    with pytest.raises(ValueError, match="wanted at least two classes"):
        SoftmaxClassifier().fit(features, labels * 0)
    with pytest.warns(ConvergenceWarning, match="lbfgs stopped after 2 iterations"):
        SoftmaxClassifier(max_iter=2).fit(features, labels)


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(scikit_learn).failed == 0
