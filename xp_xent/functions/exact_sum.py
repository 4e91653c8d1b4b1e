"""A sum of floating-point numbers that nothing is lost of, whatever their order."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

SMALLEST = 1074  # float64's numbers are the multiples of 2^−1074
BLOCK = 1 << 14  # entries at a time, which a cache holds
FEW = 16  # entries up to which Python's integers take less than NumPy's calls
MOST, SHIFT = 1000, 200


@dataclass(frozen=True)
class ExactSum:
    """An exact sum of float64 numbers: equal to another where the sums are.

    Parameters
    ----------
    units : int, default 0
        The sum in multiples of 2^−1074; 0 beside infinities and NaN.
    above, below : bool, default False
        Whether +∞, or −∞, was added; both: NaN.
    """

    units: int = 0
    above: bool = False
    below: bool = False

    NBYTES: ClassVar[int] = 272  # of `to_bytes`, for 2⁶⁸ of the largest numbers

    @classmethod
    def of(cls, values: np.ndarray) -> "ExactSum":
        """Return the sum of the entries of a float64 array."""
        values, total = values.reshape(-1), cls()
        for start in range(0, values.size, BLOCK):
            block = values[start : start + BLOCK]
            if block.size <= FEW and all(map(math.isfinite, few := block.tolist())):
                total += cls(sum(map(_unit_count, few)))
                continue
            finite = np.isfinite(block)
            if not finite.all():
                others, block = block[~finite], block[finite]
                total += cls(0, not (others < 0).all(), not (others > 0).all())
            total += cls(_units(block))
        return total

    def __add__(self, other: "ExactSum") -> "ExactSum":
        """Return the sum of both."""
        above, below = self.above or other.above, self.below or other.below
        return ExactSum(0 if above or below else self.units + other.units, above, below)

    def __float__(self) -> float:
        """Return the nearest float64."""
        return self / ExactSum(1 << SMALLEST)

    def __truediv__(self, other: "ExactSum") -> float:
        """Return the float64 nearest to the quotient; NaN by 0."""
        if not other._limit:
            return math.nan
        if self._infinite or other._infinite:
            return self._limit / other._limit
        try:
            return self.units / other.units  # Python rounds it once
        except OverflowError:
            return math.inf * self._limit * other._limit

    @property
    def _infinite(self) -> bool:
        return self.above or self.below

    @property
    def _limit(self) -> float:
        """±∞ or NaN, and of a finite sum the sign."""
        if self._infinite:
            return (math.inf if self.above else 0.0) - (math.inf if self.below else 0.0)
        return float((self.units > 0) - (self.units < 0))

    def to_bytes(self) -> bytes:
        """Return `NBYTES` bytes: the same of equal sums."""
        flags = self.above + 2 * self.below
        return bytes([flags]) + self.units.to_bytes(self.NBYTES - 1, "little", signed=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ExactSum":
        """Return the sum that `to_bytes` was of."""
        units = int.from_bytes(data[1:], "little", signed=True)
        return cls(units, bool(data[0] & 1), bool(data[0] & 2))


def _unit_count(x: float) -> int:
    """Return a finite number in multiples of 2^−1074."""
    numerator, denominator = x.as_integer_ratio()
    return numerator << (SMALLEST + 1 - denominator.bit_length())


def _units(block: np.ndarray) -> int:
    """Return the sum of finite numbers in multiples of 2^−1074, exactly.

    Each number is cut at the place from which on float64 holds the upper parts' sum, in any order,
    and so are the lower parts, until nothing is left.
    """
    total = 0
    while block.size:
        largest = max(float(block.max()), -float(block.min()))
        top = math.frexp(largest)[1] + block.size.bit_length()  # 2^top is above the sum
        if top > MOST:  # scaled down exactly, for they end long before 2^−1074
            is_large = np.abs(block) > 1.0
            total += _units(block[is_large] * 2.0**-SHIFT) << SHIFT
            block = block[~is_large]
            continue
        cut = math.ldexp(1.0, top)
        upper = (block + cut) - cut
        total += _unit_count(float(upper.sum()))
        block = block - upper
        block = block[block != 0]
    return total
