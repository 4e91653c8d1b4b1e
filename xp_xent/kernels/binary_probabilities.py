"""Binary cross-entropy of probabilities, element by element: a row is one p with its target y.

Nothing is clipped: a sure hit has loss 0, a sure miss ∞, with 0 · ∞ = 0 where y leaves no mass.

    y·(−log p) + (1 − y)·(−log1p(−p))
"""

from dataclasses import dataclass
from typing import Any

from xp_xent.kernels.binary import BinaryCrossEntropy
from xp_xent.kernels.elementary import product
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any


@dataclass(frozen=True)
class BinaryOfProbabilities(BinaryCrossEntropy):
    """Binary cross-entropy of probabilities; smoothing as of logits."""

    check_probabilities: bool = False  # none refused yet; those outside [0, 1]: these are NaN

    def _checked(self, backend: Any, rows: Rows) -> Rows:
        rows = super()._checked(backend, rows)
        return self._nan_outside(backend, rows, rows.logits) if self.check_probabilities else rows

    def _elements(self, backend: Any, rows: Rows) -> Array:
        p = valid_rows(backend, rows, self.dtype)
        if rows.valid is None or not backend.differentiable:
            return p
        return backend.xp.where(rows.valid, p, 0.5)  # 0 would be a sure miss

    def _parts(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Compute the probabilities, and the weights of both terms."""
        return self._open(backend, rows)

    def _loss_and_slope(self, xp: Any, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        p, positive, negative = parts
        slope = _over(xp, negative, 1 - p) - _over(xp, positive, p)
        return self._terms(xp, p, positive, negative), slope

    def _second_derivative(self, xp: Any, parts: tuple[Array, ...]) -> Array:
        p, positive, negative = parts
        # Not over a square, which may underflow.
        by_hit, by_miss = _over(xp, positive, p), _over(xp, negative, 1 - p)
        return _over(xp, by_hit, p) + _over(xp, by_miss, 1 - p)

    def _terms(self, xp: Any, x: Array, positive: Array, negative: Array) -> Array:
        # What has no mass is left out first, for log has no derivative at 0.
        hit = xp.log(xp.where(positive == 0, 1.0, x))
        miss = xp.log1p(-xp.where(negative == 0, 0.0, x))
        return -positive * hit - negative * miss

    def _by_target(self, xp: Any, x: Array, weight: Array | None) -> Array:
        kept, never, always = 1 - self.label_smoothing, x == 0, x == 1
        hit = xp.where(never, xp.inf, -xp.log(xp.where(never, 1.0, x)))
        miss = xp.where(always, xp.inf, -xp.log1p(-xp.where(always, 0.0, x)))
        return product(xp, kept, hit) - product(xp, kept, miss)


def _over(xp: Any, mass: Array, p: Array) -> Array:
    """Divide by a probability; 0 where there is no mass."""
    return xp.where(mass == 0, 0.0, mass / p)
