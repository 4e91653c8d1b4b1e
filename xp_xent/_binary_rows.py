"""Binary losses, element by element: a row here is one logit x with its target y.

With ℓ₊ = −log σ(x) and ℓ₋ = −log(1 − σ(x)), both ≥ 0 and each to full relative accuracy:

    BCE    = w·y·ℓ₊ + (1 − y)·ℓ₋                 w = pos_weight
    focal  = α_t·u^γ·(y·ℓ₊ + (1 − y)·ℓ₋)         u = 1 − p_t = y·(1 − σ) + (1 − y)·σ
"""

from dataclasses import dataclass
from typing import Any

from xp_xent._rows import Rows, close_gradient, close_loss, open_rows
from xp_xent._stable import power, product, sigmoid_pair, softplus_parts

Array = Any


@dataclass(frozen=True)
class BinaryRows:
    """Binary cross-entropy with logits; smoothing ε makes a target y(1 − ε) + ε/2."""

    dtype: Any
    label_smoothing: float = 0.0

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each element's loss."""
        x, positive, negative = self._open(backend, rows)
        return close_loss(backend, rows, self._loss(backend.xp, x, positive, negative))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the logits."""
        xp = backend.xp
        x, positive, negative = self._open(backend, rows)
        up, down = sigmoid_pair(xp, x)
        loss = close_loss(backend, rows, self._loss(xp, x, positive, negative))
        gradient = negative * up - positive * down
        return loss, close_gradient(backend, rows, gradient, cotangent)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the targets."""
        xp = backend.xp
        x, positive, negative = self._open(backend, rows)
        tail, down, up = softplus_parts(xp, x)
        loss = close_loss(backend, rows, self._loss(xp, x, positive, negative))
        weight = 1.0 if rows.class_weight is None else rows.class_weight
        hit = product(xp, weight, tail + down)
        gradient = (1 - self.label_smoothing) * (hit - (tail + up))
        return loss, close_gradient(backend, rows, gradient, cotangent, rows.probabilities)

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give the Hessian, which is diagonal, times a vector."""
        vector = open_rows(backend, rows, self.dtype, vector)
        return close_gradient(backend, rows, self._bend(backend, rows) * vector, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give the second derivative of each element's loss, times its cotangent."""
        return close_gradient(backend, rows, self._bend(backend, rows), cotangent)

    def _bend(self, backend: Any, rows: Rows) -> Array:
        xp = backend.xp
        x, positive, negative = self._open(backend, rows)
        up, down = sigmoid_pair(xp, x)
        return (positive + negative) * up * down

    def _loss(self, xp: Any, x: Array, positive: Array, negative: Array) -> Array:
        tail, down, up = softplus_parts(xp, x)
        # Grouped by target, so that (x, 1) and (−x, 0) take the same steps to the same bits.
        return (positive * tail + product(xp, positive, down)) + (
            negative * tail + product(xp, negative, up)
        )

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array, Array]:
        """Give the logits, and the weights of ℓ₊ and ℓ₋."""
        x = open_rows(backend, rows, self.dtype)
        y = open_rows(backend, rows, self.dtype, rows.probabilities)
        positive, negative = y, 1 - y
        if self.label_smoothing != 0:
            kept, given = 1 - self.label_smoothing, self.label_smoothing / 2
            positive, negative = kept * positive + given, kept * negative + given
        if rows.class_weight is not None:
            positive = rows.class_weight * positive
        return x, positive, negative


@dataclass(frozen=True)
class SigmoidFocalRows:
    """Focal loss with logits (Lin et al.); α None weighs both classes by 1."""

    dtype: Any
    gamma: float = 2.0
    alpha: float | None = None

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each element's loss."""
        return close_loss(backend, rows, self._derivatives(backend, rows)[0])

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the logits."""
        loss, slope, _ = self._derivatives(backend, rows, order=1)
        return close_loss(backend, rows, loss), close_gradient(backend, rows, slope, cotangent)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each element's loss, and the derivative of Σ cotangent·loss by the targets."""
        xp = backend.xp
        x, y, up, down, alpha = self._open(backend, rows)
        _, less, more = softplus_parts(xp, x)
        u = y * down + (1 - y) * up
        loss = self._cross(xp, x, y)
        by_y = (less - more) + self._ratio(xp, loss, u) * (down - up)
        by_y = product(xp, power(xp, u, self.gamma), by_y)
        gradient = alpha * by_y
        if self.alpha is not None:
            gradient = gradient + (2 * self.alpha - 1) * power(xp, u, self.gamma) * loss
        loss = alpha * power(xp, u, self.gamma) * loss
        return close_loss(backend, rows, loss), close_gradient(
            backend, rows, gradient, cotangent, rows.probabilities
        )

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give the Hessian, which is diagonal, times a vector."""
        bend = self._derivatives(backend, rows, order=2)[2]
        vector = open_rows(backend, rows, self.dtype, vector)
        return close_gradient(backend, rows, bend * vector, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give the second derivative of each element's loss, times its cotangent."""
        bend = self._derivatives(backend, rows, order=2)[2]
        return close_gradient(backend, rows, bend, cotangent)

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array, Array, Array, Array]:
        xp = backend.xp
        x = open_rows(backend, rows, self.dtype)
        y = open_rows(backend, rows, self.dtype, rows.probabilities)
        up, down = sigmoid_pair(xp, x)
        alpha = xp.ones_like(y)
        if self.alpha is not None:
            alpha = self.alpha * y + (1 - self.alpha) * (1 - y)
        return x, y, up, down, alpha

    def _cross(self, xp: Any, x: Array, y: Array) -> Array:
        tail, down, up = softplus_parts(xp, x)
        return tail + product(xp, y, down) + product(xp, 1 - y, up)

    def _ratio(self, xp: Any, loss: Array, u: Array) -> Array:
        """Give γ·loss/u, 0 where u is."""
        zero = u == 0
        return product(xp, self.gamma, xp.where(zero, 0.0, loss / xp.where(zero, 1.0, u)))

    def _derivatives(
        self, backend: Any, rows: Rows, order: int = 0
    ) -> tuple[Array, Array | None, Array | None]:
        """Give the loss and its first and second derivative by x, up to an order."""
        xp = backend.xp
        x, y, up, down, alpha = self._open(backend, rows)
        u, cross = y * down + (1 - y) * up, self._cross(xp, x, y)
        outer = alpha * power(xp, u, self.gamma)
        if order == 0:
            # There u is 1 − y or y, but its derivative by x would be 0 · ∞.
            endless, last = xp.isinf(cross), xp.where(x > 0, 1 - y, y)
            finite = outer * xp.where(endless, 0.0, cross)
            infinite = alpha * power(xp, xp.where(endless, last, 1.0), self.gamma) * cross
            return xp.where(endless, infinite, finite), None, None
        by_x, slope = (1 - 2 * y) * up * down, (1 - y) * up - y * down  # u' and cross'
        ratio = self._ratio(xp, cross, u)
        first = outer * (product(xp, by_x, ratio) + slope)
        if order == 1:
            return outer * cross, first, None
        safe = xp.where(u == 0, 1.0, u)
        second = (
            product(xp, (self.gamma - 1) * by_x * by_x / safe + by_x * (down - up), ratio)
            + 2 * self.gamma * by_x * slope / safe
            + up * down
        )
        return outer * cross, first, outer * second
