"""Transforms of ℓ = −log p of the label: what focal and poly losses make of cross-entropy.

Each has its value, first and second derivative by ℓ, for rows seen from their labels; the second
times a scale, for focal's may be too large for the dtype where its product with the derivatives of
ℓ is not. 1 − p is −expm1(−ℓ), which keeps the relative accuracy of ℓ on confident rows, under
automatic differentiation too.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from xp_xent.kernels.elementary import expm1, power, product

Array = Any


@dataclass(frozen=True)
class NLL:
    """Cross-entropy itself: f(ℓ) = ℓ."""

    is_linear: ClassVar[bool] = True  # the second derivative is 0 everywhere

    def value(self, row: Any) -> Array:
        """Compute f(ℓ)."""
        return row.nll

    def partial(self, row: Any) -> Array | float:
        """Compute f'(ℓ)."""
        return 1.0

    def second(self, row: Any) -> Array | float:
        """Compute f''(ℓ) times the scale."""
        return 0.0

    def scale(self, row: Any) -> Array | float:
        """Return what is not 0 and of the order of the derivatives of ℓ, or 1."""
        return 1.0


@dataclass(frozen=True)
class FocalNLL(NLL):
    """Focal loss: f(ℓ) = (1 − p)^γ ℓ."""

    is_linear = False
    gamma: Any

    def value(self, row: Any) -> Array:
        """Compute f(ℓ)."""
        xp, nll = row.xp, row.nll
        endless = xp.isinf(nll)  # there the factor is 1, and its derivative 0 · ∞
        known = isinstance(self.gamma, (int, float))
        if (known and self.gamma >= 2) or not row.backend.differentiable:
            return xp.where(endless, nll, self._product(xp, xp.where(endless, 0.0, nll)))
        # Far below 1 it is ℓ^(γ + 1), whose second derivative has a value where that of (1 − p)^γ
        # has none; and next to nothing below the smallest normal number, whose powers overflow.
        form = xp.finfo(nll.dtype)
        small, some = nll < form.eps / 8, nll >= form.smallest_normal
        value = self._product(xp, xp.where(endless | small, 0.0, nll))
        least = power(xp, xp.where(small & some, nll, 0.0), self.gamma + 1)
        value = xp.where(small, least, value)
        return xp.where(endless, nll, value)

    def _product(self, xp: Any, nll: Array) -> Array:
        return power(xp, -expm1(xp, -nll), self.gamma) * nll

    def partial(self, row: Any) -> Array:
        """Compute f'(ℓ)."""
        _, one_minus_p, p, ratio = self._parts(row)
        return power(row.xp, one_minus_p, self.gamma) * (1 + self.gamma * product(row.xp, p, ratio))

    def second(self, row: Any) -> Array:
        """Compute f''(ℓ)·(1 − p)."""
        nll, one_minus_p, p, ratio = self._parts(row)
        gamma = self.gamma
        return (
            gamma
            * power(row.xp, one_minus_p, gamma)
            * (2 * p - product(row.xp, p, nll) + (gamma - 1) * p * product(row.xp, p, ratio))
        )

    def scale(self, row: Any) -> Array:
        """Compute 1 − p, or 1 where it is 0."""
        _, one_minus_p, _, _ = self._parts(row)
        return row.xp.where(one_minus_p == 0, 1.0, one_minus_p)

    def _parts(self, row: Any) -> tuple[Array, Array, Array, Array]:
        """Return ℓ, 1 − p, p, and ℓ/(1 − p), which tends to 1 as ℓ does to 0."""
        xp, nll = row.xp, row.nll
        one_minus_p = -expm1(xp, -nll)
        zero = one_minus_p == 0
        ratio = xp.where(zero, 1.0, nll / xp.where(zero, 1.0, one_minus_p))
        return nll, one_minus_p, xp.exp(-nll), ratio


@dataclass(frozen=True)
class PolyNLL(NLL):
    """Poly-1 loss: f(ℓ) = ℓ + ε(1 − p)."""

    is_linear = False
    epsilon: Any

    def value(self, row: Any) -> Array:
        """Compute f(ℓ)."""
        nll = row.nll
        return nll - self.epsilon * expm1(row.xp, -nll)

    def partial(self, row: Any) -> Array:
        """Compute f'(ℓ)."""
        return 1 + self.epsilon * row.xp.exp(-row.nll)

    def second(self, row: Any) -> Array:
        """Compute f''(ℓ)."""
        return -self.epsilon * row.xp.exp(-row.nll)
