"""Losses of single elements: what they have in common. A row here is one logit x, its target y.

A subclass has the formulas. Where a library differentiates, slopes by targets and weights may have
to be stated, see `with_slope`.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from xp_xent.kernels.elementary import product
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, valid_rows

Array = Any


@dataclass(frozen=True)
class Elements:
    """The methods of a kernel, made of a subclass's formulas."""

    dtype: Any
    _: KW_ONLY
    check_targets: bool = False  # none refused yet; those outside [0, 1]: these are NaN
    by_sums: ClassVar[tuple[str, ...]] = ()

    def value(self, backend: Any, rows: Rows) -> Array:
        """Compute each element's loss."""
        rows = self._checked(backend, rows)
        loss = self._loss(backend, rows)
        if not backend.differentiable or rows.row_weight is None:
            return finish_loss(backend, rows, loss)
        xp, row_weight = backend.xp, valid_rows(backend, rows, self.dtype, rows.row_weight)
        void = (row_weight == 0) & xp.isinf(loss)
        scaled = product(xp, row_weight, loss) + xp.where(
            void, zero_with_partial(backend, row_weight, loss), 0.0
        )
        return finish_loss(backend, rows._replace(row_weight=None), scaled)

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each element's loss, and the derivative of Σ cotangent·loss by the logits."""
        rows = self._checked(backend, rows)
        loss, slope = self._loss_and_slope(backend.xp, self._parts(backend, rows))
        return finish_loss(backend, rows, loss), finish_gradient(backend, rows, slope, cotangent)

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Return both of `value_and_gradient`, and the second derivative, or its magnitude."""
        rows = self._checked(backend, rows)
        parts = self._parts(backend, rows)
        loss, slope = self._loss_and_slope(backend.xp, parts)
        second = self._second_derivative(backend.xp, parts)
        second = finish_gradient(backend, rows, second, cotangent)
        gradient = finish_gradient(backend, rows, slope, cotangent)
        return finish_loss(backend, rows, loss), gradient, abs(second) if bound else second

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each element's loss, and the derivative of Σ cotangent·loss by the targets."""
        rows = self._checked(backend, rows)
        loss, slope = self._loss_and_target_slope(backend, rows)
        if rows.row_weight is not None:  # it may be infinite
            slope = backend.xp.where(rows.row_weight == 0, 0.0, slope)
        return finish_loss(backend, rows, loss), finish_gradient(
            backend, rows, slope, cotangent, rows.probabilities
        )

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Return the Hessian, which is diagonal, times a vector."""
        rows = self._checked(backend, rows)
        vector = valid_rows(backend, rows, self.dtype, vector)
        second = self._second_derivative(backend.xp, self._parts(backend, rows))
        return finish_gradient(backend, rows, second * vector, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute the second derivative of each element's loss, times its cotangent."""
        rows = self._checked(backend, rows)
        second = self._second_derivative(backend.xp, self._parts(backend, rows))
        return finish_gradient(backend, rows, second, cotangent)

    def _checked(self, backend: Any, rows: Rows) -> Rows:
        """Mark the elements that count and whose target is outside [0, 1]."""
        return self._nan_outside(backend, rows, rows.probabilities) if self.check_targets else rows

    def _nan_outside(self, backend: Any, rows: Rows, x: Array) -> Rows:
        outside = (x < 0) | (x > 1)
        if rows.valid is not None:
            outside = outside & rows.valid
        one = rows.nan_if_out_of_range
        if one is None:
            one = backend.full((), 1.0, self.dtype, like=x)
        return rows._replace(nan_if_out_of_range=backend.xp.where(outside, backend.xp.nan, one))

    def _loss(self, backend: Any, rows: Rows) -> Array:
        raise NotImplementedError

    def _parts(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Return what the next two are made of."""
        raise NotImplementedError

    def _loss_and_slope(self, xp: Any, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        raise NotImplementedError

    def _loss_and_target_slope(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        raise NotImplementedError

    def _second_derivative(self, xp: Any, parts: tuple[Array, ...]) -> Array:
        raise NotImplementedError


def zero_with_partial(backend: Any, y: Array, slope: Array) -> Array:
    """Return 0 whose derivative by y is the slope, which may be infinite.

    It is for a loss that is linear in y: y·slope itself would be 0 · ∞ where y is 0.
    """
    xp = backend.xp
    most = float(xp.finfo(slope.dtype).max)
    endless, large = xp.isinf(slope), backend.full((), most, slope.dtype, like=slope)
    # Two large factors make an infinite derivative of 0 · finite, and none of a derivative of 0.
    finite = xp.where(endless, xp.where(slope > 0, large, -large), slope)
    return (y - backend.stop_gradient(y)) * finite * xp.where(endless, large, 1.0)
