"""Weights against imbalance, from the counts of the classes."""

import math
from typing import Any

from xp_xent.backends import Backend, backend_of
from xp_xent.flow import checks as check
from xp_xent.flow.plan import no_warnings
from xp_xent.flow.validate import loss_dtype

Array = Any

__all__ = ["balanced_class_weights", "effective_number_weights", "positive_class_weight"]


def balanced_class_weights(
    labels: Array, num_classes: int, /, *, ignore_index: int | None = -100
) -> Array:
    """Class weights inversely proportional to the counts: N / (K·n_c).

    Parameters
    ----------
    labels : integer array
        Class labels of any shape.
    num_classes : int
        The number K of classes.
    ignore_index : int or None, default -100
        Labels that are not counted; nor are those outside 0 … K − 1.

    Returns
    -------
    array, shape (num_classes,)
        Weights in the library's default floating dtype on the labels' device, for ``weight=`` of
        `cross_entropy`. A class without labels gets 0.

    Raises
    ------
    TypeError, ValueError
        `labels` are not integers, or `num_classes` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import balanced_class_weights
    >>> print(balanced_class_weights(np.asarray([0, 0, 0, 1]), 2))
    [0.66666667 2.        ]
    """
    xp, counts = _counts(labels, num_classes, ignore_index)
    empty = counts == 0
    return xp.where(empty, 0.0, xp.sum(counts) / (int(num_classes) * xp.where(empty, 1.0, counts)))


def effective_number_weights(
    labels: Array, num_classes: int, /, *, beta: float = 0.999, ignore_index: int | None = -100
) -> Array:
    """Class weights by the effective number of samples: ∝ (1 − β) / (1 − β^n_c).

    Parameters
    ----------
    labels : integer array
        Class labels of any shape.
    num_classes : int
        The number K of classes.
    beta : float in [0, 1), default 0.999
        0 weighs all classes alike; towards 1, weights approach the inverse counts.
    ignore_index : int or None, default -100
        Labels that are not counted; nor are those outside 0 … K − 1.

    Returns
    -------
    array, shape (num_classes,)
        Weights that sum to K, in the library's default floating dtype on the labels' device. A
        class without labels gets 0.

    Raises
    ------
    TypeError, ValueError
        `labels` are not integers, `num_classes` is not positive, or `beta` is out of range.

    References
    ----------
    .. [1] Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import effective_number_weights
    >>> print(effective_number_weights(np.asarray([0, 0, 0, 1]), 2, beta=0.9).round(6))
    [0.539084 1.460916]
    """
    beta = check.number("beta", beta, 0.0, 1.0)
    if beta == 1:
        raise ValueError("beta: got 1, wanted a number in [0, 1); see balanced_class_weights")
    xp, counts = _counts(labels, num_classes, ignore_index)
    empty = counts == 0
    # −expm1(n·log β) is 1 − βⁿ without cancellation; β = 0 has no logarithm, and gives 1.
    number = -xp.expm1(counts * math.log(beta)) if beta else xp.ones_like(counts)
    weights = xp.where(empty, 0.0, (1 - beta) / xp.where(empty, 1.0, number))
    total = xp.sum(weights)
    return int(num_classes) * weights / xp.where(total == 0, 1.0, total)


def positive_class_weight(targets: Array, /, *, axis: int = 0) -> Array:
    """Negatives per positive, for ``pos_weight=`` of `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    targets : array
        Binary or multilabel targets, 0 or 1 (or probabilities of 1).
    axis : int, default 0
        The axis of the samples.

    Returns
    -------
    array
        Of the targets' shape without `axis`, in their dtype if it is floating, else in the
        library's default floating dtype on their device; inf where nothing is positive and Python
        cannot look.

    Raises
    ------
    TypeError
        `targets` are complex.
    ValueError
        A class has no positive, which no weight can repair, there is no sample, or no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import positive_class_weight
    >>> print(positive_class_weight(np.asarray([[1, 0], [0, 1], [0, 1], [0, 0]])))
    [3. 1.]
    """
    backend = backend_of(targets=targets)
    if check.kind(targets) == "other":
        check.numeric("targets", targets)
    xp, shape = backend.xp, tuple(targets.shape)
    axis = check.axis(axis, shape, "targets", check.SAMPLES)
    if check.kind(targets) != "floating":
        targets = backend.cast(targets, _default_float(backend, targets))
    # Counts of half precision stop at 2048.
    positives = xp.sum(backend.cast(targets, loss_dtype(xp, targets)), axis=axis)
    if backend.can_read_values(positives) and not bool(xp.all(positives > 0)):
        raise ValueError(
            "targets: got a class without a positive sample, wanted at least one each; "
            "leave the class out, or give its pos_weight yourself"
        )
    with no_warnings(backend):  # of endless or absent positives
        return backend.cast((shape[axis] - positives) / positives, targets.dtype)


def _counts(labels: Array, num_classes: int, ignore_index: int | None) -> tuple[Any, Array]:
    """Count each class, in the default floating dtype."""
    backend = backend_of(labels=labels)
    xp = backend.xp
    check.labels("labels", labels)
    num_classes = check.integer("num_classes", num_classes)
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}, wanted at least 1")
    classes = backend.indices(backend.full((num_classes + 1,), 0, labels.dtype, like=labels), -1)
    labels = backend.kernel_layout(labels, classes.dtype)
    flat = xp.reshape(labels, (-1,))
    if ignore_index is not None:
        ignored = check.integer("ignore_index", ignore_index)
        if 0 <= ignored < num_classes:  # no other label is counted in any case
            flat = xp.where(flat == ignored, -1, flat)
    # In sorted labels each class is one run, found by bisection: no table of N × K.
    edges = xp.searchsorted(xp.sort(flat), classes)
    return xp, backend.cast(edges[1:] - edges[:-1], _default_float(backend, labels))


def _default_float(backend: Backend, like: Array) -> Any:
    """Return the library's default floating dtype where that array lives."""
    # Imported here: it takes 30 ms, which `import xp_xent` need not spend.
    import array_api_extra as xpx

    return xpx.default_dtype(backend.xp, "real floating", device=backend.device(like))
