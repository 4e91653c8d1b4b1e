"""A softmax classifier and a scorer for scikit-learn, on this package's derivatives."""

import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace, device
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from xp_xent import cross_entropy, log_softmax, softmax, softmax_focal_loss
from xp_xent.integrations._estimators import check_same_place, example_weights, floating_dtypes
from xp_xent.integrations._scorer import CrossEntropyScorer
from xp_xent.integrations._softmax_regression import (
    SoftmaxRegression,
    beside,
    on_host,
    with_reference,
)

_Array = Any

__all__ = ["SoftmaxClassifier", "cross_entropy_scorer"]

_CHOICES = {"loss": ("cross_entropy", "focal"), "solver": ("lbfgs", "newton-cg")}


class SoftmaxClassifier(ClassifierMixin, BaseEstimator):
    """Linear softmax classifier: logistic regression with the losses of this package.

    It minimises ``C·Σ w·loss + ½‖W‖²`` over coefficients W and intercepts, which have no penalty,
    as `sklearn.linear_model.LogisticRegression` does, and for the plain loss finds the same. A
    focal loss is not convex: what is found is a local minimum.

    Parameters
    ----------
    loss : {"cross_entropy", "focal"}, default "cross_entropy"
        `xp_xent.cross_entropy` or `xp_xent.softmax_focal_loss`.
    C : float, default 1.0
        Inverse strength of the penalty; ``inf`` is none.
    label_smoothing : float in [0, 1], default 0.0
        Mass taken from the label and spread over all classes.
    gamma : float, default 2.0
        The exponent of the focal loss.
    class_weight : dict, "balanced" or None, default None
        Weights of classes, which multiply those of their examples.
    fit_intercept : bool, default True
        Whether classes have intercepts.
    solver : {"lbfgs", "newton-cg"}, default "lbfgs"
        L-BFGS takes gradients; Newton's method with conjugate gradients, in a trust region,
        Hessian-vector products.
    tol : float, default 1e-4
        L-BFGS stops where no entry of the gradient is larger, Newton-CG where its norm is not; the
        gradient of the mean loss, that is of what is minimised divided by C·Σ w.
    max_iter : int, default 1000
        The most iterations.

    Attributes
    ----------
    classes_ : array, shape (K,)
        The labels, sorted.
    coef_ : array, shape (K, F), or (1, F) for two classes
        Coefficients.
    intercept_ : array, shape (K,), or (1,) for two classes
        Intercepts.
    n_iter_ : int
        Iterations of the solver.
    n_features_in_ : int
        F.

    See Also
    --------
    cross_entropy_scorer : how well it predicts.

    Notes
    -----
    Inside ``sklearn.config_context(array_api_dispatch=True)`` it fits on arrays of NumPy, PyTorch,
    CuPy and others, on their device: only the K·(F + 1) parameters go to SciPy and back.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from xp_xent.integrations.scikit_learn import SoftmaxClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> print(round(SoftmaxClassifier(label_smoothing=0.1).fit(X, y).score(X, y), 2))
    0.97
    """

    def __init__(
        self,
        *,
        loss: str = "cross_entropy",
        C: float = 1.0,
        label_smoothing: float = 0.0,
        gamma: float = 2.0,
        class_weight: Any = None,
        fit_intercept: bool = True,
        solver: str = "lbfgs",
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        self.loss = loss
        self.C = C
        self.label_smoothing = label_smoothing
        self.gamma = gamma
        self.class_weight = class_weight
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: _Array, y: _Array, sample_weight: _Array | None = None) -> Self:
        """Find coefficients and intercepts.

        Parameters
        ----------
        X : array, shape (N, F)
            Features; float32 is computed in float32.
        y : array, shape (N,)
            Labels of any type.
        sample_weight : array, shape (N,), optional
            Weights of examples.

        Returns
        -------
        SoftmaxClassifier
            Itself.

        Raises
        ------
        ValueError
            An unknown loss or solver, a `C` that is not positive, fewer than two classes, or data
            that scikit-learn refuses.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=floating_dtypes(X))
        y = on_host(y)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        weight = example_weights(self.class_weight, classes, codes, sample_weight)
        xp = array_namespace(X)
        problem = SoftmaxRegression(
            X, xp.asarray(codes, device=device(X)), beside(weight, X), len(classes),
            bool(self.fit_intercept), 1 / (self.C * np.sum(weight)), *self._loss(),
        )  # fmt: skip
        found = problem.minimise(self.solver, self.tol, self.max_iter)
        if not found.success and np.max(np.abs(found.jac)) > self.tol:
            message = f"{self.solver} stopped after {found.nit} iterations: {found.message}"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        self.coef_, self.intercept_ = problem.split(found.x)
        numbers = np.issubdtype(classes.dtype, np.number)
        self.classes_ = xp.asarray(classes, device=device(X)) if numbers else classes
        self.n_iter_ = found.nit
        return self

    def decision_function(self, X: _Array) -> _Array:
        """Return scores: the logits, or for two classes the log-odds of the second.

        Parameters
        ----------
        X : array, shape (N, F)
            Features, in the library that it was fitted on.

        Returns
        -------
        array, shape (N, K), or (N,) for two classes
            Of the library of X.
        """
        scores = self._scores(X, "decision_function")
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_proba(self, X: _Array) -> _Array:
        """Return probabilities.

        Parameters
        ----------
        X : array, shape (N, F)
            Features.

        Returns
        -------
        array, shape (N, K)
            Rows add up to 1.
        """
        return softmax(self._logits(X, "predict_proba"))

    def predict_log_proba(self, X: _Array) -> _Array:
        """Return logarithms of probabilities, accurate also where the probability is nearly 1.

        Parameters
        ----------
        X : array, shape (N, F)
            Features.

        Returns
        -------
        array, shape (N, K)
            Of the library of X.
        """
        return log_softmax(self._logits(X, "predict_log_proba"))

    def predict(self, X: _Array) -> _Array:
        """Return the likeliest classes.

        Parameters
        ----------
        X : array, shape (N, F)
            Features.

        Returns
        -------
        array, shape (N,)
            Labels; of the library of X where they are numbers, of NumPy otherwise.
        """
        logits = self._logits(X, "predict")
        indices = array_namespace(logits).argmax(logits, axis=1)
        if isinstance(self.classes_, np.ndarray):
            indices = on_host(indices)
        return array_namespace(self.classes_).take(self.classes_, indices, axis=0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _check_parameters(self) -> None:
        """Refuse what nothing else would."""
        for name, wanted in _CHOICES.items():
            if getattr(self, name) not in wanted:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, wanted one of {wanted}")
        if not self.C > 0:
            raise ValueError(f"C: got {self.C!r}, wanted a positive number")

    def _loss(self) -> tuple[Callable[..., _Array], dict[str, Any]]:
        """Return the loss and its options."""
        smoothing = {"label_smoothing": self.label_smoothing}
        if self.loss == "focal":
            return softmax_focal_loss, smoothing | {"gamma": self.gamma}
        return cross_entropy, smoothing

    def _scores(self, X: _Array, method: str) -> _Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=floating_dtypes(X))
        check_same_place(X, self.coef_, f"{type(self).__name__}.{method}()")
        return X @ beside(self.coef_, X).T + beside(self.intercept_, X)

    def _logits(self, X: _Array, method: str) -> _Array:
        return with_reference(self._scores(X, method), self.classes_.shape[0])


def cross_entropy_scorer(
    loss: Callable[..., _Array] = cross_entropy, **options: Any
) -> CrossEntropyScorer:
    """Make a scorer: the negative mean loss of a classifier's log-probabilities.

    Parameters
    ----------
    loss : callable, default `cross_entropy`
        A loss of logits and labels: `cross_entropy`, `softmax_focal_loss`, `poly_cross_entropy`.
    **options
        Options of the loss: ``label_smoothing``, ``weight`` in the order of ``classes_`` …

    Returns
    -------
    callable
        ``scorer(estimator, X, y, sample_weight=None) -> float``, for ``scoring=`` of
        `GridSearchCV` and `cross_val_score`; higher is better. Of a classifier without
        ``predict_log_proba`` it takes the logarithm of ``predict_proba``. It can be pickled.

    Raises
    ------
    ValueError
        When called: a label of `y` that is not in the estimator's ``classes_``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from xp_xent.integrations.scikit_learn import SoftmaxClassifier, cross_entropy_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scores = cross_val_score(SoftmaxClassifier(), X, y, scoring=cross_entropy_scorer())
    >>> print(f"{scores.mean():.2f}")
    -0.14
    """
    return CrossEntropyScorer(loss, options)
