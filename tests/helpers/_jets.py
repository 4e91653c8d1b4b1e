"""Derivatives of any order in ball arithmetic: f(x + Σ ε_i v_i) with ε_i² = 0, term by term."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import factorial
from typing import Any

from flint import arb, ctx


class Jet:
    """Coefficients by the set of ε that they multiply, a bit mask; the last is the derivative."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self.parts = list(parts)

    def like(self, other: Any) -> Jet:
        """Take a number for a constant."""
        if isinstance(other, Jet):
            return other
        return Jet([arb(other)] + [arb(0)] * (len(self.parts) - 1))

    def __add__(self, other: Any) -> Jet:
        return Jet(a + b for a, b in zip(self.parts, self.like(other).parts, strict=True))

    def __neg__(self) -> Jet:
        return Jet(-a for a in self.parts)

    def __sub__(self, other: Any) -> Jet:
        return self + -self.like(other)

    def __mul__(self, other: Any) -> Jet:
        a, b = self.parts, self.like(other).parts
        masks = range(len(a))
        return Jet(sum((a[k] * b[m ^ k] for k in masks if k & m == k), arb(0)) for m in masks)

    __radd__, __rmul__ = __add__, __mul__

    def mapped(self, derivative: Callable[[int, Any], Any]) -> Jet:
        """Apply a function given by its derivatives at a point, from the 0th on."""
        point, power = self.parts[0], self.like(1)
        small, result = self - point, self.like(derivative(0, point))
        for order in range(1, len(self.parts).bit_length()):
            power = power * small
            result = result + power * (derivative(order, point) / factorial(order))
        return result

    def exp(self) -> Jet:
        """Give exp."""
        return self.mapped(lambda _, x: x.exp())

    def log(self) -> Jet:
        """Give the logarithm."""
        return self.mapped(lambda n, x: -((-x) ** -n) * factorial(n - 1) if n else x.log())

    def inverse(self) -> Jet:
        """Give 1/x."""
        return self.mapped(lambda n, x: (-1) ** n * factorial(n) / x ** (n + 1))


def derivative(function: Any, x: Sequence[float], along: Sequence[int]) -> list[Any]:
    """Differentiate a function of a list of jets, which gives another, by entries of x in turn."""
    with ctx.workprec(400):
        jets = []
        for i, value in enumerate(x):
            parts = [arb(0)] * (1 << len(along))
            parts[0] = arb(value)
            for k, j in enumerate(along):
                parts[1 << k] = arb(int(i == j))
            jets.append(Jet(parts))
        return [y.parts[-1] for y in function(jets)]


def logsumexp(z: list[Jet]) -> Jet:
    """Give log Σ exp(z)."""
    top = max(float(x.parts[0]) for x in z)
    return sum(((x - top).exp() for x in z), z[0].like(0)).log() + top
