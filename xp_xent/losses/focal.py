"""Losses that transform the cross-entropy: softmax focal and poly."""

from typing import Any

from xp_xent.flow.execute import compute
from xp_xent.flow.options import AT_LEAST_0, Range
from xp_xent.flow.plan import public
from xp_xent.flow.prepare import RowLoss
from xp_xent.kernels.nll_transforms import FocalNLL, PolyNLL
from xp_xent.kernels.softmax import Softmax

Array = Any

__all__ = ["poly_cross_entropy", "softmax_focal_loss"]

_ARGUMENTS = ("logits", "labels")


def _focal_kernel(dtype: Any, options: dict[str, Any]) -> Softmax:
    return Softmax(dtype, FocalNLL(options["gamma"]))


_SOFTMAX_FOCAL_LOSS = RowLoss(
    _focal_kernel,
    _ARGUMENTS,
    ranges={"gamma": AT_LEAST_0, "alpha": Range(or_none=True)},
    labels_only=True,
)


@public(_SOFTMAX_FOCAL_LOSS)
def softmax_focal_loss(
    logits: Array,
    labels: Array,
    /,
    *,
    axis: int = -1,
    alpha: Array | float | None = None,
    gamma: float | Array = 2.0,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
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
    gamma : float or 0-d array, default 2.0
        The focusing exponent, ≥ 0; 0 gives cross-entropy.
    sample_weight, where, class_where, ignore_index, reduction, normalizer
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
    options = {
        "axis": axis, "alpha": alpha, "gamma": gamma, "sample_weight": sample_weight,
        "where": where, "class_where": class_where, "ignore_index": ignore_index,
        "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_SOFTMAX_FOCAL_LOSS, None, (logits, labels), options)


def _poly_kernel(dtype: Any, options: dict[str, Any]) -> Softmax:
    return Softmax(dtype, PolyNLL(options["epsilon"]))


_POLY_CROSS_ENTROPY = RowLoss(
    _poly_kernel, _ARGUMENTS, ranges={"epsilon": Range(-1.0)}, labels_only=True
)


@public(_POLY_CROSS_ENTROPY)
def poly_cross_entropy(
    logits: Array,
    labels: Array,
    /,
    *,
    axis: int = -1,
    epsilon: float | Array = 2.0,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    """Poly-1 cross-entropy: −log p_y + ε·(1 − p_y).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`.
    labels : integer array
        Labels of the logits' shape without `axis`.
    axis : int, default -1
        The class axis.
    epsilon : float or 0-d array, default 2.0
        The coefficient of the polynomial's first term, ≥ −1. Towards −1 a confident row's two
        terms cancel, and digits with them.
    weight, sample_weight, where, class_where, ignore_index, reduction, normalizer
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
    options = {
        "axis": axis, "epsilon": epsilon, "weight": weight, "sample_weight": sample_weight,
        "where": where, "class_where": class_where, "ignore_index": ignore_index,
        "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_POLY_CROSS_ENTROPY, None, (logits, labels), options)
