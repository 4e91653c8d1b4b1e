"""Entropy, and the Kullback–Leibler divergence from a softmax."""

from typing import Any

from xp_xent import _checks as check
from xp_xent._divergence_rows import DivergenceRows
from xp_xent._evaluation import Evaluation, loss
from xp_xent._heads import Head
from xp_xent._other_rows import EntropyRows
from xp_xent._problem import RowOptions, open_problem
from xp_xent._smoothing import Smoothing
from xp_xent._targets import probability_rows

Array = Any

__all__ = ["entropy", "kl_divergence"]


@loss
def kl_divergence(
    logits: Array,
    target_probs: Array,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    reduction: str = "mean",
) -> Evaluation:
    """Kullback–Leibler divergence of target probabilities from a softmax: Σ q·(log q − log p).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities of p, the K classes along `axis`.
    target_probs : floating array, logits' shape
        Probabilities q; 0·log 0 is 0.
    axis : int, default -1
        The class axis.
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows that count, not over elements.

    Returns
    -------
    array
        The divergence in nats: 0-d, or one number a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On Information and Sufficiency", Ann. Math. Statist.
       22(1), 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import kl_divergence
    >>> q = np.asarray([[0.5, 0.5, 0.0]])
    >>> print(round(float(kl_divergence(np.zeros((1, 3)), q)), 6))
    0.405465
    """
    arrays = {"logits": logits, "target_probs": target_probs}
    problem = open_problem(arrays, axis, RowOptions(where=where, reduction=reduction))
    check.floating("target_probs", target_probs)
    check.shape("target_probs", target_probs, tuple(logits.shape), "the logits'")
    rows, reduce = probability_rows(problem, target_probs)
    rows = rows._replace(logits=problem.logits)
    kernel = DivergenceRows(problem.dtype, Head(), Smoothing())
    return Evaluation(problem.backend, kernel, rows, problem.layout, reduce, problem.names)


@loss
def entropy(
    logits: Array,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    reduction: str = "mean",
) -> Evaluation:
    """Entropy of a softmax: −Σ p·log p with p = softmax(logits).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`; −inf masks a class.
    axis : int, default -1
        The class axis.
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows that count.

    Returns
    -------
    array
        The entropy in nats, in [0, log K]: 0-d, or one number a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit.

    References
    ----------
    .. [1] C. E. Shannon, "A Mathematical Theory of Communication", Bell Syst. Tech. J. 27, 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import entropy
    >>> print(round(float(entropy(np.zeros((1, 4)))), 6))
    1.386294
    """
    problem = open_problem({"logits": logits}, axis, RowOptions(where=where, reduction=reduction))
    rows, reduce = probability_rows(problem, None)
    rows = rows._replace(logits=problem.logits)
    kernel = EntropyRows(problem.dtype)
    return Evaluation(problem.backend, kernel, rows, problem.layout, reduce, problem.names)
