"""Row losses that are not a softmax cross-entropy: entropy, and targets on log-probabilities."""

from dataclasses import dataclass
from typing import Any

from xp_xent._anchored import Anchored
from xp_xent._rows import Rows, close_gradient, close_loss, open_rows
from xp_xent._smoothing import Smoothing
from xp_xent._stable import product

Array = Any


@dataclass(frozen=True)
class EntropyRows:
    """Entropy H = Σ p_j ℓ_j of softmax(z).

    With k the largest class, H = ℓ_k + Σ p_j (z_k − z_j), a sum of positive terms; and with
    d_j = (z_k − z_j) − Σ p_i (z_k − z_i), the derivative ∂H/∂z_j is p_j d_j.
    """

    dtype: Any

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each row's entropy, (..., 1)."""
        row, _, mean = self._open(backend, rows)
        return close_loss(backend, rows, row.nll + mean)

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's entropy, and the derivative of Σ cotangent·entropy by the logits."""
        row, below, mean = self._open(backend, rows)
        gradient = row.probability * (below - mean)
        loss = close_loss(backend, rows, row.nll + mean)
        return loss, close_gradient(backend, rows, gradient, cotangent)

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give the Hessian of Σ cotangent·entropy times a vector of the logits' shape."""
        row, below, mean = self._open(backend, rows)
        p, deviation = row.probability, below - mean
        along = backend.arranged(vector, self.dtype)
        along = along - backend.pick(along, row.anchor)
        centre = row.off_sum(p * along)
        change = backend.row_sum(p * deviation * along)
        result = p * ((along - centre) * (deviation - 1) - change)
        return close_gradient(backend, rows, result, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give the diagonal of the Hessian of Σ cotangent·entropy."""
        xp = backend.xp
        row, below, mean = self._open(backend, rows)
        p, deviation = row.probability, below - mean
        away = xp.where(row.off, 1 - p, row.away)
        result = p * (away * (deviation - 1) - p * deviation)
        return close_gradient(backend, rows, result, cotangent)

    def _open(self, backend: Any, rows: Rows) -> tuple[Anchored, Array, Array]:
        """Give the rows, z_k − z_j (0 for a masked class, whose p is 0), and its mean under p."""
        xp = backend.xp
        row = Anchored(backend, open_rows(backend, rows, self.dtype), None)
        below = row.own - row.z
        mean = row.off_sum(product(xp, row.probability, below))
        return row, xp.where(row.probability == 0, 0.0, below), mean


@dataclass(frozen=True)
class LogProbRows:
    """The loss Σ q_j (−x_j) of rows x of log-probabilities: linear, so nothing is bent."""

    dtype: Any
    smoothing: Smoothing

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each row's loss, (..., 1)."""
        return self._loss(backend, rows, *self._open(backend, rows))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's loss, and the derivative of Σ cotangent·loss by the log-probabilities."""
        x, q = self._open(backend, rows)
        gradient = backend.xp.zeros_like(x) - q
        return self._loss(backend, rows, x, q), close_gradient(backend, rows, gradient, cotangent)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's loss, and the derivative of Σ cotangent·loss by the probabilities."""
        x, q = self._open(backend, rows)
        gradient = self.smoothing.by_probabilities(backend, rows, -x)
        gradient = close_gradient(backend, rows, gradient, cotangent, rows.probabilities)
        return self._loss(backend, rows, x, q), gradient

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give 0, of the vector's shape."""
        zero = backend.xp.zeros_like(open_rows(backend, rows, self.dtype))
        return close_gradient(backend, rows, zero, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give 0, of the logits' shape."""
        return self.hvp(backend, rows, cotangent, rows.logits)

    def _loss(self, backend: Any, rows: Rows, x: Array, q: Array) -> Array:
        return close_loss(backend, rows, backend.row_sum(product(backend.xp, q, -x)))

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        """Give the log-probabilities and the mass q on each class."""
        x = open_rows(backend, rows, self.dtype)
        return x, self.smoothing.masses(backend, rows, self.dtype)
