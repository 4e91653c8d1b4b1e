"""Row losses that are not a softmax cross-entropy: entropy, and targets on log-probabilities."""

from dataclasses import dataclass
from typing import Any

from xp_xent import _checks as check
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
        z = open_rows(backend, rows, self.dtype)

        def entropy(z: Array) -> Array:
            row, _, mean = self._sums(backend, z)
            return row.nll + mean

        def changing(z: Array) -> Array:
            row, below, mean = self._sums(backend, z)
            return backend.stop_gradient(row.nll + mean) + self._change(row, below - mean)

        return close_loss(backend, rows, backend.derived(entropy, changing, z))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's entropy, and the derivative of Σ cotangent·entropy by the logits."""
        return self._value_and_gradient(backend, rows, cotangent, *self._open(backend, rows))

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Give value and gradient, and the diagonal of the Hessian of Σ cotangent·entropy."""
        if bound:
            raise check.no_row_sums("an entropy's Hessian has entries of both signs in a row")
        sums = self._open(backend, rows)
        diagonal = close_gradient(backend, rows, self._diagonal(*sums), cotangent)
        return *self._value_and_gradient(backend, rows, cotangent, *sums), diagonal

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
        diagonal = self._diagonal(*self._open(backend, rows))
        return close_gradient(backend, rows, diagonal, cotangent)

    @staticmethod
    def _value_and_gradient(
        backend: Any,
        rows: Rows,
        cotangent: Array | float,
        row: Anchored,
        below: Array,
        mean: Array,
    ) -> tuple[Array, Array]:
        gradient = row.probability * (below - mean)
        loss = close_loss(backend, rows, row.nll + mean)
        return loss, close_gradient(backend, rows, gradient, cotangent)

    @staticmethod
    def _diagonal(row: Anchored, below: Array, mean: Array) -> Array:
        p, deviation = row.probability, below - mean
        away = row.xp.where(row.off, 1 - p, row.away)
        return p * (away * (deviation - 1) - p * deviation)

    @staticmethod
    def _change(row: Anchored, deviation: Array) -> Array:
        """Give 0, with the entropy's derivatives by the logits.

        Those of H = ℓ_k + Σ p_j (z_k − z_j) would cancel: by ℓ_k they are Σ p_j (dz_j − dz_k). So
        this is how far H is from its value, as a function of how far the logits are from theirs,
        m_j; each is 0 but has a derivative. With g_j = exp(m_j) − 1 and s = Σ p_j g_j, p_j becomes
        p_j (1 + g_j)/(1 + s), and what is left out below is 0.
        """
        xp, backend = row.xp, row.backend
        fixed = backend.stop_gradient
        p, deviation, sure = fixed(row.probability), fixed(deviation), fixed(row.rest) < 1
        moved = xp.where(p == 0, 0.0, row.z - fixed(row.z))
        # From a class that is nearly certain, as in `Backend.centred`.
        centre = xp.where(sure, backend.pick(moved, row.anchor), 0.0)
        moved = xp.where(sure & ~row.off, 0.0, moved - centre)
        grown = xp.expm1(moved)
        growth = backend.row_sum(p * grown)
        alone = 1.0 * moved  # the two derivatives of the excess meet here, and are exactly 0
        excess = xp.expm1(alone) - alone
        change = backend.row_sum(p * (grown * deviation + (excess - moved * grown)))
        return xp.log1p(growth) - growth / (1 + growth) + change / (1 + growth)

    def _open(self, backend: Any, rows: Rows) -> tuple[Anchored, Array, Array]:
        return self._sums(backend, open_rows(backend, rows, self.dtype))

    @staticmethod
    def _sums(backend: Any, z: Array) -> tuple[Anchored, Array, Array]:
        """Give the rows, z_k − z_j (0 for a masked class, whose p is 0), and its mean under p."""
        xp = backend.xp
        row = Anchored(backend, z, None)
        below = (row.lead + row.shift) - row.z
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

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Give value and gradient, and 0."""
        found = self.value_and_gradient(backend, rows, cotangent)
        return *found, self.hessian_diagonal(backend, rows, cotangent)

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
