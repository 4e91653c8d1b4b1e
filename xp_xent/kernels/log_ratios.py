"""Functions of how far two distributions are apart, for divergences, which are small near 0.

With r a quotient of probabilities, they take its logarithm a = log r, which is accurate where r is
near 1; each is smooth under automatic differentiation.
"""

from typing import Any

from xp_xent.backends._numbers import is_one, is_zero
from xp_xent.kernels.elementary import expm1

Array = Any

# (n + 1)/(n + 2)!, the Taylor coefficients of r·log r − r + 1 by a, less a².
_COEFFICIENTS = (
    1 / 2, 1 / 3, 1 / 8, 1 / 30, 1 / 144, 1 / 840, 1 / 5760, 1 / 45360, 1 / 403200, 1 / 3991680,
    1 / 43545600, 1 / 518918400, 1 / 6706022400, 1 / 93405312000, 1 / 1394852659200,
)  # fmt: skip
# Its exponential is no infinity in float32, and its inverse is nothing beside 1.
_FAR = 80.0


def excess(xp: Any, a: Array) -> Array:
    """Compute r·log r − r + 1 of a = log r: never negative, a²/2 near 0, and 1 at −∞."""
    near = (a > -0.4) & (a < 0.4)
    inner = xp.where(near, a, 0.0)
    series = _COEFFICIENTS[-1]
    for coefficient in _COEFFICIENTS[-2::-1]:
        series = coefficient + series * inner
    # An e^a of more is multiplied by less than its inverse.
    outer = xp.where(near | (a < -200.0), -200.0, xp.where(a > _FAR, _FAR, a))
    return xp.where(near, inner * inner * series, outer * xp.exp(outer) - expm1(xp, outer))


def log_mixture(xp: Any, share: Any, a: Array) -> Array:
    """Compute log((1 − s) + s·r) of a = log r and a share s in [0, 1]."""
    if is_zero(share):
        return 0.0 * a
    if is_one(share):
        return a
    capped = xp.where(a > _FAR, _FAR, xp.where(a < -_FAR, -_FAR, a))
    grown = share * expm1(xp, capped)
    low = grown < -0.5  # then a sum of what is left, not what is taken from 1
    left = (1 - share) + share * xp.exp(capped)
    log = xp.where(low, xp.log(xp.where(low, left, 1.0)), xp.log1p(xp.where(low, 0.0, grown)))
    return log + xp.where(a > _FAR, a - capped, 0.0)


def log_mixture_over_rest(xp: Any, share: Any, a: Array) -> Array:
    """Compute log_mixture − log(1 − s) = log1p(s·r/(1 − s)), with the digits of a small r."""
    rest = 1 - share
    if is_zero(rest):
        return a
    if not isinstance(rest, (int, float)):  # at a share of 1 what it is part of has no weight
        rest = xp.where(rest == 0, 1.0, rest)
    capped = xp.where(a > _FAR, _FAR, a)
    return xp.log1p((share / rest) * xp.exp(capped)) + xp.where(a > _FAR, a - capped, 0.0)
