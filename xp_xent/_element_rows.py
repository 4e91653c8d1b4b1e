"""Losses of single elements: what they have in common. A row here is one logit x, its target y.

A subclass has the formulas. Where a library differentiates, slopes by targets and weights may have
to be stated, see `with_slope`.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from xp_xent._rows import Rows, close_gradient, close_loss, open_rows
from xp_xent._stable import product

Array = Any


@dataclass(frozen=True)
class ElementRows:
    """The methods of a kernel, made of a subclass's formulas."""

    dtype: Any
    _: KW_ONLY
    unread: bool = False  # Python could not refuse targets outside [0, 1]: these are NaN

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each element's loss."""
        rows = self._judged(backend, rows)
        loss = self._loss(backend, rows)
        if not backend.differentiable or rows.scale is None:
            return close_loss(backend, rows, loss)
        xp, scale = backend.xp, open_rows(backend, rows, self.dtype, rows.scale)
        void = (scale == 0) & xp.isinf(loss)
        scaled = product(xp, scale, loss) + xp.where(void, with_slope(backend, scale, loss), 0.0)
        return close_loss(backend, rows._replace(scale=None), scaled)

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the logits."""
        rows = self._judged(backend, rows)
        loss, slope = self._loss_and_slope(backend.xp, self._parts(backend, rows))
        return close_loss(backend, rows, loss), close_gradient(backend, rows, slope, cotangent)

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Give both of `value_and_gradient`, and the second derivative, or its magnitude."""
        rows = self._judged(backend, rows)
        parts = self._parts(backend, rows)
        loss, slope = self._loss_and_slope(backend.xp, parts)
        bend = close_gradient(backend, rows, self._bend(backend.xp, parts), cotangent)
        gradient = close_gradient(backend, rows, slope, cotangent)
        return close_loss(backend, rows, loss), gradient, abs(bend) if bound else bend

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the targets."""
        rows = self._judged(backend, rows)
        loss, slope = self._loss_and_target_slope(backend, rows)
        if rows.scale is not None:  # it may be infinite
            slope = backend.xp.where(rows.scale == 0, 0.0, slope)
        return close_loss(backend, rows, loss), close_gradient(
            backend, rows, slope, cotangent, rows.probabilities
        )

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give the Hessian, which is diagonal, times a vector."""
        rows = self._judged(backend, rows)
        vector = open_rows(backend, rows, self.dtype, vector)
        bend = self._bend(backend.xp, self._parts(backend, rows))
        return close_gradient(backend, rows, bend * vector, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give the second derivative of each element's loss, times its cotangent."""
        rows = self._judged(backend, rows)
        bend = self._bend(backend.xp, self._parts(backend, rows))
        return close_gradient(backend, rows, bend, cotangent)

    def _judged(self, backend: Any, rows: Rows) -> Rows:
        """Mark the elements that count and whose target is outside [0, 1]."""
        if not self.unread:
            return rows
        y: Array = rows.probabilities
        outside = (y < 0) | (y > 1)
        if rows.counted is not None:
            outside = outside & rows.counted
        one = backend.full((), 1.0, self.dtype, like=y)
        return rows._replace(fine=backend.xp.where(outside, backend.xp.nan, one))

    def _loss(self, backend: Any, rows: Rows) -> Array:
        raise NotImplementedError

    def _parts(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Give what the next two are made of."""
        raise NotImplementedError

    def _loss_and_slope(self, xp: Any, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        raise NotImplementedError

    def _loss_and_target_slope(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        raise NotImplementedError

    def _bend(self, xp: Any, parts: tuple[Array, ...]) -> Array:
        raise NotImplementedError


def with_slope(backend: Any, y: Array, slope: Array) -> Array:
    """Give 0 whose derivative by y is the slope, which may be infinite.

    It is for a loss that is linear in y: y·slope itself would be 0 · ∞ where y is 0.
    """
    xp = backend.xp
    most = float(xp.finfo(slope.dtype).max)
    endless, large = xp.isinf(slope), backend.full((), most, slope.dtype, like=slope)
    # Two large factors make an infinite derivative of 0 · finite, and none of a derivative of 0.
    finite = xp.where(endless, xp.where(slope > 0, large, -large), slope)
    return (y - backend.stop_gradient(y)) * finite * xp.where(endless, large, 1.0)
