"""Binary cross-entropy, element by element: a row here is one logit x with its target y.

With ℓ₊ = −log σ(x) and ℓ₋ = −log(1 − σ(x)), both ≥ 0 and each to full relative accuracy:

    w·y·ℓ₊ + (1 − y)·ℓ₋                 w = pos_weight
"""

from dataclasses import dataclass
from typing import Any

from xp_xent.backends._numbers import dtype_kind, is_zero
from xp_xent.kernels.elementary import product, sigmoid_pair, softplus_parts
from xp_xent.kernels.elements import Elements, zero_with_partial
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any


@dataclass(frozen=True)
class BinaryCrossEntropy(Elements):
    """Binary cross-entropy with logits; smoothing ε makes a target y(1 − ε) + ε/2."""

    label_smoothing: Any = 0.0

    def _loss(self, backend: Any, rows: Rows) -> Array:
        if not backend.differentiable:
            return self._terms(backend.xp, *self._open(backend, rows))
        y, weight = rows.probabilities, rows.class_weight
        x = self._elements(backend, rows)
        still = backend.stop_gradient(valid_rows(backend, rows, self.dtype, y))
        if weight is None:
            loss = self._terms(backend.xp, x, *self._masses(still, None))
        else:
            weight = valid_rows(backend, rows, self.dtype, weight)
            now = backend.stop_gradient(weight)
            loss = self._terms(backend.xp, x, *self._masses(still, now))
            tail, down, _ = softplus_parts(backend.xp, x)
            hit = product(backend.xp, self._masses(still, None)[0], tail + down)
            loss = loss + zero_with_partial(backend, weight, hit)
            # An infinite slope by the targets has no derivative by the weight.
            weight = backend.xp.where(backend.xp.isinf(x), now, weight)
        if dtype_kind(y.dtype) == "floating":
            y = valid_rows(backend, rows, self.dtype, y)
            loss = loss + zero_with_partial(backend, y, self._by_target(backend.xp, x, weight))
        return loss

    def _parts(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Compute the logits, the weights of ℓ₊ and ℓ₋, σ(x) and 1 − σ(x)."""
        x, positive, negative = self._open(backend, rows)
        return x, positive, negative, *sigmoid_pair(backend.xp, x)

    def _loss_and_slope(self, xp: Any, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        x, positive, negative, up, down = parts
        return self._terms(xp, x, positive, negative), negative * up - positive * down

    def _loss_and_target_slope(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        x, positive, negative = self._open(backend, rows)
        loss = self._terms(backend.xp, x, positive, negative)
        return loss, self._by_target(backend.xp, x, rows.class_weight)

    def _second_derivative(self, xp: Any, parts: tuple[Array, ...]) -> Array:
        _, positive, negative, up, down = parts
        return (positive + negative) * up * down

    def _terms(self, xp: Any, x: Array, positive: Array, negative: Array) -> Array:
        tail, down, up = softplus_parts(xp, x)
        # Grouped by target, so that (x, 1) and (−x, 0) take the same steps to the same bits.
        return (positive * tail + product(xp, positive, down)) + (
            negative * tail + product(xp, negative, up)
        )

    def _by_target(self, xp: Any, x: Array, weight: Array | None) -> Array:
        """Compute the derivative by the targets; what may be 0 comes before what may overflow."""
        tail, down, up = softplus_parts(xp, x)
        kept = 1 - self.label_smoothing
        hit = product(xp, kept if weight is None else kept * weight, tail + down)
        return hit - product(xp, kept, tail + up)

    def _masses(self, y: Array, weight: Array | None) -> tuple[Array, Array]:
        """Return the weights of ℓ₊ and ℓ₋."""
        positive, negative = y, 1 - y
        if not is_zero(self.label_smoothing):
            kept, given = 1 - self.label_smoothing, self.label_smoothing / 2
            positive, negative = kept * positive + given, kept * negative + given
        return positive if weight is None else weight * positive, negative

    def _elements(self, backend: Any, rows: Rows) -> Array:
        return valid_rows(backend, rows, self.dtype)

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array, Array]:
        """Compute the logits, and the weights of ℓ₊ and ℓ₋."""
        x = self._elements(backend, rows)
        y = valid_rows(backend, rows, self.dtype, rows.probabilities)
        return x, *self._masses(y, rows.class_weight)
