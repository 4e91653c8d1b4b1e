"""Losses that bend the cross-entropy: softmax focal and poly."""

from functools import partial
from typing import Any

from xp_xent import _checks as check
from xp_xent._evaluation import Evaluation, loss
from xp_xent._heads import FocalHead, PolyHead
from xp_xent._problem import RowOptions, loss_dtype
from xp_xent._smoothing import Smoothing
from xp_xent._softmax_rows import SoftmaxRows
from xp_xent._targets import softmax_evaluation
from xp_xent.backends import backend_of

Array = Any

__all__ = ["poly_cross_entropy", "softmax_focal_loss"]


@loss
def softmax_focal_loss(
    logits: Array,
    labels: Array,
    /,
    *,
    axis: int = -1,
    alpha: Array | float | None = None,
    gamma: float = 2.0,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Evaluation:
    """Focal loss over K classes: α_y·(1 − p_y)^γ·(−log p_y).

    1 − p_y is computed without cancellation, so that well-classified rows keep a true weight.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`.
    labels : integer array
        Labels of the logits' shape without `axis`.
    axis : int, default -1
        The class axis.
    alpha : array of shape (K,) or float, optional
        A factor for each class. Unlike class weights, it has no part in the mean's denominator.
    gamma : float, default 2.0
        The focusing exponent, ≥ 0; 0 gives cross-entropy.
    sample_weight, where, ignore_index, reduction, normalizer
        As in `cross_entropy`; the mean is over the rows that count.

    Returns
    -------
    array
        The loss, 0-d, or of the labels' shape with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`; probabilities as targets are refused.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import softmax_focal_loss
    >>> logits = np.asarray([[2.0, 1.0, 0.1]])
    >>> print(round(float(softmax_focal_loss(logits, np.asarray([0]))), 6))
    0.048492
    """
    gamma = check.number("gamma", gamma, 0.0)
    if alpha is not None and (check.is_number(alpha) or not hasattr(alpha, "dtype")):
        factor, backend = check.number("alpha", alpha), backend_of(logits=logits)
        check.floating("logits", logits)
        classes = logits.shape[check.axis(axis, tuple(logits.shape))]
        alpha = backend.full((classes,), factor, loss_dtype(backend.xp, logits), like=logits)
    options = RowOptions(
        None, sample_weight, where, ignore_index, reduction, normalizer, alpha=alpha
    )
    return softmax_evaluation(
        logits,
        labels,
        axis,
        options,
        partial(_bent, FocalHead(gamma)),
        labels_only=True,
        names=("logits", "labels"),
    )


@loss
def poly_cross_entropy(
    logits: Array,
    labels: Array,
    /,
    *,
    axis: int = -1,
    epsilon: float = 2.0,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Evaluation:
    """Poly-1 cross-entropy: −log p_y + ε·(1 − p_y).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`.
    labels : integer array
        Labels of the logits' shape without `axis`.
    axis : int, default -1
        The class axis.
    epsilon : float, default 2.0
        The coefficient of the polynomial's first term, ≥ −1. Towards −1 a confident row's two
        terms cancel, and digits with them.
    weight, sample_weight, where, ignore_index, reduction, normalizer
        As in `cross_entropy`.

    Returns
    -------
    array
        The loss, 0-d, or of the labels' shape with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`; probabilities as targets are refused.

    References
    ----------
    .. [1] Z. Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss
       Functions", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import poly_cross_entropy
    >>> logits = np.asarray([[2.0, 1.0, 0.1]])
    >>> print(round(float(poly_cross_entropy(logits, np.asarray([0]))), 6))
    1.099028
    """
    head = PolyHead(check.number("epsilon", epsilon, -1.0))
    options = RowOptions(weight, sample_weight, where, ignore_index, reduction, normalizer)
    return softmax_evaluation(
        logits,
        labels,
        axis,
        options,
        partial(_bent, head),
        labels_only=True,
        names=("logits", "labels"),
    )


def _bent(head: FocalHead | PolyHead, dtype: Any, smoothing: Smoothing) -> SoftmaxRows:
    return SoftmaxRows(dtype, head, smoothing)
