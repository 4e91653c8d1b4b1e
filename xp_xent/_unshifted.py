"""A row of logits seen from its label, with exponentials as they are: no maximum is taken first.

    own = exp(z_y)        rest = Σ exp(z_j) over the other classes

Then −log p_y = log1p(rest / own) and p_j = exp(z_j) / (rest + own): sums, products and quotients
of positive terms, as accurate as those of `Anchored`, with two passes over the elements less. It
holds where no exponential overflows or loses digits, which shows afterwards, row by row: `fits`.
Only the label's own term can be had in this way; where mass lies on several classes, −log p of
each is wanted, and logits with a common offset would cancel.
"""

import math
from typing import Any

from xp_xent._anchored import Anchored

Array = Any

# Between these, quotients of exponentials do not overflow in float32, nor does a gradient's factor
# of at most 1e29; one of at least LEAST_FACTOR keeps its digits when a total divides it.
LEAST_OWN, LEAST_TOTAL, MOST = 2.0**-60, 2.0**-30, 2.0**50
LEAST_FACTOR = 2.0**-76


class Unshifted(Anchored):
    """The sums of rows z (..., K) around their labels (..., 1), which are class indices."""

    def __init__(self, backend: Any, z: Array, label: Array) -> None:
        self.xp, self.backend, self.z, self.anchor = backend.xp, backend, z, label
        # The place is that of the anchor in e, and in nothing else.
        self.e, self.place, self.rest, self.own_e = backend.unshifted(z, label)
        self.total = self.rest + self.own_e

    @property
    def all_fit(self) -> bool:
        """Tell if every row `fits`: a row's own exponential is never above its total."""
        spans = self.backend.spans
        if not spans(self.own_e, LEAST_OWN, MOST):
            return False
        if spans(self.total, 0.5, MOST):
            return True
        return spans(self.total, LEAST_TOTAL, MOST) and spans(self.z, self._least_logit, MOST)

    @property
    def fits(self) -> Array:
        """Tell which rows' numbers are accurate, (..., 1).

        With a total of 0.5 or more, an exponential that underflows is of a p that does; with less,
        none may.
        """
        least = self.xp.min(self.z, axis=self.backend.axis, keepdims=True)
        none_underflows = (self.total >= LEAST_TOTAL) & (least >= self._least_logit)
        within = (self.own_e >= LEAST_OWN) & (self.total <= MOST)
        return within & ((self.total >= 0.5) | none_underflows)

    def carries(self, factor: Array | float, mass: Array | float) -> Any:
        """Tell of which rows, or of all, the gradient times these is accurate: True for 0."""
        kept = abs(factor) >= LEAST_FACTOR
        if not isinstance(mass, float):
            kept = kept & (abs(mass * factor) >= LEAST_FACTOR)
        known = kept if isinstance(kept, bool) else self.backend.holds(kept)
        return known or kept | (factor == 0) | (mass == 0)

    @property
    def _least_logit(self) -> float:
        """Give the logarithm of the smallest number with all its digits."""
        return math.log(float(self.xp.finfo(self.z.dtype).smallest_normal))

    @property
    def nll(self) -> Array:
        """Give −log p of the label."""
        return self.xp.log1p(self.rest / self.own_e)

    @property
    def lse(self) -> Array:
        """Give log Σ exp(z_j)."""
        return self.xp.log(self.total)
