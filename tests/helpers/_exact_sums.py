"""Weighted sums of exponentials over any axes of an array, in ball arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from _truth import BITS, Array, ball, floats
from flint import arb, ctx

INF = math.inf


def axes_of(axis: Any, ndim: int = 3) -> tuple[int, ...]:
    """The axes from 0 that an option names."""
    given = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(sorted(one % ndim for one in given))


class Exact:
    """Σ b exp(x) over some axes, with the sum without signs, as balls."""

    def __init__(self, x: Array, axis: Any, b: Any = 1.0, where: Any = True) -> None:
        self.axes = axes_of(axis, x.ndim)
        with ctx.workprec(BITS):
            terms = np.where(where, ball(np.broadcast_to(b, x.shape)), arb(0)) * exp(x)
            self.terms, self.sum = terms, self.over(terms)
            self.log = floats(np.vectorize(lambda y: abs(y).log(), otypes=[object])(self.sum))
            self.sign = np.vectorize(lambda y: float(y.sgn()), otypes=[float])(self.sum)
            self.conditioning = floats(self.over(abs(terms)) / abs(self.sum))

    def over(self, x: Array) -> Array:
        for axis in reversed(self.axes):
            x = x.sum(axis=axis, keepdims=True)
        return x

    def softmax(self) -> Array:
        with ctx.workprec(BITS):
            return floats(self.terms / self.sum)

    def log_softmax(self) -> Array:
        """Give logarithms of what is not 0, and 0 for the rest."""
        with ctx.workprec(BITS):
            p = self.terms / self.sum
            return floats(np.vectorize(lambda y: y.log() if y > 0 else arb(0), otypes=[object])(p))


def exp(x: Array) -> Array:
    return np.vectorize(lambda y: arb(0) if y == -INF else arb(y).exp(), otypes=[object])(x)
