"""The anchor's part of a cross-entropy: a function of numbers of a row, and its derivatives.

With `on` and `off`, the masses of the targets at a row's anchor and elsewhere, and the `lead` and
`rest` of `Anchored`, it is

    (on + off)·log1p(rest + expm1(lead)) − on·lead

in value; its derivative by the lead, accumulated term by term, would cancel where the anchor holds
more than half of the probability (rest < 1).
"""

from typing import Any, NamedTuple

from xp_xent._stable import expm1, product

Array = Any
Mass = Any  # (..., 1) or a number


class Spread(NamedTuple):
    """The function for a backend to evaluate; everything has the shape (..., 1)."""

    xp: Any

    def value(self, lead: Array, rest: Array, on: Mass, off: Mass) -> Array:
        """Give the value, where a library neither differentiates nor computes lead twice."""
        log_total = self.xp.log1p(rest + self.xp.expm1(lead))
        return (on + off) * log_total - product(self.xp, on, lead)

    def slopes(self, lead: Array, rest: Array, on: Mass, off: Mass) -> tuple[Array, ...]:
        """Give the derivatives by lead, rest, on and off; their own do not cancel either."""
        xp, own = self.xp, self.xp.exp(lead)
        total, mass, log_total = rest + own, on + off, xp.log1p(rest + expm1(xp, lead))
        by_lead = anchor_slope(xp, rest < 1, own / total, rest / total, on, off)
        return by_lead, mass / total, log_total - lead, log_total

    def smooth(self, lead: Array, rest: Array, on: Mass, off: Mass) -> Array:
        """Give the value in operations that may be differentiated one by one."""
        xp, sure = self.xp, rest < 1
        ahead = xp.where(sure, lead, 0.0)  # its value is 0, its derivative is not
        behind = xp.where(sure, 0.0, lead)
        return xp.where(
            sure,
            off * ahead + (on + off) * xp.log1p(rest * xp.exp(-ahead)),
            (on + off) * xp.log1p(rest + expm1(xp, behind)) - product(xp, on, behind),
        )


def anchor_slope(xp: Any, sure: Array, at: Array, away: Array, on: Mass, off: Mass) -> Array:
    """Give the derivative by the anchor's logit, of probability `at`, 1 − at being `away`."""
    mass = on + off
    return xp.where(sure, off - mass * away, mass * at - on)
