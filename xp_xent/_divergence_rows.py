"""The Kullback–Leibler divergence of rows, which is small where its two halves are not.

Cross-entropy less the targets' entropy would leave their rounding errors. With s = Σ q,

    Σ q_j log(q_j / p_j) = s·log s + s·Σ_j b_j      b_j = q'_j log(q'_j / p_j) − q'_j + p_j

where q' = q/s. No b_j is negative; each is as small as the square of q'_j's distance from p_j.
"""

from dataclasses import dataclass
from typing import Any

from xp_xent._anchored import Anchored
from xp_xent._rows import Rows
from xp_xent._softmax_rows import Open, SoftmaxRows
from xp_xent._stable import entropy_term, product

Array = Any


@dataclass(frozen=True)
class DivergenceRows(SoftmaxRows):
    """Kullback–Leibler divergence KL(q ‖ p): its derivatives are cross-entropy's."""

    def _open(self, backend: Any, rows: Rows, *, sums_only: bool = False) -> Open:
        return super()._open(backend, rows, sums_only=sums_only and backend.differentiable)

    def _loss(self, block: Open) -> Array:
        row, backend, q = block.row, block.row.backend, block.q
        if not backend.differentiable:
            return divergence(backend, row, q)
        xp, stop = backend.xp, backend.stop_gradient
        halves = super()._loss(block) + backend.row_sum(entropy_term(xp, q))
        # The derivatives are those of the halves, the value is not.
        value = divergence(backend, Anchored(backend, stop(row.z), row.anchor), stop(q))
        return xp.where(xp.isfinite(halves), value + (halves - stop(halves)), halves)

    def _target_gradient(self, block: Open, rows: Rows) -> Array:
        # At a target of exactly 0, where log q has no derivative, that of the cross-entropy.
        xp, zero = block.row.xp, block.q == 0
        own = xp.where(zero, 0.0, xp.log(xp.where(zero, 1.0, block.q)) + 1)
        return super()._target_gradient(block, rows) + own


def divergence(backend: Any, row: Anchored, q: Array) -> Array:
    """Give Σ q·log(q / p) of rows, (..., 1); not to be differentiated."""
    xp = backend.xp
    total, excess = backend.row_sum(q), sum_less_one(backend, q)
    q = q / xp.where(total == 0, 1.0, total)
    gap, some = row.probability - q, q + backend.cast(q == 0, q.dtype)  # 1 in place of 0
    relative = gap / some
    # Far from q, p itself may have underflowed. (A p of 0 without mass, of −inf, is not far.)
    far = xp.abs(relative) > 0.5
    log = xp.where(far, row.surprisal + xp.log(some), -xp.log1p(relative))
    terms = gap + q * log
    terms = xp.where(terms < 0, 0.0, terms)
    own = xp.where(excess > -0.5, xp.log1p(excess), xp.log(total))
    return total * backend.row_sum(terms) + product(xp, total, own)


def sum_less_one(backend: Any, q: Array) -> Array:
    """Give Σ q − 1, (..., 1), without a sum's rounding where q ≥ 0."""
    # Rounded to a grid that the sum lies on, too, the large parts add up exactly.
    grid = 4 * backend.row_sum(q)
    large = (q + grid) - grid
    return (backend.row_sum(large) - 1) + backend.row_sum(q - large)
