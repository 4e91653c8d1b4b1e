"""Binary and multilabel losses of logits, element by element."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xp_xent import _checks as check
from xp_xent._binary_rows import BinaryRows
from xp_xent._evaluation import Evaluation, loss
from xp_xent._layout import Layout
from xp_xent._problem import RowOptions, loss_dtype
from xp_xent._reduction import Reduction
from xp_xent._rows import Rows
from xp_xent._sigmoid_focal_rows import SigmoidFocalRows
from xp_xent.backends import Backend

Array = Any

__all__ = ["binary_cross_entropy_with_logits", "sigmoid_focal_loss"]


@loss
def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    /,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    where: Array | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Evaluation:
    """Binary cross-entropy of logits, for binary and multilabel targets.

    For a logit x and a target y this is w·y·(−log σ(x)) + (1 − y)·(−log σ(−x)), w being
    `pos_weight`. It is symmetric to the last bit: the loss of (x, 1) is the loss of (−x, 0).

    Parameters
    ----------
    logits : array
        Log-odds of any shape; ±inf is a certain answer, with its limits.
    targets : array, logits' shape
        Floating, integer or boolean: 1 for the positive class, or its probability.
    weight : array, optional
        Multiplies the loss of each element; broadcasts against the logits. It has no part in
        the mean's denominator.
    pos_weight : array, optional
        Multiplies the positive term; broadcasts against the logits, (C,) for logits (N, C).
    where : boolean array, logits' shape, optional
        The elements that count. Another element has loss 0 and gradient 0, even if it is NaN.
    label_smoothing : float in [0, 1], default 0.0
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
    epsilon = check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    options = RowOptions(weight, where=where, reduction=reduction, normalizer=normalizer)
    kernel = partial(BinaryRows, label_smoothing=epsilon)
    return _elementwise(logits, targets, kernel, options, pos_weight)


@loss
def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    /,
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    where: Array | None = None,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Evaluation:
    """Focal loss of logits: α_t·(1 − p_t)^γ·BCE, p_t the probability given to the target.

    Parameters
    ----------
    logits : array
        Log-odds of any shape.
    targets : array, logits' shape
        As in `binary_cross_entropy_with_logits`.
    alpha : float in [0, 1], optional
        Weighs the positive class by α and the negative one by 1 − α; None weighs neither. The
        paper's value is 0.25.
    gamma : float, default 2.0
        The focusing exponent, ≥ 0; 0 gives binary cross-entropy.
    where, reduction, normalizer
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
    gamma = check.number("gamma", gamma, 0.0)
    if alpha is not None:
        alpha = check.number("alpha", alpha, 0.0, 1.0)
    options = RowOptions(where=where, reduction=reduction, normalizer=normalizer)
    kernel = partial(SigmoidFocalRows, gamma=gamma, alpha=alpha)
    return _elementwise(logits, targets, kernel, options)


def _elementwise(
    logits: Array,
    targets: Array,
    kernel: Callable[..., Any],
    options: RowOptions,
    pos_weight: Array | None = None,
) -> Evaluation:
    """Check and lay out a loss whose elements are rows of one logit."""
    arrays = {"logits": logits, "targets": targets, **options.arrays()}
    if pos_weight is not None:
        arrays["pos_weight"] = pos_weight
    backend = check.together(**arrays)
    check.floating("logits", logits)
    if check.kind(targets) == "other":
        check.numeric("targets", targets)
    shape, xp, where = tuple(logits.shape), backend.xp, options.where
    check.shape("targets", targets, shape, "the logits'")
    dtype, layout = loss_dtype(xp, logits), Layout(xp, None)

    def broadcast(name: str) -> Array | None:
        if name not in arrays:
            return None
        array = arrays[name]
        check.numeric(name, array)
        check.broadcastable(name, array, shape)
        aligned = (1,) * (len(shape) - len(array.shape)) + tuple(array.shape)
        return layout.inward(xp.reshape(backend.cast(array, dtype), aligned))

    share = None
    if where is not None:
        check.boolean("where", where)
        check.shape("where", where, shape, "the logits'")
    unread = not _within(backend, targets, where)
    if where is not None:
        share = backend.cast(where, dtype)
        where = layout.inward(where)
    rows = Rows(
        layout.inward(logits),
        counted=where,
        scale=broadcast("weight"),
        probabilities=layout.inward(targets),
        class_weight=broadcast("pos_weight"),
    )
    reduction = Reduction(options.reduction, share, options.normalizer)
    return Evaluation(backend, kernel(dtype, unread=unread), rows, layout, reduction)


def _within(backend: Backend, targets: Array, where: Array | None) -> bool:
    """Tell if the targets that count are known to lie in [0, 1]; refuse those known not to."""
    if check.kind(targets) == "bool":
        return True
    readable = backend.is_readable(targets)
    if readable and backend.spans(targets, 0, 1):
        return True
    # A mask may be traced where targets are not, and the other way round.
    if not readable or not (where is None or backend.is_readable(where)):
        return False
    outside = (targets < 0) | (targets > 1)  # not NaN, which the loss shows
    if where is not None:
        outside = outside & where
    if not backend.holds(~outside):
        host = backend.to_numpy(targets), backend.to_numpy(outside)
        raise ValueError(f"targets: {outside_message(*host)}")
    return True


def outside_message(targets: np.ndarray, outside: np.ndarray) -> str:
    """Say which target is the first outside [0, 1], and what to do."""
    position = tuple(int(i) for i in np.argwhere(outside)[0])
    return (
        f"got {targets[position]} at position {position}, wanted 0 … 1: whether the class is "
        "positive, or its probability; divide a mask of 0 and 255 by 255, or ignore such "
        "elements with where="
    )
