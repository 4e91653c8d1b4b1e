"""Logarithms of weighted sums of exponentials, whose terms may have either sign.

With k the term of the largest magnitude, of weight b_k and exponent x_k,

    log |Σ b_j exp(x_j)| = x_k + log |b_k| + log |1 + s|      s = Σ_{j≠k} (b_j/b_k) exp(x_j − x_k)

No quotient in s is above 1 in magnitude, so that s has the accuracy that the signs leave it.
"""

import math
from typing import Any

from xp_xent.kernels.elementary import expm1

Array = Any


def signed_log_sum(backend: Any, x: Array, b: Array, part: Array | None) -> tuple[Array, Array]:
    """Compute log |Σ b exp(x)| and the sign of Σ b exp(x) over the terms that take part.

    An exponent of −∞ adds nothing, whatever its weight, and neither does a weight of 0.
    """
    xp = backend.xp
    one = xp.ones_like(x)
    void = x == -xp.inf
    if part is not None:
        void = void | ~part
    no_term = void | (b == 0)
    size = backend.stop_gradient(xp.where(no_term, one, b))
    size = xp.where(no_term, -xp.inf, backend.stop_gradient(x) + xp.log(xp.abs(size)))
    top = backend._row_max(size)
    lost = xp.isinf(top)  # there is no term, or an infinite one
    limit, limit_sign = _limits(backend, size, b, top)

    # What takes no part is replaced first: its infinity or NaN would reach a derivative.
    x, b = xp.where(void | lost, 0.0, x), xp.where(void | lost, one, b)
    k = backend._row_argmax(size)
    x_k, b_k = backend.take_label(x, k), backend.take_label(b, k)
    sign_k = xp.where(b_k < 0, -1.0, xp.ones_like(b_k))
    level, unit = (backend.stop_gradient(part) for part in (x_k, b_k * sign_k))
    log_unit = xp.log(unit)
    quotients = _quotients(xp, x - level, b, unit, log_unit, void)
    s = sign_k * backend.row_sum(backend.set_at_label(quotients, k, 0.0))
    # The term k over its own magnitude: 0, but for its derivatives.
    gap = (x_k - level) + xp.log(b_k * sign_k / unit)
    value = (level + log_unit) + _log_of_both(xp, gap, s)

    s = backend.stop_gradient(s)
    sign = xp.where(s < -1, -sign_k, xp.where(s == -1, 0.0, sign_k))
    sign = xp.where(xp.isnan(s), s, sign)
    return xp.where(lost, limit, value), xp.where(lost, limit_sign, sign)


def _quotients(xp: Any, y: Array, b: Array, unit: Array, log_unit: Array, void: Array) -> Array:
    """Compute b·exp(y)/unit, of which no factor is out of range where the result is not."""
    # Without weight, and beside others so large (∞ and NaN too) that it has no derivative either.
    most = 0.9 * math.log(float(xp.finfo(y.dtype).max))
    off = void | ((b == 0) & ~(y - log_unit < most))
    quarter = xp.exp(xp.where(off, 0.0, y) / 4)
    return xp.where(off, 0.0, b * quarter * quarter * quarter / unit * quarter)


def _log_of_both(xp: Any, gap: Array, s: Array) -> Array:
    """Compute log |exp(gap) + s| for a gap of 0, without cancellation in the derivatives."""
    near = (s > -1) & (s < 1)
    inner = xp.where(near, s, 0.0) * xp.exp(-gap)
    outer = xp.where(near, 1.0, s) + expm1(xp, gap)
    return xp.where(near, gap + xp.log1p(inner), _log1p_magnitude(xp, outer))


def _log1p_magnitude(xp: Any, s: Array) -> Array:
    """Compute log |1 + s|."""
    return xp.log1p(xp.where(s < -1, -2 - s, s))


def _limits(backend: Any, size: Array, b: Array, top: Array) -> tuple[Array, Array]:
    """Return the logarithm and sign of a sum without a term, or with infinite ones."""
    xp, one, endless = backend.xp, backend.xp.ones_like(top), size == backend.xp.inf
    plus, minus = (
        backend._row_max(backend.cast(endless & signed, top.dtype)) > 0 for signed in (b > 0, b < 0)
    )
    sign = xp.where(plus, one, xp.where(minus, -one, 0.0))
    both = plus & minus
    return xp.where(both, xp.nan, top), xp.where(both, xp.nan, sign)
