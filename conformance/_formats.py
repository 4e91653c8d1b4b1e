"""The floating-point formats that are judged, and their units in the last place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Format:
    """A binary floating-point format of IEEE 754 kind.

    Attributes
    ----------
    precision : int
        Bits of the significand, with the hidden one.
    min_exponent, max_exponent : int
        Exponents of the smallest normal and of the largest binade, as in 2**e.
    """

    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def eps(self) -> float:
        """Distance from 1 to the next number."""
        return math.ldexp(1.0, 1 - self.precision)

    @property
    def smallest_normal(self) -> float:
        """Where the precision begins to fall."""
        return math.ldexp(1.0, self.min_exponent)


FORMATS: Final = {
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
    "float32": Format(24, -126, 127),
    "float64": Format(53, -1022, 1023),
}
# The dtype that a loss of such logits is computed and returned in
COMPUTE: Final = {name: "float64" if name == "float64" else "float32" for name in FORMATS}


def ulp(x: ArrayLike, dtype: str) -> NDArray[np.float64]:
    """Give the spacing of `dtype` at x."""
    form = FORMATS[dtype]
    magnitude = np.maximum(np.abs(np.asarray(x, dtype=np.float64)), form.smallest_normal)
    return np.asarray(np.ldexp(1.0, np.frexp(magnitude)[1] - form.precision))


def ulp_error(got: ArrayLike, expected: ArrayLike, dtype: str) -> NDArray[np.float64]:
    """Measure how many ULP of `expected` in `dtype` lie between the two.

    Parameters
    ----------
    got, expected : array_like of float
        Numbers that are exact in float64.
    dtype : str
        The dtype of the result.

    Returns
    -------
    ndarray of float64
        0 where both are the same infinity or both are NaN, inf where only one of them is.

    Examples
    --------
    >>> from xp_xent.conformance._formats import ulp_error
    >>> float(ulp_error(1 + 3 * 2**-23, 1.0, "float32"))
    3.0
    """
    got, expected = (np.asarray(x, dtype=np.float64) for x in (got, expected))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    finite = np.isfinite(got) & np.isfinite(expected)
    with np.errstate(all="ignore"):
        distance = np.abs(got - expected) / ulp(np.where(finite, expected, 1.0), dtype)
    return np.where(same, 0.0, np.where(finite, distance, np.inf))
