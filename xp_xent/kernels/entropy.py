"""The entropy of rows of logits: value, gradient and curvature."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xp_xent.kernels.elementary import product
from xp_xent.kernels.logit_map import mapped_logits, over_temperature
from xp_xent.kernels.row_stats import RowStats, row_stats
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, row_factor
from xp_xent.kernels.softmax_hessian import outer, with_diagonal

Array = Any


@dataclass(frozen=True)
class Entropy:
    """Entropy H = Σ p_j ℓ_j of softmax(z).

    With k the largest class, H = ℓ_k + Σ p_j (z_k − z_j), a sum of positive terms; and with
    d_j = (z_k − z_j) − Σ p_i (z_k − z_i), the derivative ∂H/∂z_j is p_j d_j.
    """

    dtype: Any
    temperature: Any = 1.0
    by_sums: ClassVar[tuple[str, ...]] = ()
    unbounded: ClassVar[str] = "an entropy's Hessian has entries of both signs in a row"

    def value(self, backend: Any, rows: Rows) -> Array:
        """Compute each row's entropy, (..., 1)."""
        z = mapped_logits(backend, rows, self.dtype, temperature=self.temperature).u
        # The functions outlive the trace that a temperature may belong to, so they have no `self`.
        sums, change = self._sums, self._change

        def entropy(z: Array) -> Array:
            row, _, mean = sums(backend, z)
            return row.nll + mean

        def changing(z: Array) -> Array:
            row, below, mean = sums(backend, z)
            return backend.stop_gradient(row.nll + mean) + change(row, below - mean)

        return finish_loss(backend, rows, backend.custom_derivative(entropy, changing, z))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's entropy, and the derivative of Σ cotangent·entropy by the logits."""
        return self._value_and_gradient(backend, rows, cotangent, *self._open(backend, rows))

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, _: bool
    ) -> tuple[Array, Array, Array]:
        """Compute value and gradient, and the diagonal of the Hessian of Σ cotangent·entropy."""
        sums = self._open(backend, rows)
        diagonal = self._by_temperature(self._diagonal(*sums))
        diagonal = finish_gradient(backend, rows, diagonal, cotangent)
        return *self._value_and_gradient(backend, rows, cotangent, *sums), diagonal

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Return the Hessian of Σ cotangent·entropy times a vector of the logits' shape."""
        row, below, mean = self._open(backend, rows)
        p, deviation = row.probabilities, below - mean
        change_of_z = backend.kernel_layout(vector, self.dtype)
        change_of_z = change_of_z - backend.take_label(change_of_z, row.reference)
        centre = row.other_classes_sum(p * change_of_z)
        change = backend.row_sum(p * deviation * change_of_z)
        result = p * ((change_of_z - centre) * (deviation - 1) - change)
        return finish_gradient(backend, rows, self._by_temperature(result), cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute the diagonal of the Hessian of Σ cotangent·entropy."""
        diagonal = self._by_temperature(self._diagonal(*self._open(backend, rows)))
        return finish_gradient(backend, rows, diagonal, cotangent)

    def hessian(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute each row's Hessian of Σ cotangent·entropy, (..., K²); the classes are last.

        Off the diagonal it is p_j p_k (1 − d_j − d_k).
        """
        row, below, mean = self._open(backend, rows)
        deviation = below - mean
        pull = 1 - (deviation[..., :, None] + deviation[..., None, :])
        entries = outer(row.probabilities) * pull
        matrix = with_diagonal(backend, entries, self._diagonal(row, below, mean))
        return finish_gradient(backend, rows, self._by_temperature(matrix), cotangent)

    def _value_and_gradient(
        self,
        backend: Any,
        rows: Rows,
        cotangent: Array | float,
        row: RowStats,
        below: Array,
        mean: Array,
    ) -> tuple[Array, Array]:
        gradient = over_temperature(row.probabilities * (below - mean), self.temperature)
        loss = finish_loss(backend, rows, row.nll + mean)
        return loss, finish_gradient(backend, rows, gradient, cotangent)

    @staticmethod
    def _diagonal(row: RowStats, below: Array, mean: Array) -> Array:
        p, deviation = row.probabilities, below - mean
        one_minus_p = row.xp.where(row.is_other, 1 - p, row.one_minus_p)
        return p * (one_minus_p * (deviation - 1) - p * deviation)

    @staticmethod
    def _change(row: RowStats, deviation: Array) -> Array:
        """Return 0, with the entropy's derivatives by the logits.

        Those of H = ℓ_k + Σ p_j (z_k − z_j) would cancel: by ℓ_k they are Σ p_j (dz_j − dz_k). So
        this is how far H is from its value, as a function of how far the logits are from theirs,
        m_j; each is 0 but has a derivative. With g_j = exp(m_j) − 1 and s = Σ p_j g_j, p_j becomes
        p_j (1 + g_j)/(1 + s), and what is left out below is 0.
        """
        xp, backend = row.xp, row.backend
        fixed = backend.stop_gradient
        p, deviation, sure = fixed(row.probabilities), fixed(deviation), fixed(row.other_sum) < 1
        moved = xp.where(p == 0, 0.0, row.z - fixed(row.z))
        # From a class that is nearly certain, as in `Backend.exp_sums`.
        centre = xp.where(sure, backend.take_label(moved, row.reference), 0.0)
        moved = xp.where(sure & ~row.is_other, 0.0, moved - centre)
        grown = xp.expm1(moved)
        growth = backend.row_sum(p * grown)
        alone = 1.0 * moved  # the two derivatives of the excess meet here, and are exactly 0
        excess = xp.expm1(alone) - alone
        change = backend.row_sum(p * (grown * deviation + (excess - moved * grown)))
        return xp.log1p(growth) - growth / (1 + growth) + change / (1 + growth)

    def _open(self, backend: Any, rows: Rows) -> tuple[RowStats, Array, Array]:
        of = mapped_logits(backend, rows, self.dtype, temperature=self.temperature)
        return self._sums(backend, of.u)

    def _by_temperature(self, x: Any) -> Any:
        """Divide a second derivative by the temperature's square."""
        once = over_temperature(x, self.temperature)
        return over_temperature(once, self.temperature)

    def value_and_temperature_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's entropy, and the derivative of cotangent·entropy by the temperature.

        It is the variance of u under p, over T.
        """
        row, below, mean = self._open(backend, rows)
        deviation = below - mean
        by_temperature = backend.row_sum(row.probabilities * deviation * deviation)
        loss = finish_loss(backend, rows, row.nll + mean)
        factor = row_factor(rows, cotangent)
        by_temperature = by_temperature / self.temperature
        return loss, backend.scale_rows(by_temperature, factor, rows.valid)

    @staticmethod
    def _sums(backend: Any, z: Array) -> tuple[RowStats, Array, Array]:
        """Return the rows, z_k − z_j (0 for a masked class, whose p is 0), and its mean under p."""
        xp = backend.xp
        row = row_stats(backend, z, None, z.dtype)
        below = (row.gap + row.sums.row_max) - row.z
        mean = row.other_classes_sum(product(xp, row.probabilities, below))
        return row, xp.where(row.probabilities == 0, 0.0, below), mean
