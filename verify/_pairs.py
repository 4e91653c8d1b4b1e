"""Arithmetic on pairs of float64 whose sum is the number: 80 bits and more, without long double.

The exponential reduces its argument by a table of 2**(j/256); what is left is below 0.0014, so that
its cube needs no more than float64. Sums and products are those of Dekker and Knuth.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SPLIT = 2.0**27 + 1.0
STEPS = 256


class Pair(NamedTuple):
    """An unevaluated sum of two float64, the second below half a unit of the first."""

    high: Any
    low: Any

    def at(self, index: Any) -> Pair:
        """Index both parts as arrays."""
        return Pair(self.high[index], self.low[index])

    def to(self, shape: tuple[int, ...]) -> Pair:
        """Broadcast both parts, those of rows along the classes."""
        rows = self.high.ndim == len(shape) - 1 and len(shape) > 1
        parts = (part[..., None] if rows else part for part in self)
        return Pair(*(np.broadcast_to(part, shape) for part in parts))

    @property
    def rounded(self) -> Floats:
        """The number in float64."""
        return np.asarray(self.high + self.low)


def pair(x: Any) -> Pair:
    """Make a pair of numbers that float64 holds."""
    return Pair(np.asarray(x, np.float64), np.zeros(np.shape(x)))


def add_exact(a: Any, b: Any) -> Pair:
    """Add two float64 without error."""
    s = a + b
    t = s - a
    return Pair(s, (a - (s - t)) + (b - t))


def multiply_exact(a: Any, b: Any) -> Pair:
    """Multiply two float64 without error, below 2**996."""
    p = a * b
    ah, bh = a * SPLIT, b * SPLIT
    ah, bh = ah - (ah - a), bh - (bh - b)
    al, bl = a - ah, b - bh
    return Pair(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)


def _normal(high: Any, low: Any) -> Pair:
    s = high + low
    return Pair(s, low - (s - high))


def add(x: Pair, y: Pair) -> Pair:
    """Add pairs."""
    s = add_exact(x.high, y.high)
    t = add_exact(x.low, y.low)
    s = _normal(s.high, s.low + t.high)
    return _normal(s.high, s.low + t.low)


def choose(condition: Any, x: Pair, y: Pair) -> Pair:
    """Give x where a condition holds, and y elsewhere."""
    return Pair(np.where(condition, x.high, y.high), np.where(condition, x.low, y.low))


def subtract(x: Pair, y: Pair) -> Pair:
    """Subtract pairs."""
    return add(x, minus(y))


def minus(x: Pair) -> Pair:
    """Negate a pair."""
    return Pair(-x.high, -x.low)


def multiply(x: Pair, y: Pair) -> Pair:
    """Multiply pairs."""
    p = multiply_exact(x.high, y.high)
    return _normal(p.high, p.low + (x.high * y.low + x.low * y.high))


def divide(x: Pair, y: Pair) -> Pair:
    """Divide pairs."""
    q = x.high / y.high
    rest = subtract(x, multiply(pair(q), y))
    return _normal(q, rest.high / y.high)


def total(x: Pair) -> Pair:
    """Add along the last axis, as a tree; an empty sum is 0."""
    while x.high.shape[-1] > 1:
        half = x.high.shape[-1] // 2
        rest = x.at((..., slice(2 * half, None)))
        x = add(x.at((..., slice(half))), x.at((..., slice(half, 2 * half))))
        if rest.high.shape[-1]:
            joined = (np.concatenate(both, axis=-1) for both in zip(x, rest, strict=True))
            x = Pair(*joined)
    if not x.high.shape[-1]:
        return pair(np.zeros(x.high.shape[:-1]))
    return x.at((..., 0))


@cache
def _constants() -> tuple[Pair, float, Pair]:
    """Give 2**(j/256), and ln 2 / 256 as a short float64 and the rest of it."""
    with localcontext() as context:
        context.prec = 60
        step = Decimal(2).ln() / STEPS
        powers = [(step * j).exp() for j in range(STEPS)]
        high = [float(x) for x in powers]
        low = [float(x - Decimal(h)) for x, h in zip(powers, high, strict=True)]
        short = float(np.rint(np.ldexp(float(step), 37)) / 2.0**37)  # times 2**18 it is exact
        rest = step - Decimal(short)
        rest_high = float(rest)
        rest_low = float(rest - Decimal(rest_high))
    return Pair(np.asarray(high), np.asarray(low)), short, Pair(rest_high, rest_low)


def exp(x: Pair) -> Pair:
    """Exponentials, 0 below −745; not for more than 700."""
    table, short, rest = _constants()
    high = np.maximum(x.high, -800.0)
    low = np.where(high == x.high, x.low, 0.0)
    n = np.rint(high * (1.0 / (short + rest.high)))
    r = add_exact(high - n * short, low)  # the first difference is exact
    by_rest = multiply_exact(n, rest.high)
    r = add(r, Pair(-by_rest.high, -by_rest.low - n * rest.low))
    square = multiply_exact(r.high, r.high)
    cube = r.high * square.high * (1 / 6 + r.high * (1 / 24 + r.high * (1 / 120 + r.high / 720)))
    half = Pair(0.5 * square.high, 0.5 * square.low + r.high * r.low + cube)
    less_1 = add(r, _normal(half.high, half.low))
    j = n.astype(np.int64) % STEPS
    scale = table.at(j)
    grown = add(scale, multiply(scale, less_1))
    power = (n.astype(np.int64) - j) // STEPS
    return Pair(np.ldexp(grown.high, power), np.ldexp(grown.low, power))


def log1p(x: Pair) -> Pair:
    """Give log(1 + x) for x ≥ 0, relative to itself."""
    # Where x is small, 1 + x would lose it.
    h = x.high
    square = multiply(x, x)
    tail = h**3 * (1 / 3 - h * (1 / 4 - h * (1 / 5 - h * (1 / 6 - h / 7))))
    series = add(x, Pair(-0.5 * square.high, -0.5 * square.low + tail))
    whole = add(pair(np.ones_like(h)), x)
    y = np.log(np.where(np.isfinite(whole.high), whole.high, 1.0))
    ratio = multiply(whole, exp(pair(-y)))
    off = add(ratio, pair(np.full_like(h, -1.0)))
    newton = add(pair(y), Pair(off.high, off.low - 0.5 * off.high**2))
    return choose(h < 2.0**-12, series, newton)


def sum_of(numbers: Floats) -> Pair:
    """Add float64 numbers, rounded once to a pair."""
    if not np.all(np.isfinite(numbers)):
        return pair(np.sum(numbers))
    values = numbers.tolist()
    high = math.fsum(values)
    return Pair(np.asarray(high), np.asarray(math.fsum([*values, -high])))
