"""Losses that transform each class's −log p: softmax focal and poly."""

from typing import Any

from xp_xent.flow.execute import compute
from xp_xent.flow.options import AT_LEAST_0, UNIT, Range
from xp_xent.flow.plan import public
from xp_xent.flow.prepare import RowLoss
from xp_xent.flow.validate import smoothing_of
from xp_xent.kernels.nll_transforms import FocalNLL, PolyNLL
from xp_xent.kernels.softmax import Softmax
from xp_xent.kernels.spread_nll import SpreadNLL

Array = Any

__all__ = ["poly_cross_entropy", "softmax_focal_loss"]


def _focal_kernel(dtype: Any, options: dict[str, Any]) -> Softmax:
    return Softmax(dtype, FocalNLL(options["gamma"]))


def _spread_focal_kernel(dtype: Any, options: dict[str, Any]) -> SpreadNLL:
    return SpreadNLL(dtype, FocalNLL(options["gamma"]), smoothing_of(options))


_SOFTMAX_FOCAL_LOSS = RowLoss(
    _focal_kernel,
    ranges={"gamma": AT_LEAST_0, "alpha": Range(or_none=True), "label_smoothing": UNIT},
    spread_kernel=_spread_focal_kernel,
)


@public(_SOFTMAX_FOCAL_LOSS)
def softmax_focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    alpha: Array | float | None = None,
    gamma: float | Array = 2.0,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float | Array = 0.0,
    smoothing: str = "uniform",
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    r"""Focal loss over K classes: cross-entropy with less weight on well-classified rows.

    For targets q (1 at a label), class weights w and p = softmax(z) it is

    .. math:: -\sum_j q_j w_j \alpha_j (1 - p_j)^\gamma \log p_j.

    1 − p is computed without cancellation, so that well-classified rows keep a true weight.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`.
    targets : array
        Integer labels of the logits' shape without `axis`, or floating probabilities q of the
        logits' shape.
    axis : int, default -1
        The class axis.
    alpha : array of shape (K,) or float, optional
        A factor α_j for each class. Unlike class weights, it has no part in the mean's denominator.
    gamma : float or 0-d array, default 2.0
        The focusing exponent, ≥ 0; 0 gives cross-entropy.
    weight, sample_weight, where, class_where, ignore_index, reduction, normalizer
        As in `cross_entropy`.
    label_smoothing, smoothing
        As in `cross_entropy`: targets are smoothed before anything else.

    Returns
    -------
    array
        The loss, 0-d, or one a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

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

    Of probabilities, or smoothed labels, each class has its own focus:

    >>> soft = np.asarray([[0.9, 0.05, 0.05]])
    >>> print(round(float(softmax_focal_loss(logits, soft)), 6))
    0.178444
    """
    options = {
        "axis": axis, "alpha": alpha, "gamma": gamma, "weight": weight,
        "sample_weight": sample_weight, "where": where, "class_where": class_where,
        "ignore_index": ignore_index, "label_smoothing": label_smoothing, "smoothing": smoothing,
        "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_SOFTMAX_FOCAL_LOSS, None, (logits, targets), options)


def _poly_kernel(dtype: Any, options: dict[str, Any]) -> Softmax:
    return Softmax(dtype, PolyNLL(options["epsilon"]))


def _spread_poly_kernel(dtype: Any, options: dict[str, Any]) -> SpreadNLL:
    return SpreadNLL(dtype, PolyNLL(options["epsilon"]), smoothing_of(options))


_POLY_CROSS_ENTROPY = RowLoss(
    _poly_kernel,
    ranges={"epsilon": Range(-1.0), "label_smoothing": UNIT},
    spread_kernel=_spread_poly_kernel,
)


@public(_POLY_CROSS_ENTROPY)
def poly_cross_entropy(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    epsilon: float | Array = 2.0,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float | Array = 0.0,
    smoothing: str = "uniform",
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    r"""Poly-1 cross-entropy: a multiple of what is left to the true class is added.

    For targets q (1 at a label), class weights w and p = softmax(z) it is

    .. math:: \sum_j q_j w_j \left(-\log p_j + \epsilon (1 - p_j)\right).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`.
    targets : array
        Integer labels of the logits' shape without `axis`, or floating probabilities q of the
        logits' shape.
    axis : int, default -1
        The class axis.
    epsilon : float or 0-d array, default 2.0
        The coefficient of the polynomial's first term, ≥ −1. Towards −1 a confident row's two
        terms cancel, and digits with them.
    weight, sample_weight, where, class_where, ignore_index, reduction, normalizer
        As in `cross_entropy`.
    label_smoothing, smoothing
        As in `cross_entropy`: targets are smoothed before anything else.

    Returns
    -------
    array
        The loss, 0-d, or one a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

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
    >>> soft = np.asarray([[0.9, 0.05, 0.05]])
    >>> print(round(float(poly_cross_entropy(logits, soft)), 6))
    1.341728
    """
    options = {
        "axis": axis, "epsilon": epsilon, "weight": weight, "sample_weight": sample_weight,
        "where": where, "class_where": class_where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "smoothing": smoothing, "reduction": reduction,
        "normalizer": normalizer,
    }  # fmt: skip
    return compute(_POLY_CROSS_ENTROPY, None, (logits, targets), options)
