"""Perplexity and bits per byte."""

import math
from operator import truediv
from typing import Any

from xp_xent.backends import Backend, backend_of
from xp_xent.flow import checks as check
from xp_xent.flow.plan import loss_of, no_warnings
from xp_xent.flow.validate import common_backend, spread_alike
from xp_xent.losses.cross_entropy import cross_entropy

Array = Any

_LOSS = loss_of(cross_entropy)[0]

__all__ = ["bits_per_byte", "perplexity"]

Axes = int | tuple[int, ...] | None


def perplexity(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    over: Axes = None,
) -> Array:
    r"""Perplexity: the exponential of the mean cross-entropy.

    .. math:: \exp\left(-\frac{1}{N} \sum_{i=1}^{N} \log p_{i, y_i}\right)

    Parameters
    ----------
    logits, targets, axis, sample_weight, where, ignore_index
        As in `cross_entropy`.
    over : int or tuple of int, optional
        The axes of the labels that a mean is taken over: −1 with labels (sequences, tokens) for a
        perplexity of each sequence, () for one of each token. None: all.

    Returns
    -------
    array
        0-d, or of the labels' shape without the axes `over`; ≥ 1 with labels, NaN where nothing
        counts. Over several batches, use a `LossAccumulator`: a mean of perplexities is not a
        perplexity.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`, or `over` names no axis of the labels, or one twice; it is not None
        within `split` over rows, where an axis may be split, or where plain tensors meet DTensors.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import perplexity
    >>> print(round(float(perplexity(np.zeros((5, 100)), np.arange(5))), 6))
    100.0

    Of each sequence, the second one shorter:

    >>> tokens = np.asarray([[0, 1, 2], [3, 4, -100]])
    >>> print(perplexity(np.zeros((2, 3, 10)), tokens, over=-1).round(6))
    [10. 10.]
    """
    options: dict[str, Any] = {
        "axis": axis, "sample_weight": sample_weight, "where": where, "ignore_index": ignore_index,
    }  # fmt: skip
    backend = backend_of(logits=logits)
    (logits, targets), options = _LOSS.placed((logits, targets), options)
    sample_weight, where, xp = options["sample_weight"], options["where"], backend.xp
    if over is None:
        mean = cross_entropy(logits, targets, **options)
        with no_warnings(backend):
            return xp.exp(mean)
    losses = cross_entropy(logits, targets, reduction="none", **options)
    axes = _axes(over, losses, backend)
    may_be_ignored = ignore_index is not None and check.kind(targets) == "integer"
    labels = targets if may_be_ignored else None
    spread_alike(logits=logits, targets=labels, sample_weight=sample_weight, where=where)
    # What a row adds to the mean's denominator.
    share = xp.ones_like(losses)
    if sample_weight is not None:
        share = backend.cast(sample_weight, losses.dtype)
    if where is not None:
        where = where != 0 if check.kind(where) == "integer" else where
        share = xp.where(where, share, 0.0)
    if ignore_index is not None and labels is not None:
        share = xp.where(labels == int(ignore_index), 0.0, share)
    with no_warnings(backend):
        mean = (backend._quotient or truediv)(xp.sum(losses, axis=axes), xp.sum(share, axis=axes))
        return xp.exp(mean)


def bits_per_byte(
    logits: Array,
    targets: Array,
    num_bytes: Array | float,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    ignore_index: int | None = -100,
    over: Axes = None,
) -> Array:
    r"""Bits that a model needs for each byte of a text.

    .. math:: \frac{-\sum_i \log p_{i, y_i}}{n_\text{bytes} \log 2}

    Unlike perplexities, those of models with different tokenizers compare.

    Parameters
    ----------
    logits, targets, axis, where, ignore_index
        As in `cross_entropy`.
    num_bytes : float or array of numbers
        How many bytes the tokens that count stand for: of all, or an array of the result's shape.
        A number of characters, words or tokens gives bits per character, word or token.
    over : int or tuple of int, optional
        The axes of the labels that are summed over, as in `perplexity`. None: all.

    Returns
    -------
    array
        0-d, or of the labels' shape without the axes `over`. Over several batches, use
        `LossAccumulator.bits_per`.

    Raises
    ------
    TypeError, ValueError
        As in `perplexity`, or `num_bytes` is a number that is not above 0 or an array of another
        shape, library or device.

    References
    ----------
    .. [1] L. Gao et al., "The Pile: An 800GB Dataset of Diverse Text for Language Modeling",
       arXiv:2101.00027, 2020, §3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import bits_per_byte
    >>> tokens, num_bytes = np.asarray([[0, 1, 2], [3, 4, -100]]), np.asarray([12, 16])
    >>> print(bits_per_byte(np.zeros((2, 3, 256)), tokens, num_bytes, over=-1))
    [2. 1.]
    """
    known = check.is_number(num_bytes)
    if known and not num_bytes > 0:
        raise ValueError(f"num_bytes: got {num_bytes!r}, wanted a number above 0")
    given = {} if known else {"num_bytes": num_bytes}
    (logits, targets), _ = _LOSS.placed((logits, targets), {})
    backend = common_backend(logits=logits, targets=targets, **given)
    losses = cross_entropy(
        logits, targets, axis=axis, where=where, ignore_index=ignore_index, reduction="none"
    )
    nats = backend.total(losses) if over is None else losses
    if over is not None:
        nats = backend.xp.sum(losses, axis=_axes(over, losses, backend))
    if not known:
        check.numeric("num_bytes", num_bytes)
        check.shape("num_bytes", num_bytes, tuple(nats.shape), "the result's")
        spread_alike(logits=nats, num_bytes=num_bytes)
        num_bytes = backend.cast(num_bytes, nats.dtype)
    with no_warnings(backend):
        return (backend._quotient or truediv)(nats, num_bytes * math.log(2))


def _axes(over: Any, losses: Array, backend: Backend) -> tuple[int, ...]:
    """Return the axes of the losses to reduce over, counted from 0."""
    if backend._rows is not None:
        raise ValueError(
            f"over: got {over} within split(rows=…), where an axis of the labels may lie in "
            "several places; wanted None, which reduces over all rows of all places"
        )
    ndim, axes = len(losses.shape), []
    for one in over if isinstance(over, tuple) else (over,):
        axis = check.integer("over", one, "an integer, a tuple of integers, or None")
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"over: got {axis}, wanted −{ndim} … {ndim - 1}: an axis of the labels, which have "
                f"shape {tuple(losses.shape)}"
            )
        axes.append(axis % ndim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"over: got {over}, wanted each axis once")
    return tuple(axes)
