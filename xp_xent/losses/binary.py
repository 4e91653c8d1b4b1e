"""Binary and multilabel losses, element by element."""

from typing import Any

from xp_xent.flow.elements import ElementLoss
from xp_xent.flow.execute import compute
from xp_xent.flow.options import AT_LEAST_0, UNIT
from xp_xent.flow.plan import public
from xp_xent.kernels.binary import BinaryCrossEntropy
from xp_xent.kernels.binary_probabilities import BinaryOfProbabilities
from xp_xent.kernels.sigmoid_focal import SigmoidFocal

Array = Any

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "sigmoid_focal_loss",
]


_BINARY = ElementLoss(BinaryCrossEntropy, {"label_smoothing": UNIT})
_FOCAL = ElementLoss(
    SigmoidFocal,
    {"gamma": AT_LEAST_0, "alpha": UNIT._replace(or_none=True), "label_smoothing": UNIT},
)
_OF_PROBABILITIES = ElementLoss(
    BinaryOfProbabilities, {"label_smoothing": UNIT}, ("probabilities", "targets")
)


@public(_BINARY)
def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    /,
    *,
    weight: Array | None = None,
    pos_weight: Array | float | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float | Array = 0.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    r"""Binary cross-entropy of logits, for binary and multilabel targets.

    For a logit x and a target y this is, w being `pos_weight`,

    .. math:: -w y \log \sigma(x) - (1 - y) \log \sigma(-x).

    It is symmetric to the last bit: the loss of (x, 1) is the loss of (−x, 0).

    Parameters
    ----------
    logits : array
        Log-odds of any shape; ±inf is a certain answer, with its limits.
    targets : array, logits' shape
        Floating, integer or boolean: 1 for the positive class, or its probability.
    weight : array, optional
        Multiplies the loss of each element; broadcasts against the logits. It has no part in
        the mean's denominator.
    pos_weight : array or float, optional
        Multiplies the positive term; broadcasts against the logits, (C,) for logits (N, C).
    sample_weight : array, logits' shape, optional
        Multiplies an element's loss, and its share of the mean's denominator.
    where : boolean array, logits' shape, optional
        The elements that count. Another element has loss 0 and gradient 0, even if it is NaN.
    ignore_index : int, optional
        Elements with this target do not count: 255, say, in a mask of 0 and 1.
    label_smoothing : float or 0-d array in [0, 1], default 0.0
        Replaces y by y·(1 − ε) + ε/2.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the elements that count.
    normalizer : float or 0-d array, optional
        Replaces the mean's denominator.

    Returns
    -------
    array
        The loss in nats: 0-d, or of the logits' shape with ``reduction="none"``. Its dtype is the
        logits', but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit; a target outside [0, 1] of an
        element that counts, where it can be read (elsewhere the element is NaN).

    See Also
    --------
    xp_xent.positive_class_weight : a `pos_weight` from the targets' counts.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import binary_cross_entropy_with_logits
    >>> logits, targets = np.asarray([0.8, -1.2, 3.0]), np.asarray([1, 0, 1])
    >>> print(round(float(binary_cross_entropy_with_logits(logits, targets)), 6))
    0.227657
    """
    options = {
        "weight": weight, "pos_weight": pos_weight, "sample_weight": sample_weight,
        "where": where, "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_BINARY, None, (logits, targets), options)


@public(_FOCAL)
def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    alpha: float | Array | None = None,
    gamma: float | Array = 2.0,
    weight: Array | None = None,
    pos_weight: Array | float | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float | Array = 0.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    r"""Focal loss of logits: binary cross-entropy with less weight on well-classified elements.

    With the probability given to the target, p_t = y·σ(x) + (1 − y)·σ(−x), and α_t likewise of α
    and 1 − α, it is

    .. math:: \alpha_t (1 - p_t)^\gamma \, \mathrm{BCE}(x, y).

    Smoothing makes the target that α_t, p_t and BCE are of; `pos_weight` multiplies BCE's positive
    term, `weight` the whole.

    Parameters
    ----------
    logits : array
        Log-odds of any shape.
    targets : array, logits' shape
        As in `binary_cross_entropy_with_logits`.
    alpha : float or array in [0, 1], optional
        Weighs the positive class by α and the negative one by 1 − α; None weighs neither. The
        paper's value is 0.25. An array broadcasts against the logits, (C,) for logits (N, C).
    gamma : float or 0-d array, default 2.0
        The focusing exponent, ≥ 0; 0 gives binary cross-entropy.
    weight, pos_weight, sample_weight, where, ignore_index, label_smoothing, reduction, normalizer
        As in `binary_cross_entropy_with_logits`.

    Returns
    -------
    array
        The loss: 0-d, or of the logits' shape with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `binary_cross_entropy_with_logits`.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import sigmoid_focal_loss
    >>> logits, targets = np.asarray([0.8, -1.2, 3.0]), np.asarray([1, 0, 1])
    >>> print(round(float(sigmoid_focal_loss(logits, targets)), 6))
    0.016628
    """
    options = {
        "alpha": alpha, "gamma": gamma, "weight": weight, "pos_weight": pos_weight,
        "sample_weight": sample_weight, "where": where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_FOCAL, None, (logits, targets), options)


@public(_OF_PROBABILITIES)
def binary_cross_entropy(
    probabilities: Array,
    targets: Array,
    /,
    *,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float | Array = 0.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Array:
    r"""Binary cross-entropy of probabilities, which are taken as they are.

    For a probability p and a target y this is

    .. math:: -y \log p - (1 - y) \log(1 - p).

    Nothing is clipped: a sure hit has loss 0, a sure miss +inf, and 0·∞ is 0. Of logits,
    `binary_cross_entropy_with_logits` keeps digits that their sigmoid has lost.

    Parameters
    ----------
    probabilities : array
        Probabilities of the positive class, of any shape.
    targets : array, probabilities' shape
        Floating, integer or boolean: 1 for the positive class, or its probability.
    weight : array, optional
        Multiplies the loss of each element; broadcasts against the probabilities. It has no part
        in the mean's denominator.
    sample_weight, where, ignore_index, label_smoothing, reduction, normalizer
        As in `binary_cross_entropy_with_logits`, of the probabilities' shape.

    Returns
    -------
    array
        The loss in nats: 0-d, or of the probabilities' shape with ``reduction="none"``. Its dtype
        is the probabilities', but float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit; a probability or a target
        outside [0, 1] of an element that counts, where it can be read (elsewhere the element is
        NaN).

    See Also
    --------
    binary_cross_entropy_with_logits : the same of log-odds.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import binary_cross_entropy
    >>> probabilities, targets = np.asarray([0.7, 0.2, 1.0]), np.asarray([1, 0, 1])
    >>> print(round(float(binary_cross_entropy(probabilities, targets)), 6))
    0.193273
    """
    options = {
        "weight": weight, "sample_weight": sample_weight, "where": where,
        "ignore_index": ignore_index, "label_smoothing": label_smoothing, "reduction": reduction,
        "normalizer": normalizer,
    }  # fmt: skip
    return compute(_OF_PROBABILITIES, None, (probabilities, targets), options)
