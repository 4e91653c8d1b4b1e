"""Perplexity, and a mean that is gathered batch by batch."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent.backends import backend_of, to_numpy
from xp_xent.flow import checks as check
from xp_xent.flow.plan import no_warnings
from xp_xent.losses.cross_entropy import cross_entropy

Array = Any

__all__ = ["LossAccumulator", "perplexity"]


def perplexity(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
) -> Array:
    """Perplexity: the exponential of the mean cross-entropy.

    Parameters
    ----------
    logits, targets, axis, sample_weight, where, ignore_index
        As in `cross_entropy`.

    Returns
    -------
    array
        0-d, ≥ 1 with labels. Over several batches, use a `LossAccumulator`: a mean of
        perplexities is not a perplexity.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import perplexity
    >>> print(round(float(perplexity(np.zeros((5, 100)), np.arange(5))), 6))
    100.0
    """
    mean = cross_entropy(
        logits,
        targets,
        axis=axis,
        sample_weight=sample_weight,
        where=where,
        ignore_index=ignore_index,
    )
    backend = backend_of(logits)
    with no_warnings(backend):
        return backend.xp.exp(mean)


@dataclass(frozen=True)
class LossAccumulator:
    """A weighted mean of losses, gathered over batches and merged over processes.

    Each `update` and each sum of two accumulators gives a new one. Sums are kept in double
    precision with their rounding errors, so that the order of batches does not matter.

    Parameters
    ----------
    sum : float, default 0.0
        Σ of the losses so far, in nats.
    weight : float, default 0.0
        Σ of their shares in the mean: rows or tokens that counted.
    error : float, default 0.0
        What `sum` has lost to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import LossAccumulator, cross_entropy
    >>> total = LossAccumulator()
    >>> for batch in (np.zeros((3, 10)), np.zeros((5, 10))):
    ...     rows = cross_entropy(batch, np.arange(len(batch)), reduction="none")
    ...     total = total.update(rows)
    >>> print(total.weight, round(total.mean, 6), round(total.perplexity, 6))
    8.0 2.302585 10.0
    """

    sum: float = 0.0
    weight: float = 0.0
    error: float = 0.0

    def update(self, losses: Array, weights: Array | float | None = None) -> "LossAccumulator":
        """Add losses; this copies them, or their sum, to host memory.

        Parameters
        ----------
        losses : array or float
            Losses of rows (``reduction="none"``) or a sum of them (``reduction="sum"``), which
            may be infinite.
        weights : array or float, optional
            The rows' shares in the mean, or their sum: the number of rows that counted. None: 1
            for each loss given, so pass it where rows were ignored or weighted.

        Returns
        -------
        LossAccumulator
        """
        host = _host("losses", losses)
        with np.errstate(invalid="ignore"):  # ∞ − ∞ is stated: the mean is NaN
            total = float(np.sum(host))
            share = host.size if weights is None else np.sum(_host("weights", weights))
        return self + LossAccumulator(total, float(share))

    def __add__(self, other: "LossAccumulator") -> "LossAccumulator":
        """Merge two accumulators."""
        if not isinstance(other, LossAccumulator):
            return NotImplemented
        total = self.sum + other.sum
        part = total - self.sum  # Knuth's two-sum: total + lost is exact
        lost = (self.sum - (total - part)) + (other.sum - part)
        if not math.isfinite(total):
            lost = 0.0  # an infinite loss has lost nothing
        error = self.error + other.error + lost
        return LossAccumulator(total, self.weight + other.weight, error)

    @property
    def mean(self) -> float:
        """The mean loss in nats; NaN where nothing counted."""
        return (self.sum + self.error) / self.weight if self.weight else math.nan

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss."""
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf


def _host(name: str, values: Array | float) -> np.ndarray:
    if check.is_number(values) and not isinstance(values, bool):
        return np.asarray(float(values))  # infinite, as an array's may be
    backend_of(**{name: values})
    check.numeric(name, values, "; pass the number of rows that counted, the mask's sum")
    return np.asarray(to_numpy(values), dtype=np.float64)
