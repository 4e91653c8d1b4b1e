"""Focal loss of logits, element by element: a row here is one logit x with its target y.

With ℓ₊ = −log σ(x) and ℓ₋ = −log(1 − σ(x)), c = y·ℓ₊ + (1 − y)·ℓ₋, and α_t = α·y + (1 − α)(1 − y):

    α_t·u^γ·c         u = 1 − p_t = y·(1 − σ) + (1 − y)·σ

Of a sure element that is right, u and c are both about exp(−|x|). Their quotient c/u and r = u'/u
are of the order of 1, and the derivatives by x are made of these:

    first     α_t·u^γ·(γ·r·c + c')
    second    α_t·u^γ·(((γ − 1)·r·u' + u'')·γ·c/u + 2γ·r·c' + c'')
"""

from dataclasses import dataclass
from typing import Any

from xp_xent.backends._numbers import dtype_kind
from xp_xent.kernels.elementary import is_zero, power, product, sigmoid_pair, softplus_parts
from xp_xent.kernels.elements import Elements, zero_with_partial
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any


@dataclass(frozen=True)
class SigmoidFocal(Elements):
    """Focal loss with logits (Lin et al.); α None weighs both classes by 1."""

    gamma: Any = 2.0
    alpha: Any = None

    def _loss(self, backend: Any, rows: Rows) -> Array:
        if backend.differentiable:
            return self._smooth(backend, rows)
        _, _, _, _, outer, cross = self._parts(backend, rows)
        return outer * cross

    def _loss_and_slope(self, xp: Any, parts: tuple[Array, ...]) -> tuple[Array, Array]:
        y, up, down, u, outer, cross = parts
        by_x, slope = (1 - 2 * y) * up * down, (1 - y) * up - y * down  # u' and c'
        ratio = product(xp, self.gamma, self._ratio(xp, cross, u))
        return outer * cross, outer * (product(xp, by_x, ratio) + slope)

    def _second_derivative(self, xp: Any, parts: tuple[Array, ...]) -> Array:
        y, up, down, u, outer, cross = parts
        by_x, slope = (1 - 2 * y) * up * down, (1 - y) * up - y * down
        # Not u'²/u: the square may underflow.
        r = by_x / xp.where(u == 0, 1.0, u)
        second = (self.gamma - 1) * r * by_x + by_x * (down - up)
        ratio = product(xp, self.gamma, self._ratio(xp, cross, u))
        return outer * (product(xp, second, ratio) + 2 * self.gamma * r * slope + up * down)

    def _loss_and_target_slope(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        xp, gamma = backend.xp, self.gamma
        x, y, up, down, alpha = self._open(backend, rows)
        u, loss = y * down + (1 - y) * up, self._cross(xp, x, y)
        focus, ratio = power(xp, u, gamma), self._ratio(xp, loss, u)
        if not is_zero(gamma):
            # u may be too small where u^γ is not: exp(−|x|), if the target is wholly right.
            sure = (u < xp.finfo(u.dtype).smallest_normal) & (y == xp.astype(x > 0, y.dtype))
            focus = xp.where(sure, xp.exp(gamma * xp.where(x > 0, -x, x)), focus)
            ratio = xp.where(sure, 1.0, ratio)
        # Term by term, and γ last: c/u may be close to the largest number.
        by_u = product(xp, gamma, product(xp, focus, ratio))
        by_y = alpha * (by_u * (down - up) - product(xp, focus, x))
        if self.alpha is not None:
            by_y = by_y + (2 * self.alpha - 1) * focus * loss
        return alpha * focus * loss, by_y

    def _smooth(self, backend: Any, rows: Rows) -> Array:
        """Return the loss in operations that a library differentiates one by one, to any order."""
        xp, gamma = backend.xp, self.gamma
        x, y, up, down, alpha = self._open(backend, rows)
        still = backend.stop_gradient(y)
        loss, by_y = self._cross(xp, x, still), 0.0
        endless, floating = xp.isinf(loss), dtype_kind(y.dtype) == "floating"
        if floating:
            by_y = zero_with_partial(backend, y, -x)
            if self.alpha is not None:
                by_alpha = (2 * self.alpha - 1) * xp.ones_like(y)
                alpha = self._of_target(xp, still) + zero_with_partial(backend, y, by_alpha)
        if is_zero(gamma):
            return alpha * (loss + by_y)
        u, by_u = y * down + (1 - y) * up, None
        if isinstance(gamma, (int, float)) and (gamma == 1 or gamma >= 2):
            focus = power(xp, u, gamma)
        else:
            focus, by_u = self._apart(xp, x, still, u)
        result = focus * xp.where(endless, 0.0, loss)
        if floating:
            result = result + focus * zero_with_partial(backend, y, xp.where(xp.isinf(x), 0.0, -x))
            if by_u is not None:
                result = result + zero_with_partial(backend, y, by_u)
        # There u is 1 − y or y, but its derivative by x would be 0 · ∞.
        last = xp.where(endless, xp.where(x > 0, 1 - y, y), 1.0)
        return alpha * xp.where(endless, power(xp, last, gamma) * (loss + by_y), result)

    def _apart(self, xp: Any, x: Array, y: Array, u: Array) -> tuple[Array, Array]:
        """Return u^γ apart where u is tiny and powers of it overflow, for up to three derivatives.

        There u is t + far and c is t + far·|x|; t is exp(−|x|), and `far` what the target gives to
        the class that x speaks against. Also give the part of the loss's slope by a target which
        goes through a tiny u.
        """
        tiny = u < float(xp.finfo(u.dtype).smallest_normal) ** (1 / 3)
        along, far = xp.where(x > 0, -x, x), xp.where(x > 0, 1 - y, y)
        mixed = tiny & (far > 0)  # otherwise u is t, which may underflow
        log_t, log_far = (
            xp.where(mixed, part, -1.0) for part in (along, xp.log(xp.where(mixed, far, 1.0)))
        )
        tail, _, more = softplus_parts(xp, log_t - log_far)
        log_u = log_far + more + tail
        size = xp.where(xp.isinf(x), 0.0, -log_t)
        ratio = xp.exp(log_t - log_u) + size * xp.exp(log_far - log_u)  # c/u
        u_power = xp.exp(self.gamma * xp.where(mixed, log_u, along))
        by_u = self.gamma * u_power * xp.where(mixed, ratio, 1.0)
        focus = xp.where(tiny, u_power, power(xp, xp.where(tiny, 1.0, u), self.gamma))
        return focus, xp.where(tiny, xp.where(x > 0, -by_u, by_u), 0.0)

    def _open(self, backend: Any, rows: Rows) -> tuple[Array, Array, Array, Array, Array]:
        xp = backend.xp
        x = valid_rows(backend, rows, self.dtype)
        y = valid_rows(backend, rows, self.dtype, rows.probabilities)
        up, down = sigmoid_pair(xp, x)
        return x, y, up, down, self._of_target(xp, y)

    def _of_target(self, xp: Any, y: Array) -> Array:
        """Return α_t."""
        if self.alpha is None:
            return xp.ones_like(y)
        return self.alpha * y + (1 - self.alpha) * (1 - y)

    def _parts(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Return y, σ(x), 1 − σ(x), u, α_t·u^γ and c."""
        xp = backend.xp
        x, y, up, down, alpha = self._open(backend, rows)
        u = y * down + (1 - y) * up
        return y, up, down, u, alpha * power(xp, u, self.gamma), self._cross(xp, x, y)

    def _cross(self, xp: Any, x: Array, y: Array) -> Array:
        tail, down, up = softplus_parts(xp, x)
        return tail + product(xp, y, down) + product(xp, 1 - y, up)

    def _ratio(self, xp: Any, loss: Array, u: Array) -> Array:
        """Return c/u, 0 where u is."""
        zero = u == 0
        return xp.where(zero, 0.0, loss / xp.where(zero, 1.0, u))
