"""Functions of ℓ = −log p of the label: what focal and poly losses put on cross-entropy.

Each head gives its value, slope and bend (first and second derivative by ℓ). 1 − p is
−expm1(−ℓ), which keeps the relative accuracy that ℓ has on confident rows.
"""

from dataclasses import dataclass
from typing import Any

from xp_xent._stable import power

Array = Any


@dataclass(frozen=True)
class Head:
    """Cross-entropy itself: f(ℓ) = ℓ."""

    @property
    def is_linear(self) -> bool:
        """Tell if the second derivative is 0 everywhere."""
        return type(self) is Head

    def value(self, xp: Any, nll: Array) -> Array:
        """Give f(ℓ)."""
        return nll

    def slope(self, xp: Any, nll: Array) -> Array:
        """Give f'(ℓ)."""
        return xp.ones_like(nll)

    def bend(self, xp: Any, nll: Array) -> Array:
        """Give f''(ℓ)."""
        return xp.zeros_like(nll)


@dataclass(frozen=True)
class FocalHead(Head):
    """Focal loss: f(ℓ) = (1 − p)^γ ℓ."""

    gamma: float = 2.0

    def value(self, xp: Any, nll: Array) -> Array:
        return power(xp, -xp.expm1(-nll), self.gamma) * nll

    def slope(self, xp: Any, nll: Array) -> Array:
        rest, p, ratio = self._parts(xp, nll)
        return power(xp, rest, self.gamma) * (1 + self.gamma * p * ratio)

    def bend(self, xp: Any, nll: Array) -> Array:
        rest, p, ratio = self._parts(xp, nll)
        gamma, safe = self.gamma, xp.where(rest == 0, 1.0, rest)
        return gamma * power(xp, rest, gamma) / safe * p * (2 - nll + (gamma - 1) * p * ratio)

    def _parts(self, xp: Any, nll: Array) -> tuple[Array, Array, Array]:
        """Give 1 − p, p, and ℓ/(1 − p), which tends to 1 as ℓ does to 0."""
        rest = -xp.expm1(-nll)
        zero = rest == 0
        return rest, xp.exp(-nll), xp.where(zero, 1.0, nll / xp.where(zero, 1.0, rest))


@dataclass(frozen=True)
class PolyHead(Head):
    """Poly-1 loss: f(ℓ) = ℓ + ε(1 − p)."""

    epsilon: float = 2.0

    def value(self, xp: Any, nll: Array) -> Array:
        return nll - self.epsilon * xp.expm1(-nll)

    def slope(self, xp: Any, nll: Array) -> Array:
        return 1 + self.epsilon * xp.exp(-nll)

    def bend(self, xp: Any, nll: Array) -> Array:
        return -self.epsilon * xp.exp(-nll)
