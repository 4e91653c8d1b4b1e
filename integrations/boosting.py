"""Objectives and metrics for XGBoost, LightGBM and CatBoost.

A boosting library asks an objective for the gradient of the summed loss by each raw score, and for
a curvature that divides it. Of K classes the libraries take different curvatures. `curvature`
names the rule; p are the probabilities of a plain cross-entropy, H is any loss's Hessian:

* ``"upper_bound"``: 2p(1 − p), Σ_k |H_jk|; XGBoost's, up to release 3.4 [1]_;
* ``"absolute_gradient"``: |p − y|, the gradient's magnitude; XGBoost's after release 3.4;
* ``"friedman"``: K/(K − 1) · p(1 − p), K/(K − 1) · H_jj; LightGBM's [2]_;
* ``"diagonal"``: p(1 − p), H_jj.

A binary loss has one score an example; the first is |H_jj| there, the last two are both H_jj.

References
----------
.. [1] T. Chen, C. Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.
.. [2] J. H. Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of
   Statistics 29 (5), 2001.
"""

from collections.abc import Callable
from typing import Any

from xp_xent.integrations._boosting import BoostedLoss, Objective
from xp_xent.integrations._boosting_metrics import LightGBMMetric, XGBoostMetric
from xp_xent.integrations._catboost import CatBoostBinary, CatBoostMulticlass

_Array = Any
_Loss = Callable[..., _Array]

__all__ = [
    "catboost_objective",
    "lightgbm_metric",
    "lightgbm_objective",
    "xgboost_metric",
    "xgboost_objective",
]


def xgboost_objective(
    loss: _Loss,
    *,
    curvature: str = "upper_bound",
    minimum: float | None = 1e-16,
    **options: Any,
) -> Objective:
    """Make an objective for XGBoost of a loss.

    Parameters
    ----------
    loss : callable
        `cross_entropy`, `softmax_focal_loss` or `poly_cross_entropy`, of K scores an example;
        `binary_cross_entropy_with_logits` or `sigmoid_focal_loss`, of one, or of one a label; or
        a `CrossEntropyLoss` or `BCEWithLogitsLoss`.
    curvature : {"upper_bound", "absolute_gradient", "friedman", "diagonal"}
        The rule; the default is that of ``multi:softprob`` and ``binary:logistic``.
    minimum : float or None, default 1e-16
        The least curvature of a score, weights included, as XGBoost's own; None clips nothing.
    **options
        Options of the loss: ``label_smoothing``, ``weight``, ``gamma`` …

    Returns
    -------
    callable
        ``objective(scores, data)`` for ``xgboost.train(…, obj=objective)``, and as well
        ``objective(labels, scores, sample_weight)`` for ``XGBClassifier(objective=objective)``;
        it returns gradient and curvature, of the scores' shape, dtype and library (NumPy or CuPy).
        Scores are (N, K) or flat, an example's beside each other; weights are those of the
        data, which XGBoost leaves to a custom objective. It can be pickled and compared.

    Raises
    ------
    TypeError
        Another `loss`, or an option that the boosting library decides.
    ValueError
        An unknown `curvature`. When called: labels that are no classes, one score for K of them, or
        an upper bound of a focal or poly loss of smoothed labels, which has no closed form.

    See Also
    --------
    xgboost_metric : the mean loss, to watch and to stop by.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> from xp_xent.integrations.boosting import xgboost_objective
    >>> objective = xgboost_objective(cross_entropy)
    >>> gradient, curvature = objective(np.asarray([1.0]), np.zeros((1, 2)))
    >>> print(gradient, curvature)
    [[ 0.5 -0.5]] [[0.5 0.5]]
    """
    return Objective(BoostedLoss(loss, options), curvature, minimum)


def lightgbm_objective(
    loss: _Loss,
    *,
    curvature: str = "friedman",
    minimum: float | None = None,
    **options: Any,
) -> Objective:
    """Make an objective for LightGBM of a loss.

    Parameters
    ----------
    loss : callable
        As for `xgboost_objective`.
    curvature : {"friedman", "upper_bound", "absolute_gradient", "diagonal"}
        The rule; the default is that of the objectives ``multiclass`` and ``binary``. A focal
        loss is not convex: its upper bound is never negative, its diagonal may be.
    minimum : float, optional
        The least curvature of a score, weights included. LightGBM has none of its own.
    **options
        Options of the loss.

    Returns
    -------
    callable
        ``objective(scores, data)`` for ``lightgbm.train({"objective": objective}, …)``, and as
        well ``objective(labels, scores, weight)`` for ``LGBMClassifier(objective=objective)``; it
        returns gradient and curvature, of the scores' shape and dtype. Scores are (N, K) or
        flat, a class's beside each other; weights are those of the data, which LightGBM leaves to
        a custom objective. It can be pickled and compared.

    Raises
    ------
    TypeError, ValueError
        As `xgboost_objective`.

    See Also
    --------
    lightgbm_metric : the mean loss, to watch and to stop by.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> from xp_xent.integrations.boosting import lightgbm_objective
    >>> objective = lightgbm_objective(cross_entropy)
    >>> gradient, curvature = objective(np.asarray([1.0]), np.zeros((1, 2)))
    >>> print(gradient, curvature)
    [[ 0.5 -0.5]] [[0.5 0.5]]
    """
    return Objective(BoostedLoss(loss, options, order="F"), curvature, minimum)


