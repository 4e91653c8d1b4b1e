"""Cross-entropy of logits, and of log-probabilities."""

from typing import Any

from xp_xent.flow.execute import compute
from xp_xent.flow.options import UNIT
from xp_xent.flow.plan import public
from xp_xent.flow.prepare import SOFTMAX_NUMBERS, RowLoss, softmax_kernel
from xp_xent.flow.validate import smoothing_of
from xp_xent.kernels.log_probs import LogProbs

Array = Any

__all__ = ["cross_entropy", "nll_loss"]

_CROSS_ENTROPY = RowLoss(softmax_kernel, ranges=SOFTMAX_NUMBERS)


@public(_CROSS_ENTROPY)
def cross_entropy(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float | Array = 0.0,
    smoothing: str = "uniform",
    z_loss: float | Array = 0.0,
    softcap: float | Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
    return_stats: bool = False,
) -> Array:
    r"""Cross-entropy between logits and class labels or probabilities.

    For a row of logits z with label y, or with probabilities q, and p = softmax(z) this is

    .. math:: -\log p_y \quad\text{or}\quad -\sum_j q_j \log p_j,

    computed so that nothing cancels: confident rows keep their relative accuracy, in the loss and
    in the gradient.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`; float16, bfloat16, float32 or
        float64. −inf masks a class. A NaN or +inf makes its row's loss NaN.
    targets : array
        Integer labels of the logits' shape without `axis`, or floating probabilities of the
        logits' shape.
    axis : int, default -1
        The class axis.
    weight : array, shape (K,), optional
        Class weights.
    sample_weight : array, labels' shape, optional
        Multiplies a row's loss, and its share of the mean's denominator.
    where : boolean array, labels' shape, optional
        The rows that count. Another row has loss 0 and gradient 0, even if it holds NaN.
    class_where : boolean array, optional
        The classes that take part, broadcast against the logits. The others are as if their
        logits were −inf, whatever they hold, NaN too; their gradient is 0, and smoothing spreads
        over those that take part. A label on one of the others has an infinite loss.
    ignore_index : int or None, default -100
        Rows with this label do not count. None: no label is special. With probabilities, which
        have no label, any other number than the default is refused.
    label_smoothing : float or 0-d array in [0, 1], default 0.0
        Mass ε taken from the targets and spread over the classes.
    smoothing : {"uniform", "others"}, default "uniform"
        Spread ε/K over all classes, or ε/(K − 1) over each class but the target.
    z_loss : float or 0-d array, default 0.0
        Adds ``z_loss``·lse² to each row's loss, lse = log Σ exp(z).
    softcap : float or 0-d array, optional
        Replaces z by c·tanh(z/c) before anything else.
    temperature : float or 0-d array, default 1.0
        Divides the logits, after the soft cap.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is Σ w_y·loss / Σ w_y over the rows that count with labels, and the sum over
        the number of rows that count with probabilities.
    normalizer : float or 0-d array, optional
        Replaces the mean's denominator: the number of tokens in an accumulated batch, say.
    return_stats : bool, default False
        Also return what a trainer logs, of the same walk over the logits: see Returns.

    Returns
    -------
    array
        The loss in nats: 0-d, or of the labels' shape with ``reduction="none"``. Its dtype is the
        logits', but float32 for float16 and bfloat16. NaN where no row counts.
        With ``return_stats=True`` a pair of the loss and a named tuple of arrays, none of which
        carries a gradient: `nll`, `logsumexp` and `correct` of each row (the negative
        log-likelihood of its label, log Σ exp, and whether the label's logit is the largest; 0 and
        False where a row does not count), and `z_loss`, Σ ``z_loss``·lse² over the rows that
        count, weighted by sample, before the denominator.

    Raises
    ------
    TypeError
        A dtype or array library that does not fit.
    ValueError
        A shape, device or option that does not fit, or a label out of range. Where labels cannot
        be looked at (on a device, under tracing), such a label makes its row NaN instead.

    See Also
    --------
    linear_cross_entropy : the logits are a product of features and a classifier.
    xp_xent.value_and_grad : the gradient, on every array library.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.4.
    .. [2] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
       2016 (label smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> logits = np.asarray([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3]])
    >>> print(round(float(cross_entropy(logits, np.asarray([0, 1]))), 6))
    0.31854

    A confident row keeps its digits:

    >>> confident = np.asarray([20, 0, 0], dtype=np.float32)
    >>> print(f"{cross_entropy(confident, np.asarray(0)):.5g}")
    4.1223e-09

    Segmentation: classes along axis 1, unlabelled pixels ignored:

    >>> images = np.zeros((2, 21, 4, 4))
    >>> pixels = np.full((2, 4, 4), -100)
    >>> pixels[:, 1:3, 1:3] = 7
    >>> print(round(float(cross_entropy(images, pixels, axis=1)), 6))
    3.044522
    """
    options = {
        "axis": axis, "weight": weight, "sample_weight": sample_weight, "where": where,
        "class_where": class_where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "smoothing": smoothing, "z_loss": z_loss,
        "softcap": softcap, "temperature": temperature, "reduction": reduction,
        "normalizer": normalizer, "return_stats": return_stats,
    }  # fmt: skip
    return compute(_CROSS_ENTROPY, None, (logits, targets), options)


def _log_probs_kernel(dtype: Any, options: dict[str, Any]) -> LogProbs:
    return LogProbs(dtype, smoothing_of(options))


_NLL_LOSS = RowLoss(_log_probs_kernel, ("log_probs", "targets"), ranges={"label_smoothing": UNIT})


@public(_NLL_LOSS)
def nll_loss(
    log_probs: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
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
    r"""Negative log-likelihood of log-probabilities.

    For a row ℓ with label y, or with probabilities q, this is

    .. math:: -\ell_y \quad\text{or}\quad -\sum_j q_j \ell_j.

    ``nll_loss(log_softmax(z), y)`` is ``cross_entropy(z, y)``; prefer the latter where there are
    logits.

    Parameters
    ----------
    log_probs : array, shape (..., K, ...)
        Log-probabilities, the K classes along `axis`. They are not normalised again.
    targets : array
        Integer labels of the shape without `axis`, or floating probabilities of the same shape.
    axis, weight, sample_weight, where, class_where, ignore_index, label_smoothing, smoothing
        As in `cross_entropy`.
    reduction, normalizer
        As in `cross_entropy`.

    Returns
    -------
    array
        The loss in nats, as in `cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import nll_loss
    >>> log_probs = np.log(np.asarray([[0.7, 0.2, 0.1]]))
    >>> print(round(float(nll_loss(log_probs, np.asarray([0]))), 6))
    0.356675
    """
    options = {
        "axis": axis, "weight": weight, "sample_weight": sample_weight, "where": where,
        "class_where": class_where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "smoothing": smoothing, "reduction": reduction,
        "normalizer": normalizer,
    }  # fmt: skip
    return compute(_NLL_LOSS, None, (log_probs, targets), options)
