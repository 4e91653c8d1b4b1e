"""Elementary functions without cancellation, smooth under automatic differentiation.

Each takes the namespace ``xp`` first. Where a function has two branches, the argument of the
branch not taken is replaced by a harmless one *before* it is evaluated: otherwise its infinity or
NaN would reach the derivative through a product with zero. Conditions are written with ``where``
and comparisons, never with ``abs``, ``maximum`` or ``sign``, whose derivatives at a tie are wrong.
"""

from typing import Any

from xp_xent.backends._numbers import is_one, is_zero

Array = Any


def product(xp: Any, coefficient: Array | float, x: Array) -> Array:
    """Multiply with 0 · ∞ = 0: a class without mass adds nothing, however unlikely it is."""
    if isinstance(coefficient, (int, float)):  # known now, unlike a compiler's number
        if coefficient == 1:
            return x
        return coefficient * x if coefficient else xp.zeros_like(x)
    void = (coefficient == 0) & xp.isinf(x)
    return coefficient * xp.where(void, 0.0, x)


def softplus_parts(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """Split softplus into (tail, down, up): of −x it is tail + down, of x it is tail + up.

    ``tail`` is log(1 + exp(−|x|)), ``down`` max(−x, 0) and ``up`` max(x, 0); all are ≥ 0, so that
    combinations with non-negative weights do not cancel.
    """
    positive = x > 0
    tail = xp.log1p(xp.exp(xp.where(positive, -x, x)))
    return tail, xp.where(positive, 0.0, -x), xp.where(positive, x, 0.0)


def sigmoid_pair(xp: Any, x: Array) -> tuple[Array, Array]:
    """Compute σ(x) and 1 − σ(x), each to full relative accuracy."""
    positive = x > 0
    small = xp.exp(xp.where(positive, -x, x))
    larger = 1 / (1 + small)
    smaller = small / (1 + small)
    return xp.where(positive, larger, smaller), xp.where(positive, smaller, larger)


def expm1(xp: Any, x: Array) -> Array:
    """Compute exp(x) − 1; its derivative does not cancel, as expm1(x) + 1 does far below 0."""
    near = x > -0.7
    far = xp.where(near, -1.0, x)
    return xp.where(near, xp.expm1(xp.where(near, x, 0.0)), xp.exp(far) - 1)


def tanh_and_slope(xp: Any, x: Array) -> tuple[Array, Array]:
    """Compute tanh(x) and its derivative sech²(x), which 1 − tanh² loses where tanh saturates."""
    negative = x < 0
    twice = 2 * xp.where(negative, x, -x)
    less = expm1(xp, twice)  # in (−1, 0]
    tanh = less / (less + 2)
    slope = 4 * xp.exp(twice) / ((less + 2) * (less + 2))
    return xp.where(negative, tanh, -tanh), slope


def differentiable_tanh_and_slope(xp: Any, x: Array) -> tuple[Array, Array]:
    """Return the same in operations whose further derivatives do not cancel near 0 either."""
    near = (x > -0.4) & (x < 0.4)
    inner = xp.where(near, x, 0.0)
    y = inner * inner  # Lambert's continued fraction, to x⁹
    # Its sums are near 1: a derivative that is multiplied and divided by them may be subnormal.
    c = 2.0**-25
    above = c * 34459425 + y * (c * 4729725 + y * (c * 135135 + y * (c * 990 + y * c)))
    below = c * 34459425 + y * (c * 16216200 + y * (c * 945945 + y * (c * 13860 + y * (c * 45))))
    inner = inner * above / below
    negative = x < 0
    e = xp.exp(2 * xp.where(near, -1.0, xp.where(negative, x, -x)))
    outer = (1 - e) / (1 + e)
    tanh = xp.where(near, inner, xp.where(negative, -outer, outer))
    return tanh, xp.where(near, 1 - inner * inner, 4 * e / ((1 + e) * (1 + e)))


def power(xp: Any, base: Array, exponent: Array | float) -> Array:
    """Raise a base ≥ 0 to an exponent ≥ 0, with a finite derivative at 0."""
    if is_zero(exponent):
        return xp.ones_like(base)
    if is_one(exponent):
        return base
    zero = base == 0
    raised = xp.where(zero, 1.0, base) ** exponent
    if isinstance(exponent, (int, float)):
        return xp.where(zero, 0.0, raised)
    return xp.where(zero & (exponent != 0), 0.0, raised)


def entropy_term(xp: Any, q: Array) -> Array:
    """Compute q·log q with 0·log 0 = 0."""
    zero = q == 0
    return xp.where(zero, 0.0, q * xp.log(xp.where(zero, 1.0, q)))
