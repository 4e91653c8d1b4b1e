"""The loss of targets on log-probabilities, which are not normalised again."""

from dataclasses import dataclass
from typing import Any, ClassVar

from xp_xent.kernels.elementary import product
from xp_xent.kernels.label_smoothing import Smoothing
from xp_xent.kernels.logit_map import mapped_logits
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, valid_rows
from xp_xent.kernels.softmax_hessian import with_diagonal

Array = Any


@dataclass(frozen=True)
class LogProbs:
    """The loss Σ q_j (−x_j) of rows x of log-probabilities: linear in x."""

    dtype: Any
    smoothing: Smoothing
    by_sums: ClassVar[tuple[str, ...]] = ()

    def value(self, backend: Any, rows: Rows) -> Array:
        """Compute each row's loss, (..., 1)."""
        return self._loss(backend, rows, *self._open(backend, rows))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute rows' losses, and the derivative of Σ cotangent·loss by the log-probabilities."""
        x, q = self._open(backend, rows)
        gradient = backend.xp.zeros_like(x) - q
        if rows.class_valid is not None:
            gradient = backend.xp.where(rows.class_valid, gradient, 0.0)
        return self._loss(backend, rows, x, q), finish_gradient(backend, rows, gradient, cotangent)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's loss, and the derivative of Σ cotangent·loss by the probabilities."""
        x, q = self._open(backend, rows)
        gradient = self.smoothing.by_probabilities(backend, rows, -x)
        gradient = finish_gradient(backend, rows, gradient, cotangent, rows.probabilities)
        return self._loss(backend, rows, x, q), gradient

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Compute value and gradient, and 0."""
        found = self.value_and_gradient(backend, rows, cotangent)
        return *found, self.hessian_diagonal(backend, rows, cotangent)

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Return 0, of the vector's shape."""
        zero = backend.xp.zeros_like(valid_rows(backend, rows, self.dtype))
        return finish_gradient(backend, rows, zero, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Return 0, of the logits' shape."""
        return self.hvp(backend, rows, cotangent, rows.logits)

    def hessian(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Return 0, (..., K²); the classes are last."""
        zero = self.hvp(backend, rows, cotangent, rows.logits)
        return with_diagonal(backend, zero[..., None] * zero[..., None, :], zero)

    def _loss(self, backend: Any, rows: Rows, x: Array, q: Array) -> Array:
        return finish_loss(backend, rows, backend.row_sum(product(backend.xp, q, -x)))

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        """Return the log-probabilities and the mass q on each class."""
        x = mapped_logits(backend, rows, self.dtype).u
        return x, self.smoothing.masses(backend, rows, self.dtype)
