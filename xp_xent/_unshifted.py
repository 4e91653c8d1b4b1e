"""A row of logits seen from its label, with exponentials as they are: no maximum is taken first.

    own = exp(z_y)        rest = Σ exp(z_j) over the other classes

Then −log p_y = log1p(rest / own) and p_j = exp(z_j) / (rest + own): sums, products and quotients
of positive terms, as accurate as those of `Anchored`, with two passes over the elements less. It
holds where no exponential overflows or loses digits, which shows afterwards, row by row: `fits`.
Only the label's own term can be had in this way; where mass lies on several classes, −log p of
each is wanted, and logits with a common offset would cancel.
"""

from typing import Any

from xp_xent._anchored import Anchored

Array = Any

# Between these, quotients of exponentials do not overflow in float32, nor does a factor of 1e-23
# of a gradient underflow when it is divided by a total.
LOW, HIGH = 2.0**-60, 2.0**50


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
        return spans(self.total, 0.5, HIGH) and spans(self.own_e, LOW, HIGH)

    @property
    def fits(self) -> Array:
        """Tell which rows' numbers are accurate, (..., 1).

        With a total of 0.5 or more, an exponential that underflows is of a p that does.
        """
        return (self.total >= 0.5) & (self.total <= HIGH) & (self.own_e >= LOW)

    @property
    def nll(self) -> Array:
        """Give −log p of the label."""
        return self.xp.log1p(self.rest / self.own_e)

    @property
    def lse(self) -> Array:
        """Give log Σ exp(z_j)."""
        return self.xp.log(self.total)
