"""A mean of losses that is gathered batch by batch, over processes too."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent.backends import to_numpy
from xp_xent.flow import checks as check
from xp_xent.functions.exact_sum import ExactSum

Array = Any

__all__ = ["LossAccumulator"]


@dataclass(frozen=True, repr=False)
class LossAccumulator:
    """A weighted mean of losses, gathered over batches and merged over processes.

    Each `update` and each sum of two accumulators gives a new one. Sums are exact: the same losses
    give equal accumulators, and the same bits of `mean`, in whatever order and grouping they come.

    Parameters
    ----------
    exact_sum, exact_weight : optional
        What `update` and ``+`` carry on. Start from the empty ``LossAccumulator()``.

    Attributes
    ----------
    sum : float
        Σ of the losses so far, in nats, rounded once. Infinite where a loss is, NaN where one is or
        where there are infinities of both signs.
    weight : float
        Σ of their shares in the mean: rows or tokens that counted.
    mean : float
        The mean loss in nats, rounded once; NaN where nothing counted.
    perplexity : float
        The exponential of the mean loss.

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
    >>> print(round(total.bits_per(total.weight), 6))  # a token; or of the text's bytes
    3.321928

    Exactly:

    >>> parts = [LossAccumulator().update(loss, 1) for loss in (1e16, 1.0, -1e16)]
    >>> print((parts[0] + parts[1] + parts[2]).sum, (parts[0] + parts[2]) + parts[1])
    1.0 LossAccumulator(sum=1.0, weight=3.0)
    """

    exact_sum: ExactSum = ExactSum()
    exact_weight: ExactSum = ExactSum()

    def update(self, losses: Array, weights: Array | float | None = None) -> "LossAccumulator":
        """Add losses; this copies them, or their sum, to host memory.

        Parameters
        ----------
        losses : array or float
            Losses of rows (``reduction="none"``) or a sum of them (``reduction="sum"``), which
            may be infinite. Rows are added exactly, a sum has been rounded.
        weights : array or float, optional
            The rows' shares in the mean, or their sum: the number of rows that counted. None: 1
            for each loss given, so pass it where rows were ignored or weighted.

        Returns
        -------
        LossAccumulator
        """
        host = _host("losses", losses)
        shares = np.asarray(float(host.size)) if weights is None else _host("weights", weights)
        return self + LossAccumulator(ExactSum.of(host), ExactSum.of(shares))

    def __add__(self, other: "LossAccumulator") -> "LossAccumulator":
        """Merge two accumulators."""
        if not isinstance(other, LossAccumulator):
            return NotImplemented
        return LossAccumulator(
            self.exact_sum + other.exact_sum, self.exact_weight + other.exact_weight
        )

    def __repr__(self) -> str:
        return f"LossAccumulator(sum={self.sum}, weight={self.weight})"

    @property
    def sum(self) -> float:
        """Σ of the losses so far, in nats."""
        return float(self.exact_sum)

    @property
    def weight(self) -> float:
        """Σ of their shares in the mean."""
        return float(self.exact_weight)

    @property
    def mean(self) -> float:
        """The mean loss in nats; NaN where nothing counted."""
        return self.exact_sum / self.exact_weight

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss."""
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    def bits_per(self, count: float) -> float:
        """Return the sum of the losses in bits, divided by a count: of bytes, for bits per byte.

        Parameters
        ----------
        count : float
            How many bytes, characters or words all the losses were of.

        Returns
        -------
        float
            0 where there is no loss; NaN where the count is 0.
        """
        count = check.number("count", count, 0.0)
        return self.sum / (count * math.log(2)) if count else math.nan

    def to_bytes(self) -> bytes:
        """Return the accumulator as 544 bytes, for files and messages: the same of equal ones.

        Returns
        -------
        bytes

        Examples
        --------
        >>> from xp_xent import LossAccumulator
        >>> total = LossAccumulator().update(2.5, 3)
        >>> len(total.to_bytes()), LossAccumulator.from_bytes(total.to_bytes()) == total
        (544, True)
        """
        return self.exact_sum.to_bytes() + self.exact_weight.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "LossAccumulator":
        """Return the accumulator that `to_bytes` wrote down.

        Parameters
        ----------
        data : bytes
            544 of them.

        Returns
        -------
        LossAccumulator

        Raises
        ------
        ValueError
            There are more bytes, or fewer.
        """
        half = ExactSum.NBYTES
        if len(data) != 2 * half:
            raise ValueError(f"data: got {len(data)} bytes, wanted {2 * half}")
        return cls(ExactSum.from_bytes(data[:half]), ExactSum.from_bytes(data[half:]))


def _host(name: str, values: Array | float) -> np.ndarray:
    if check.is_number(values) and not isinstance(values, bool):
        return np.asarray(float(values))  # infinite, as an array's may be
    if hasattr(values, "dtype"):  # else it is refused below
        check.numeric(name, values, "; pass the number of rows that counted, the mask's sum")
    return np.asarray(to_numpy(values, name), dtype=np.float64)
