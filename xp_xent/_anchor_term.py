"""The anchor's part of a cross-entropy: a function of numbers of a row, and its derivatives.

With `on` and `off`, the masses of the targets at a row's anchor and elsewhere, and the `lead` and
`rest` of `Anchored`, it is

    on·log1p(rest / exp(lead)) + off·log1p(rest + expm1(lead))

two sums of positive terms: −log p of the anchor, and the logarithm of Σ exp(z_j − m).
"""

from typing import Any, NamedTuple

from xp_xent._stable import expm1, product

Array = Any
Mass = Any  # (..., 1) or a number


class AnchorTerm(NamedTuple):
    """The function for a backend to evaluate; everything has the shape (..., 1)."""

    xp: Any

    def value(self, lead: Array, rest: Array, on: Mass, off: Mass) -> Array:
        """Give the value, where a library differentiates it by `slopes` or not at all.

        The lead comes in by a factor alone, so that confident rows keep their digits even where a
        compiler computes a logit twice, and rounds it differently.
        """
        value = product(self.xp, on, anchor_nll(self.xp, lead, rest))
        if isinstance(off, float) and off == 0:
            return value
        return value + off * self.xp.log1p(rest + expm1(self.xp, lead))

    def slopes(self, lead: Array, rest: Array, on: Mass, off: Mass) -> tuple[Array, ...]:
        """Give the derivatives by lead, rest, on and off; their own do not cancel either."""
        xp, own = self.xp, self.xp.exp(lead)
        total = rest + own
        by_lead = anchor_slope(xp, rest < own, own / total, rest / total, on, off)
        by_on, by_off = (self.smooth(lead, rest, *masses) for masses in ((1.0, 0.0), (0.0, 1.0)))
        return by_lead, (on + off) / total, by_on, by_off

    def smooth(self, lead: Array, rest: Array, on: Mass, off: Mass) -> Array:
        """Give the value in operations that may be differentiated one by one, to any order.

        The quotient's derivatives would overflow or cancel where the lead is low. So it is taken
        only where the anchor holds more than half of the probability; there the lead is 0.
        """
        xp, sure = self.xp, rest < 1
        ahead = xp.where(sure, lead, 0.0)  # its value is 0, its derivative is not
        behind = xp.where(sure, 0.0, lead)
        return xp.where(
            sure,
            off * ahead + (on + off) * xp.log1p(rest * xp.exp(-ahead)),
            (on + off) * xp.log1p(rest + expm1(xp, behind)) - product(xp, on, behind),
        )


def anchor_nll(xp: Any, lead: Array, rest: Array) -> Array:
    """Give −log p of the anchor: log1p(rest / exp(lead))."""
    # Below −60 the anchor's own exponential no longer matters beside the others', which are at
    # least 1: not in float64 either. The quotient by exp(−60) still fits into float32. (Numbers in
    # place, for Dynamo would make a module's float an input of what it compiles.)
    far = lead < -60.0
    own = xp.where(far, 8.75651076269652e-27, xp.exp(lead))
    return xp.log1p(rest / own) + xp.where(far, -60.0 - lead, 0.0)


def anchor_slope(xp: Any, sure: Array, at: Array, away: Array, on: Mass, off: Mass) -> Array:
    """Give the derivative by the anchor's logit, of probability `at`, 1 − at being `away`.

    `sure` tells where it holds more than half of the probability.
    """
    mass = on + off
    return xp.where(sure, off - mass * away, mass * at - on)
