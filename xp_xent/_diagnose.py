"""What is probably wrong with these logits and targets: the common mistakes, by their traces."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent import _checks as check
from xp_xent._findings import Finding, of_logits
from xp_xent._seen import walk
from xp_xent._target_findings import of_labels, of_probabilities
from xp_xent.backends import backend_of

Array = Any

__all__ = ["diagnose"]


def diagnose(
    logits: Array, targets: Array, /, *, axis: int = -1, ignore_index: int | None = -100
) -> tuple[Finding, ...]:
    """Look for common mistakes in logits and targets.

    The targets are copied to host memory, the logits in blocks of rows. Findings are suspicions,
    not errors: everything here is legal input.

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
        Each with a ``code``, a ``message``, what it costs and the line that mends it; empty where
        nothing looks wrong. Codes:
        ``probabilities``, ``log-probabilities``, ``non-finite``, ``saturated``, ``overflow``,
        ``saturated-rows``, ``constant``, ``class-axis``, ``labels-from-one``,
        ``labels-out-of-range``, ``one-label``, ``few-classes``, ``imbalance``, ``padding``,
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
    return looked(logits, targets, axis, ignore_index, lambda rows: None)


def looked(
    logits: Array,
    targets: Array,
    axis: int,
    ignore_index: int | None,
    advance: Callable[[int], None],
) -> tuple[Finding, ...]:
    """Do as `diagnose`, and tell a function how many rows were looked at."""
    backend = backend_of(logits=logits, targets=targets)
    check.floating("logits", logits)
    axis = check.axis(axis, tuple(logits.shape))
    if ignore_index is not None:
        ignore_index = check.integer("ignore_index", ignore_index, "an integer, or None")
    kind, shape = check.kind(targets), tuple(logits.shape)
    # What is in host memory already, or in a file, is not copied.
    y = targets if isinstance(targets, np.ndarray) else backend.to_numpy(targets)
    as_labels = kind != "floating" and y.shape != shape
    fits = as_labels and y.shape == shape[:axis] + shape[axis + 1 :]
    with np.errstate(all="ignore"):
        seen = walk(backend, logits, axis, y if fits else None, ignore_index, advance)
        found = [*of_logits(seen)]
        if as_labels:
            found += of_labels(seen, y, axis, shape, ignore_index)
        else:
            found += of_probabilities(y, axis, kind)
    return tuple(found)
