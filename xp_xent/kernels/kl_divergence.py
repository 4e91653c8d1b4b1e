"""The Kullback–Leibler divergence of rows, which is small where its two halves are not.

Cross-entropy less the targets' entropy would leave their rounding errors. With s = Σ q,

    Σ q_j log(q_j / p_j) = s·log s + s·Σ_j b_j      b_j = q'_j log(q'_j / p_j) − q'_j + p_j

where q' = q/s. No b_j is negative; each is as small as the square of q'_j's distance from p_j.
"""

from dataclasses import dataclass
from typing import Any

from xp_xent.kernels.elementary import entropy_term, product
from xp_xent.kernels.row_stats import RowStats, row_stats
from xp_xent.kernels.rows import Rows, valid_rows
from xp_xent.kernels.softmax import Softmax, Targets

Array = Any


@dataclass(frozen=True)
class KLDivergence(Softmax):
    """Kullback–Leibler divergence KL(q ‖ p): its derivatives are cross-entropy's."""

    log_targets: bool = False  # whether targets are log q

    def _stats(
        self, backend: Any, rows: Rows, need: str, factors: tuple[Any, ...] | None = None
    ) -> tuple[RowStats, Targets]:
        if self.log_targets:
            rows = probabilities_of(backend, rows, self.dtype)
        return super()._stats(backend, rows, need if backend.differentiable else "exps", factors)

    def _loss(self, row: RowStats, targets: Targets) -> Array:
        backend, q = row.backend, targets.q
        if not backend.differentiable:
            return divergence(backend, row, q)
        xp, stop = backend.xp, backend.stop_gradient
        halves = super()._loss(row, targets) + backend.row_sum(entropy_term(xp, q))
        # The derivatives are those of the halves, the value is not.
        fixed = row_stats(backend, stop(row.z), row.reference, self.dtype)
        value = divergence(backend, fixed, stop(q))
        return xp.where(xp.isfinite(halves), value + (halves - stop(halves)), halves)

    def _target_gradient(self, row: RowStats, targets: Targets, rows: Rows) -> Array:
        # At a target of exactly 0, where log q has no derivative, that of the cross-entropy.
        xp, q = row.xp, targets.q
        by_log_q = xp.where(q == 0, 0.0, xp.log(xp.where(q == 0, 1.0, q)) + 1)
        if not self.log_targets:
            return super()._target_gradient(row, targets, rows) + by_log_q
        rows = rows._replace(probabilities=q)
        return product(xp, q, super()._target_gradient(row, targets, rows) + by_log_q)


def probabilities_of(backend: Any, rows: Rows, dtype: Any) -> Rows:
    """Return rows with probabilities in place of their logarithms."""
    log_q = valid_rows(backend, rows, dtype, rows.probabilities)
    return rows._replace(probabilities=backend.xp.exp(log_q))


def divergence(backend: Any, row: RowStats, q: Array) -> Array:
    """Return Σ q·log(q / p) of rows, (..., 1); not to be differentiated."""
    xp = backend.xp
    total, excess = backend.row_sum(q), sum_less_one(backend, q)
    q = q / xp.where(total == 0, 1.0, total)
    difference, some = row.probabilities - q, q + backend.cast(q == 0, q.dtype)  # 1 in place of 0
    relative = difference / some
    # Far from q, p itself may have underflowed. (A p of 0 without mass, of −inf, is not far.)
    far = xp.abs(relative) > 0.5
    log = xp.where(far, row.surprisals + xp.log(some), -xp.log1p(relative))
    terms = difference + q * log
    terms = xp.where(terms < 0, 0.0, terms)
    log_total = xp.where(excess > -0.5, xp.log1p(excess), xp.log(total))
    return total * backend.row_sum(terms) + product(xp, total, log_total)


def sum_less_one(backend: Any, q: Array) -> Array:
    """Return Σ q − 1, (..., 1), without a sum's rounding where q ≥ 0."""
    # Rounded to a grid that the sum lies on, too, the large parts add up exactly.
    grid = 4 * backend.row_sum(q)
    large = (q + grid) - grid
    return (backend.row_sum(large) - 1) + backend.row_sum(q - large)
