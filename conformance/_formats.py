"""The floating-point formats that are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final


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
