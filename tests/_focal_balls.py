"""Sigmoid focal loss and its derivatives, by ball arithmetic: of a float x, target y and gamma."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from flint import arb, ctx


class Focal(NamedTuple):
    """The loss, its derivatives, and of the two last the sum of their terms without signs."""

    value: float
    by_x: float
    by_y: float
    by_xx: float
    by_xy: float
    size_xx: float
    size_xy: float


@cache
def focal(x: float, y: float, gamma: float) -> Focal:
    """Differentiate u^γ·c by the textbook's rules, in precision enough for exp(−800)."""
    before, ctx.prec = ctx.prec, 1600
    try:
        return Focal(*(float(f.mid()) for f in _derivatives(arb(x), arb(y), arb(gamma))))
    finally:
        ctx.prec = before


def _derivatives(x: arb, y: arb, g: arb) -> tuple[arb, ...]:
    up, down = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
    c = y * (1 + (-x).exp()).log() + (1 - y) * (1 + x.exp()).log()
    u = y * down + (1 - y) * up
    p = u**g
    # Logarithmic derivative of u by x, and that of c; c/u and its derivative; u and c by y.
    r, c_x = (1 - 2 * y) * up * down / u, (1 - y) * up - y * down
    q = c / u
    q_x, u_y, c_y = c_x / u - q * r, down - up, -x
    by_y = p * (c_y + g * q * u_y)
    xx = (g * (g - 1) * r * r * c, g * r * (down - up) * c, 2 * g * r * c_x, up * down)
    xy = (g * r * c_y, g * g * r * q * u_y, arb(-1), g * q_x * u_y, -2 * g * q * up * down)
    sums = (p * sum(xx), p * sum(xy), p * sum(map(abs, xx)), p * sum(map(abs, xy)))
    return p * c, p * (g * r * c + c_x), by_y, *sums