def xgboost_metric(loss: _Loss, *, name: str | None = None, **options: Any) -> XGBoostMetric:
    """Make a metric for XGBoost: the mean of a loss of raw scores.

    Parameters
    ----------
    loss : callable
        As for `xgboost_objective`.
    name : str, optional
        What XGBoost reports it as; by default the loss's name.
    **options
        Options of the loss.

    Returns
    -------
    callable
        ``metric(scores, data) -> (name, value)`` for ``xgboost.train(…, custom_metric=metric)``,
        and ``metric(labels, scores, sample_weight) -> value`` for
        ``XGBClassifier(eval_metric=metric)``. The mean is weighted, lower is better. It takes raw
        scores, which XGBoost hands to a metric beside a custom objective only: beside a built-in
        one it hands probabilities.

    Raises
    ------
    TypeError, ValueError
        As `xgboost_objective`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> from xp_xent.integrations.boosting import xgboost_metric
    >>> metric = xgboost_metric(cross_entropy)
    >>> print(f"{metric(np.asarray([1.0]), np.zeros((1, 2))):.6f}")
    0.693147
    """
    boosted = BoostedLoss(loss, options)
    return XGBoostMetric(boosted, name or boosted.name)


def lightgbm_metric(loss: _Loss, *, name: str | None = None, **options: Any) -> LightGBMMetric:
    """Make a metric for LightGBM: the mean of a loss of raw scores.

    Parameters
    ----------
    loss : callable
        As for `xgboost_objective`.
    name : str, optional
        What LightGBM reports it as; by default the loss's name.
    **options
        Options of the loss.

    Returns
    -------
    callable
        ``metric(scores, data) -> (name, value, False)`` for ``lightgbm.train(…, feval=metric)``,
        and the same of ``(labels, scores, weight)`` for ``LGBMClassifier.fit(eval_metric=…)``.
        The mean is weighted; False says that lower is better. It takes raw scores, which
        LightGBM hands to a metric beside a custom objective only.

    Raises
    ------
    TypeError, ValueError
        As `xgboost_objective`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import binary_cross_entropy_with_logits
    >>> from xp_xent.integrations.boosting import lightgbm_metric
    >>> metric = lightgbm_metric(binary_cross_entropy_with_logits, name="loss")
    >>> name, value, higher_is_better = metric(np.asarray([1.0]), np.zeros(1))
    >>> print(f"{name} {value:.6f} {higher_is_better}")
    loss 0.693147 False
    """
    boosted = BoostedLoss(loss, options, order="F")
    return LightGBMMetric(boosted, name or boosted.name)


def catboost_objective(loss: _Loss, **options: Any) -> CatBoostBinary | CatBoostMulticlass:
    """Make an objective for CatBoost of a loss.

    Parameters
    ----------
    loss : callable
        As for `xgboost_objective`, of one example's scores.
    **options
        Options of the loss.

    Returns
    -------
    object
        For ``CatBoost({"loss_function": objective, …})``. CatBoost maximises, so that signs are
        reversed, and solves with the whole matrix of second derivatives: there is no rule to
        choose. It calls Python once an example for K classes (``calc_ders_multi``), once
        a block of examples for a binary loss (``calc_ders_range``).

    Raises
    ------
    TypeError, ValueError
        As `xgboost_objective`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> from xp_xent.integrations.boosting import catboost_objective
    >>> objective = catboost_objective(cross_entropy)
    >>> first, second = objective.calc_ders_multi(np.zeros(2), 1.0, 1.0)
    >>> print(first, second)
    [-0.5, 0.5] [[-0.25, 0.25], [0.25, -0.25]]
    """
    boosted = BoostedLoss(loss, options)
    return CatBoostBinary(boosted) if boosted.binary else CatBoostMulticlass(boosted)
