"""The Kullback–Leibler divergence of targets from log-probabilities as they are given.

    Σ q_j d_j        d_j = log q_j − x_j

Where q nearly agrees with p = exp(x), these have both signs, and add up to little more than
Σ q − Σ p. So d_j is accurate as a difference is: of two logarithms that are given, or, near 0,
−log1p((p_j − q_j)/q_j).
"""

from dataclasses import dataclass
from typing import Any

from xp_xent.kernels.elementary import product
from xp_xent.kernels.kl_divergence import probabilities_of
from xp_xent.kernels.log_probs import LogProbs
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, valid_rows

Array = Any


@dataclass(frozen=True)
class LogProbsDivergence(LogProbs):
    """The divergence Σ q (log q − x); its derivatives by x are those of Σ q (−x)."""

    log_targets: bool = False

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's loss, and the derivative of Σ cotangent·loss by the targets."""
        xp, (x, q) = backend.xp, self._open(backend, rows)
        by_q = self._distance(backend, rows, x, q)
        # At 0 log q has no derivative; a class without mass and of probability 0 stays so.
        by_q = xp.where(q == 0, xp.where(xp.isinf(by_q), 0.0, by_q), by_q + 1)
        gradient = product(xp, q, by_q) if self.log_targets else by_q
        gradient = finish_gradient(backend, rows, gradient, cotangent, rows.probabilities)
        return self._loss(backend, rows, x, q), gradient

    def _loss(self, backend: Any, rows: Rows, x: Array, q: Array) -> Array:
        terms = product(backend.xp, q, self._distance(backend, rows, x, q))
        return finish_loss(backend, rows, backend.row_sum(terms))

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        if self.log_targets:
            rows = probabilities_of(backend, rows, self.dtype)
        return super()._open(backend, rows)

    def _distance(self, backend: Any, rows: Rows, x: Array, q: Array) -> Array:
        """Compute log q − x; −x where q is 0."""
        xp, none = backend.xp, q == 0
        if self.log_targets:
            log_q = valid_rows(backend, rows, self.dtype, rows.probabilities)
            return xp.where(none, 0.0, log_q) - x
        some = xp.where(none, 1.0, q)
        difference = xp.log(some) - x
        stop = backend.stop_gradient
        relative = (xp.exp(stop(x)) - stop(some)) / stop(some)
        near = ~none & (xp.abs(relative) < 0.5)
        close = -xp.log1p(xp.where(near, relative, 0.0))
        if backend.differentiable:  # the derivatives are the difference's
            close = close + xp.where(near, difference - stop(difference), 0.0)
        return xp.where(near, close, difference)
