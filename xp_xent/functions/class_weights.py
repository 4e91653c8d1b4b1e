"""Weights against imbalance, from the counts of the classes."""

import math
from functools import partial
from operator import truediv
from typing import Any

from xp_xent.backends import Backend, has_unknown, to_numpy
from xp_xent.flow import checks as check
from xp_xent.flow.class_counts import class_counts, default_float, over_rows
from xp_xent.flow.plan import no_warnings
from xp_xent.flow.validate import common_backend, loss_dtype, spread_alike, whole

Array = Any

__all__ = ["balanced_class_weights", "effective_number_weights", "positive_class_weight"]


def balanced_class_weights(
    labels: Array,
    num_classes: int,
    /,
    *,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    absent: str = "counted",
) -> Array:
    r"""Class weights inversely proportional to the counts.

    .. math:: w_c = \frac{N}{K n_c}

    Parameters
    ----------
    labels : integer array
        Class labels of any shape.
    num_classes : int
        The number K of classes.
    sample_weight : array, labels' shape, optional
        How much each label counts: the counts n_c and their sum N are sums of these.
    ignore_index : int or None, default -100
        Labels that are not counted; nor are those outside 0 … K − 1.
    absent : {"counted", "zero", "error"}, default "counted"
        Classes without labels, or whose labels weigh nothing: they get 0 and are among the K;
        they get 0, and K is the number of the others; or they are refused, as scikit-learn does.
        Where Python cannot look, on a device or under tracing, they get NaN instead.

    Returns
    -------
    array, shape (num_classes,)
        Weights in the library's default floating dtype on the labels' device, for ``weight=`` of
        `cross_entropy`. Within `split` over rows they are those of all places' labels.

    Raises
    ------
    TypeError, ValueError
        `labels` are not integers or are a DTensor, `num_classes` is not positive, `sample_weight`
        does not fit, or with ``absent="error"`` a class has no labels.

    References
    ----------
    .. [1] G. King, L. Zeng, "Logistic Regression in Rare Events Data", Political Analysis 9(2),
       2001.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import balanced_class_weights
    >>> print(balanced_class_weights(np.asarray([0, 0, 0, 1]), 2))
    [0.66666667 2.        ]

    Weighted samples, and a class that never occurs:

    >>> weight = np.asarray([1.0, 1.0, 2.0, 2.0])
    >>> labels = np.asarray([0, 0, 0, 2])
    >>> print(balanced_class_weights(labels, 3, sample_weight=weight, absent="zero"))
    [0.75 0.   1.5 ]
    """
    backend, counts = _counts(labels, num_classes, sample_weight, ignore_index)
    xp, occurs = backend.xp, counts != 0
    share = xp.sum(counts) / _classes(backend, occurs, num_classes, absent)
    weights = xp.where(occurs, share / xp.where(occurs, counts, 1.0), 0.0)
    return _refused(backend, weights, occurs, absent)


