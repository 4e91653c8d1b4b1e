"""Focal loss of logits, element by element: a row here is one logit x with its target y.

With ℓ₊ = −log σ(x) and ℓ₋ = −log(1 − σ(x)), c = w·y·ℓ₊ + (1 − y)·ℓ₋, w being `pos_weight`, and
α_t = α·y + (1 − α)(1 − y), of the smoothed y:

    α_t·u^γ·c         u = 1 − p_t = y·(1 − σ) + (1 − y)·σ

Of a sure element that is right, u and c are both about exp(−|x|). Their quotient c/u and r = u'/u
are of the order of 1, and the derivatives by x are made of these:

    first     α_t·u^γ·(γ·r·c + c')
    second    α_t·u^γ·(((γ − 1)·r·u' + u'')·γ·c/u + 2γ·r·c' + c'')
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from xp_xent.backends._numbers import dtype_kind, is_zero
from xp_xent.kernels.elementary import power, product, sigmoid_pair, softplus_parts
from xp_xent.kernels.elements import Elements, zero_with_partial
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any


class Element(NamedTuple):
    """What elements are made of."""

    x: Array
    up: Array  # σ(x)
    down: Array  # 1 − σ(x)
    y: Array  # smoothed
    other: Array  # 1 − y
    tilt: Array  # 1 − 2y
    weight: Array | None  # w; None: 1
    alpha: Array  # α_t

    @property
    def positive(self) -> Array:
        """The weight of ℓ₊."""
        return self.y if self.weight is None else self.weight * self.y

    @property
    def u(self) -> Array:
        """The probability of the class that the target is not."""
        return self.y * self.down + self.other * self.up

    def cross(self, xp: Any) -> Array:
        """Compute c."""
        tail, down, up = softplus_parts(xp, self.x)
        if self.weight is None:
            return tail + product(xp, self.y, down) + product(xp, self.other, up)
        positive = self.positive
        return (positive * tail + product(xp, positive, down)) + (
            self.other * tail + product(xp, self.other, up)
        )

    def cross_by_target(self, xp: Any) -> Array:
        """Compute the derivative of c by y."""
        if self.weight is None:
            return -self.x
        tail, down, up = softplus_parts(xp, self.x)
        return product(xp, self.weight, tail + down) - (tail + up)

    def cross_by_weight(self, xp: Any) -> Array:
        """Compute the derivative of c by w."""
        tail, down, _ = softplus_parts(xp, self.x)
        return product(xp, self.y, tail + down)


@dataclass(frozen=True)
class SigmoidFocal(Elements):
    """Focal loss with logits (Lin et al.); α None weighs both classes by 1.

    Smoothing ε makes a target y(1 − ε) + ε/2. An α for each class is among the rows.
    """

    gamma: Any = 2.0
    alpha: Any = None
    label_smoothing: Any = 0.0

    def _loss(self, backend: Any, rows: Rows) -> Array:
        if backend.differentiable:
            return self._smooth(backend, rows)
        _, _, outer, cross = self._parts(backend, rows)
        return outer * cross

    def _loss_and_slope(self, xp: Any, parts: tuple[Any, ...]) -> tuple[Array, Array]:
        e, u, outer, cross = parts
        by_x, slope = e.tilt * e.up * e.down, e.other * e.up - e.positive * e.down  # u' and c'
        ratio = product(xp, self.gamma, self._ratio(xp, cross, u))
        return outer * cross, outer * (product(xp, by_x, ratio) + slope)

    def _second_derivative(self, xp: Any, parts: tuple[Any, ...]) -> Array:
        e, u, outer, cross = parts
        by_x, slope = e.tilt * e.up * e.down, e.other * e.up - e.positive * e.down
        bend = e.up * e.down if e.weight is None else (e.positive + e.other) * e.up * e.down
        # Not u'²/u: the square may underflow.
        r = by_x / xp.where(u == 0, 1.0, u)
        second = (self.gamma - 1) * r * by_x + by_x * (e.down - e.up)
        ratio = product(xp, self.gamma, self._ratio(xp, cross, u))
        return outer * (product(xp, second, ratio) + 2 * self.gamma * r * slope + bend)

    def _loss_and_target_slope(self, backend: Any, rows: Rows) -> tuple[Array, Array]:
        xp, gamma = backend.xp, self.gamma
        e = self._open(backend, rows)
        u, loss = e.u, e.cross(xp)
        focus, ratio = power(xp, u, gamma), self._ratio(xp, loss, u)
        if not is_zero(gamma):
            # u may be too small where u^γ is not: exp(−|x|), if the target is wholly right.
            x, sure = e.x, (u < xp.finfo(u.dtype).smallest_normal)
            sure = sure & (e.y == xp.astype(x > 0, u.dtype))
            focus = xp.where(sure, xp.exp(gamma * xp.where(x > 0, -x, x)), focus)
            weight = 1.0 if e.weight is None else xp.where(x > 0, e.weight, 1.0)
            ratio = xp.where(sure, weight, ratio)
        # Term by term, and γ last: c/u may be close to the largest number.
        by_u = product(xp, gamma, product(xp, focus, ratio))
        by_y = e.alpha * (by_u * (e.down - e.up) + product(xp, focus, e.cross_by_target(xp)))
        alpha = self._alpha(rows)
        if alpha is not None:
            by_y = by_y + (2 * alpha - 1) * focus * loss
        if not is_zero(self.label_smoothing):
            by_y = product(xp, 1 - self.label_smoothing, by_y)
        return e.alpha * focus * loss, by_y

    def _smooth(self, backend: Any, rows: Rows) -> Array:
        """Return the loss in operations that a library differentiates one by one, to any order."""
        xp, gamma, stop = backend.xp, self.gamma, backend.stop_gradient
        e = self._open(backend, rows)
        still = e._replace(y=stop(e.y), other=stop(e.other))
        # c is linear in y and in w, and its slopes by these may be infinite.
        slopes = []
        if e.weight is not None:
            still = still._replace(weight=stop(e.weight))
            slopes.append((e.weight, still.cross_by_weight(xp)))
            # An infinite slope by the targets has no derivative by the weight.
            weight = xp.where(xp.isinf(e.x), still.weight, e.weight)
            e = e._replace(weight=weight)
        loss, alpha = still.cross(xp), e.alpha
        floating = dtype_kind(rows.probabilities.dtype) == "floating"
        if floating or not is_zero(self.label_smoothing):
            slopes.append((e.y, e.cross_by_target(xp)))
            if (given := self._alpha(rows)) is not None:
                alpha = self._of_target(xp, given, still.y, still.other)
                alpha = alpha + zero_with_partial(backend, e.y, (2 * given - 1) * xp.ones_like(e.y))
        change = sum((zero_with_partial(backend, by, slope) for by, slope in slopes), 0.0)
        if is_zero(gamma):
            return alpha * (loss + change)
        x, u, by_u = e.x, e.u, None
        endless = xp.isinf(loss)
        if isinstance(gamma, (int, float)) and (gamma == 1 or gamma >= 2):
            focus = power(xp, u, gamma)
        else:
            focus, by_u = self._apart(xp, still, u)
        result = focus * xp.where(endless, 0.0, loss)
        for by, slope in slopes:
            finite = xp.where(xp.isinf(x), 0.0, slope)
            result = result + focus * zero_with_partial(backend, by, finite)
        if by_u is not None:
            result = result + zero_with_partial(backend, e.y, by_u)
        # There u is 1 − y or y, but its derivative by x would be 0 · ∞.
        last = xp.where(endless, xp.where(x > 0, e.other, e.y), 1.0)
        return alpha * xp.where(endless, power(xp, last, gamma) * (loss + change), result)

    def _apart(self, xp: Any, e: Element, u: Array) -> tuple[Array, Array]:
        """Return u^γ apart where u is tiny and powers of it overflow, for up to three derivatives.

        There u is t + far and c is v·t + w·far·|x|; t is exp(−|x|), `far` what the target gives to
        the class that x speaks against, w that class's weight and v the other's. Also give the
        part of the loss's slope by a target which goes through a tiny u.
        """
        tiny = u < float(xp.finfo(u.dtype).smallest_normal) ** (1 / 3)
        for_positive = e.x > 0
        along, far = xp.where(for_positive, -e.x, e.x), xp.where(for_positive, e.other, e.y)
        mixed = tiny & (far > 0)  # otherwise u is t, which may underflow
        log_t, log_far = (
            xp.where(mixed, part, -1.0) for part in (along, xp.log(xp.where(mixed, far, 1.0)))
        )
        tail, _, more = softplus_parts(xp, log_t - log_far)
        log_u = log_far + more + tail
        size, weight = xp.where(xp.isinf(e.x), 0.0, -log_t), 1.0
        if e.weight is not None:
            weight = xp.where(for_positive, e.weight, 1.0)
            size = size * xp.where(for_positive, 1.0, e.weight)
        ratio = weight * xp.exp(log_t - log_u) + size * xp.exp(log_far - log_u)  # c/u
        u_power = xp.exp(self.gamma * xp.where(mixed, log_u, along))
        by_u = self.gamma * u_power * xp.where(mixed, ratio, weight)
        focus = xp.where(tiny, u_power, power(xp, xp.where(tiny, 1.0, u), self.gamma))
        return focus, xp.where(tiny, xp.where(for_positive, -by_u, by_u), 0.0)

    def _open(self, backend: Any, rows: Rows) -> Element:
        xp = backend.xp
        x = valid_rows(backend, rows, self.dtype)
        y = valid_rows(backend, rows, self.dtype, rows.probabilities)
        weight, alpha = rows.class_weight, self._alpha(rows)
        if weight is not None:
            weight = valid_rows(backend, rows, self.dtype, weight)
        other, tilt = 1 - y, 1 - 2 * y
        if not is_zero(self.label_smoothing):
            kept, given = 1 - self.label_smoothing, self.label_smoothing / 2
            y, other, tilt = kept * y + given, kept * other + given, kept * tilt
        of_target = self._of_target(xp, alpha, y, other)
        return Element(x, *sigmoid_pair(xp, x), y, other, tilt, weight, of_target)

    def _alpha(self, rows: Rows) -> Any:
        """Return α: None, a number, or an array that broadcasts against the elements."""
        return self.alpha if rows.alpha is None else rows.alpha

    def _of_target(self, xp: Any, alpha: Any, y: Array, other: Array) -> Array:
        """Return α_t."""
        return xp.ones_like(y) if alpha is None else alpha * y + (1 - alpha) * other

    def _parts(self, backend: Any, rows: Rows) -> tuple[Any, ...]:
        """Return the elements, u, α_t·u^γ and c."""
        e = self._open(backend, rows)
        u = e.u
        return e, u, e.alpha * power(backend.xp, u, self.gamma), e.cross(backend.xp)

    def _ratio(self, xp: Any, loss: Array, u: Array) -> Array:
        """Return c/u, 0 where u is."""
        zero = u == 0
        return xp.where(zero, 0.0, loss / xp.where(zero, 1.0, u))
