"""What is probably wrong with these logits and targets: the common mistakes, by their traces."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent import _checks as check
from xp_xent._binary import outside_message
from xp_xent.backends import backend_of

Array = Any

__all__ = ["Finding", "diagnose"]

SATURATED = 1e4  # logits of a healthy model are of the order of 10


@dataclass(frozen=True)
class Finding:
    """One suspicion of `diagnose`.

    Parameters
    ----------
    code : str
        A stable name of the suspicion, for programs.
    message : str
        A sentence that says what to look at.

    Examples
    --------
    >>> from xp_xent import Finding
    >>> print(Finding("constant", "every row's logits are equal").code)
    constant
    """

    code: str
    message: str


def diagnose(
    logits: Array, targets: Array, /, *, axis: int = -1, ignore_index: int | None = -100
) -> tuple[Finding, ...]:
    """Look for common mistakes in logits and targets.

    The arrays are copied to host memory. Findings are suspicions, not errors: everything here is
    legal input.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        What is about to be passed to `cross_entropy`, the classes along `axis`; or, with targets
        of the same shape that do not sum to 1, to `binary_cross_entropy_with_logits`.
    targets : array
        Labels or probabilities.
    axis : int, default -1
        The class axis.
    ignore_index : int or None, default -100
        Labels of rows that do not count, as in `cross_entropy`.

    Returns
    -------
    tuple of Finding
        Each with a ``code`` and a ``message``; empty where nothing looks wrong. Codes:
        ``probabilities``, ``log-probabilities``, ``non-finite``, ``saturated``, ``constant``,
        ``class-axis``, ``labels-from-one``, ``labels-out-of-range``, ``one-label``,
        ``nothing-counted``, ``masked-label``, ``one-hot-integers``, ``targets-out-of-range``,
        ``negative-targets``, ``unnormalized-targets``.

    Raises
    ------
    TypeError, ValueError
        No array of a known library, or no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import diagnose
    >>> probabilities = np.asarray([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    >>> for finding in diagnose(probabilities, np.asarray([0, 1])):
    ...     print(finding.code)
    probabilities
    """
    backend = backend_of(logits=logits, targets=targets)
    check.floating("logits", logits)
    axis = check.axis(axis, tuple(logits.shape))
    if ignore_index is not None:
        ignore_index = check.integer("ignore_index", ignore_index, "an integer, or None")
    z = np.moveaxis(np.asarray(backend.to_numpy(logits), dtype=np.float64), axis, -1)
    y = backend.to_numpy(targets)
    with np.errstate(all="ignore"):
        findings = [*_of_logits(z)] if z.size else []
        if check.kind(targets) == "floating" or y.shape == tuple(logits.shape):
            findings += _of_probabilities(y, axis, check.kind(targets))
        else:
            findings += _of_labels(z, y, axis, tuple(logits.shape), ignore_index)
    return tuple(findings)


def _of_logits(z: np.ndarray) -> Iterator[Finding]:
    finite = z[np.isfinite(z)]
    if np.isnan(z).any() or (z == np.inf).any():
        count = int((np.isnan(z) | (z == np.inf)).sum())
        yield Finding("non-finite", f"{count} logits are NaN or +inf; their rows' losses are NaN")
    if dead := int((z == -np.inf).all(axis=-1).sum()):
        yield Finding("non-finite", f"{dead} rows are −inf throughout: no class is left")
    if not finite.size:
        return
    total = z.sum(axis=-1)
    if z.shape[-1] > 1 and finite.min() >= 0 and np.allclose(total, 1, atol=1e-2):
        yield Finding(
            "probabilities",
            "the logits are ≥ 0 and sum to 1, like the output of a softmax; pass what goes into "
            "the softmax, or their logarithm to nll_loss",
        )
    elif finite.max() <= 0 and np.allclose(np.exp(z).sum(axis=-1), 1, atol=1e-2):
        yield Finding(
            "log-probabilities",
            "the logits are logarithms of probabilities; cross_entropy normalises them once more, "
            "which costs time and digits: nll_loss takes them as they are",
        )
    if np.abs(finite).max() > SATURATED:
        yield Finding(
            "saturated",
            f"logits reach {np.abs(finite).max():.3g}; a learning rate or an initial scale may be "
            "too large",
        )
    if z.shape[-1] > 1 and z[..., 0].size > 1 and np.ptp(z, axis=-1).max() == 0:
        yield Finding("constant", "every row's logits are equal: the model says nothing yet")


def _of_labels(
    z: np.ndarray, y: np.ndarray, axis: int, shape: tuple[int, ...], ignore_index: int | None
) -> Iterator[Finding]:
    others = [a for a in check.fits_another_axis(shape, y.shape) if a != axis]
    if y.shape != z.shape[:-1] or others:
        fits = f"; labels of shape {y.shape} also fit axis={others[0]}" if others else ""
        yield Finding("class-axis", f"logits {shape} have their classes along axis {axis}{fits}")
    kept = y != ignore_index  # all of them for None
    counted = y[kept]
    if not counted.size:
        yield Finding("nothing-counted", "no label counts: the mean is NaN")
        return
    classes, low, high = z.shape[-1], counted.min(), counted.max()
    if low >= 1 and high == classes:
        yield Finding("labels-from-one", f"labels are 1 … {high}; classes are 0 … {classes - 1}")
    elif low < 0 or high >= classes:
        yield Finding(
            "labels-out-of-range", f"labels are {low} … {high}; classes are 0 … {classes - 1}"
        )
    elif y.shape == z.shape[:-1]:
        at_label = np.take_along_axis(z, np.where(kept, y, 0)[..., None], axis=-1)[..., 0]
        alive = (z > -np.inf).any(axis=-1)
        masked = int(((at_label == -np.inf) & alive & kept).sum())
        if masked:
            yield Finding("masked-label", f"{masked} labels are of classes masked by −inf: +inf")
    if counted.size > 1 and low == high:
        yield Finding("one-label", f"every label that counts is {low}")


def _of_probabilities(y: np.ndarray, axis: int, kind: str) -> Iterator[Finding]:
    outside = (y < 0) | (y > 1)
    if outside.any():
        binary = "binary_cross_entropy_with_logits refuses these targets"
        yield Finding("targets-out-of-range", f"{binary}: {outside_message(y, outside)}")
    if kind != "floating":
        yield Finding(
            "one-hot-integers",
            "integer targets of the logits' shape are not labels; one-hot targets must be floating",
        )
        return
    y = np.asarray(y, dtype=np.float64)
    if (y < 0).any():
        yield Finding("negative-targets", "some target probabilities are negative")
    if axis < y.ndim and not np.allclose(y.sum(axis=axis), 1, atol=1e-2):
        yield Finding(
            "unnormalized-targets",
            "target probabilities do not sum to 1 along the class axis; is the axis right, or is "
            "this multilabel, for binary_cross_entropy_with_logits?",
        )