def effective_number_weights(
    labels: Array,
    num_classes: int,
    /,
    *,
    beta: float = 0.999,
    sample_weight: Array | None = None,
    ignore_index: int | None = -100,
    absent: str = "counted",
) -> Array:
    r"""Class weights by the effective number of samples.

    .. math:: w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}

    Parameters
    ----------
    labels : integer array
        Class labels of any shape.
    num_classes : int
        The number K of classes.
    beta : float in [0, 1), default 0.999
        0 weighs all classes alike; towards 1, weights approach the inverse counts.
    sample_weight, ignore_index, absent
        As in `balanced_class_weights`.

    Returns
    -------
    array, shape (num_classes,)
        Weights that sum to K, in the library's default floating dtype on the labels' device. Within
        `split` over rows they are those of all places' labels.

    Raises
    ------
    TypeError, ValueError
        `labels` are not integers or are a DTensor, `num_classes` is not positive, `beta` is out of
        range, `sample_weight` does not fit, or with ``absent="error"`` a class has no labels.

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
    backend, counts = _counts(labels, num_classes, sample_weight, ignore_index)
    xp, occurs = backend.xp, counts != 0
    # −expm1(n·log β) is 1 − βⁿ without cancellation; β = 0 has no logarithm, and gives 1.
    number = -xp.expm1(counts * math.log(beta)) if beta else xp.ones_like(counts)
    weights = xp.where(occurs, (1 - beta) / xp.where(occurs, number, 1.0), 0.0)
    total = xp.sum(weights)
    classes = _classes(backend, occurs, num_classes, absent)
    weights = classes * weights / xp.where(total == 0, 1.0, total)
    return _refused(backend, weights, occurs, absent)


def positive_class_weight(
    targets: Array,
    /,
    *,
    axis: int = 0,
    sample_weight: Array | None = None,
    absent: str = "error",
) -> Array:
    """Negatives per positive, for ``pos_weight=`` of `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    targets : array
        Binary or multilabel targets, 0 or 1 (or probabilities of 1).
    axis : int, default 0
        The axis of the samples.
    sample_weight : array, shape (number of samples,), optional
        How much each sample counts.
    absent : {"error", "zero"}, default "error"
        Classes without a positive, which no weight can repair: they are refused, or get 0.

    Returns
    -------
    array
        Of the targets' shape without `axis`, in their dtype if it is floating, else in the
        library's default floating dtype on their device; inf where nothing is positive, is to be
        refused, and Python cannot look. Within `split` over rows it is that of all places' samples.

    Raises
    ------
    TypeError
        `targets` are complex.
    ValueError
        A class has no positive, there is no sample, no such axis, or `sample_weight` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import positive_class_weight
    >>> print(positive_class_weight(np.asarray([[1, 0], [0, 1], [0, 1], [0, 0]])))
    [3. 1.]
    """
    check.choice("absent", absent, ("error", "zero"))
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    backend = common_backend(targets=targets, **given)
    spread_alike(targets=targets, **given)
    if check.kind(targets) == "other":
        check.numeric("targets", targets)
    xp, shape = backend.xp, tuple(targets.shape)
    # Where others have rows too, none need be here.
    count = int if backend._rows is None else lambda _: None
    axis = check.axis(axis, shape, "targets", check.SAMPLES, count)
    if check.kind(targets) != "floating":
        targets = backend.cast(targets, default_float(backend, targets))
    # Counts of half precision stop at 2048.
    positive = backend.cast(targets, loss_dtype(xp, targets))
    if sample_weight is None:
        positives = xp.sum(positive, axis=axis)
        unknown = has_unknown((shape[axis],))
        negatives = xp.sum(1 - positive, axis=axis) if unknown else shape[axis] - positives
    else:
        check.numeric("sample_weight", sample_weight)
        check.shape("sample_weight", sample_weight, shape[axis : axis + 1], "one number a sample")
        weight = backend.cast(sample_weight, positive.dtype)
        weight = xp.reshape(weight, (-1, *(1,) * (len(shape) - 1 - axis)))
        positives = xp.sum(weight * positive, axis=axis)
        negatives = xp.sum(weight * (1 - positive), axis=axis)
    positives, negatives = over_rows(backend, positives, negatives)
    if absent == "zero":
        occurs = positives != 0
        ratio = xp.where(occurs, negatives / xp.where(occurs, positives, 1.0), 0.0)
        return backend.cast(ratio, targets.dtype)
    if backend.can_read_values(positives) and not bool(xp.all(positives > 0)):
        raise ValueError(
            "targets: got a class without a positive sample, wanted at least one each; "
            'leave the class out, give its pos_weight yourself, or pass absent="zero"'
        )
    with no_warnings(backend):  # of endless or absent positives
        return backend.cast((backend._quotient or truediv)(negatives, positives), targets.dtype)


def _counts(
    labels: Array, num_classes: int, sample_weight: Array | None, ignore_index: int | None
) -> tuple[Backend, Array]:
    """Count each class, or sum its labels' weights, in the default floating dtype."""
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    backend = common_backend(labels=labels, **given)
    whole(labels=labels, **given)
    check.labels("labels", labels)
    num_classes = check.integer("num_classes", num_classes)
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}, wanted at least 1")
    if sample_weight is not None:
        check.numeric("sample_weight", sample_weight)
        check.shape("sample_weight", sample_weight, tuple(labels.shape), "the labels'")
    ignored = None
    if ignore_index is not None:
        ignored = check.integer("ignore_index", ignore_index)
        if not 0 <= ignored < num_classes:  # no other label is counted in any case
            ignored = None
    count = partial(class_counts, num_classes, ignored)
    (counts,) = over_rows(backend, backend._added_up(count, labels, sample_weight))
    return backend, counts


def _classes(backend: Backend, occurs: Array, num_classes: int, absent: str) -> Array | int:
    """Return how many classes share the weight."""
    check.choice("absent", absent, ("counted", "zero", "error"))
    if absent != "zero":
        return int(num_classes)  # MLX takes no integer of NumPy
    dtype = default_float(backend, occurs)
    count = backend.xp.sum(backend.cast(occurs, dtype))
    return backend.xp.where(count == 0, 1.0, count)


def _refused(backend: Backend, weights: Array, occurs: Array, absent: str) -> Array:
    """Refuse classes that do not occur, or make them NaN where Python cannot look."""
    if absent != "error":
        return weights
    if not backend.can_read_values(occurs):
        return backend.xp.where(occurs, weights, backend.xp.nan)
    if not bool(backend.xp.all(occurs)):
        missing = [c for c, found in enumerate(to_numpy(occurs)) if not found]
        raise ValueError(
            f"labels: got none of class {missing[0]} ({len(missing)} of {occurs.shape[0]} "
            "classes), wanted at least one of each; is num_classes too large? "
            'absent="zero" gives them 0'
        )
    return weights
