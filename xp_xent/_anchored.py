"""A row of logits, seen from one of its classes: the sums that nothing cancels in.

For a row z and its *anchor* class k, with m = max z:

    lead = z_k − m                       (≤ 0)
    e_j  = exp(z_j − m), 0 at j = k
    rest = Σ e_j                         (the sum without the anchor's own term)

Then log Σ exp(z) = m + log1p(rest + expm1(lead)) and −log p_k = log1p(rest / exp(lead)): a sum of
positive terms, however small, with no 1 in it to drown them. The anchor is the label where there is
one, else the largest class.
"""

from typing import Any

from xp_xent._anchor_term import AnchorTerm, anchor_slope
from xp_xent._stable import expm1, product

Array = Any


class Anchored:
    """The sums of rows z (..., K) around their anchors (..., 1), which are class indices.

    Rows that `counted` (..., 1) excludes are blanked. With `sums_only` there is no `e`, nor what
    is made of it: for a value, which needs no element again. `e`, `off` (which classes are not the
    anchor), `probability` and `surprisal` have the shape (..., K); everything else has (..., 1).
    """

    def __init__(
        self,
        backend: Any,
        z: Array,
        anchor: Array | None,
        counted: Array | None = None,
        *,
        sums_only: bool = False,
    ) -> None:
        xp = self.xp = backend.xp
        self.at_largest = anchor is None
        # Blanked after its maximum is taken, not before: compilers fuse what is done to elements
        # with what follows, but not with a reduction.
        top = xp.max(z, axis=backend.axis, keepdims=True)
        # The shift drops out of every result, so it must not enter a derivative either.
        given = z, backend.stop_gradient(top)
        if counted is not None:
            z, top = backend.masked(z, counted), backend.masked(top, counted)
        if anchor is None:
            anchor = xp.argmax(z, axis=backend.axis, keepdims=True)
        self.backend, self.z, self.anchor, self.place = backend, z, anchor, anchor
        stated = backend.anchored_sums(*given, anchor, counted) if sums_only else None
        if stated is not None:
            self.shift, self.rest, self.lead = stated
            self.level = self.shift
        else:
            self.shift = self.level = backend.stop_gradient(top)
            if backend.differentiable and not self.at_largest:
                self.z, self.shift = backend.centred(z, self.shift)
                self.level = 0.0
            self.e, self.rest, own = backend.anchored(self.z, self.level, anchor)
            self.lead = own - self.level
        self._sum_up()

    def _sum_up(self) -> None:
        """Make the row's other numbers of shift, rest and lead."""
        self.own_e = self.xp.exp(self.lead)
        self.total = self.rest + self.own_e  # Σ exp(z_j − m) ≥ 1

    @property
    def off(self) -> Array:
        """Tell which classes are not the anchor."""
        return self.backend.places(self.z) != self.anchor

    @property
    def log_total(self) -> Array:
        """Give log Σ exp(z_j − m)."""
        if self.backend.differentiable and self.at_largest:
            return self.anchor_term(0.0, 1.0)
        return self.xp.log1p(self.rest + expm1(self.xp, self.lead))

    @property
    def lse(self) -> Array:
        """Give log Σ exp(z_j)."""
        return self.shift + self.log_total

    @property
    def at(self) -> Array:
        """Give the anchor's probability."""
        if self.backend.differentiable and self.at_largest:
            # The lead is 0, but has a derivative; those of the quotient would cancel.
            return 1 / (1 + self.rest * self.xp.exp(-self.lead))
        return self.own_e / self.total

    @property
    def away(self) -> Array:
        """Give the probability of all other classes, 1 − p_k, to full relative accuracy."""
        return self.rest / self.total

    @property
    def nll(self) -> Array:
        """Give −log p of the anchor."""
        return self.anchor_term(1.0, 0.0)

    @property
    def probability(self) -> Array:
        """Give p of every class."""
        return self.backend.put_(self.e / self.total, self.anchor, self.at)

    @property
    def surprisal(self) -> Array:
        """Give −log p of every class."""
        surprisal = (self.level - self.z) + self.log_total
        return self.backend.put_(surprisal, self.anchor, self.nll)

    def off_sum(self, x: Array) -> Array:
        """Sum over the classes other than the anchor."""
        return self.backend.row_sum(self.xp.where(self.off, x, 0.0))

    def cross(self, q: Array, on: Array, off: Array) -> Array:
        """Give Σ q_j (−log p_j); `on` and `off` are the masses of q at the anchor and elsewhere."""
        return self.off_sum(product(self.xp, q, self.level - self.z)) + self.anchor_term(on, off)

    def anchor_term(self, on: Array | float, off: Array | float) -> Array:
        """Give on·(−log p_k) + off·log Σ exp(z_j − m), the anchor's part of `cross`."""
        return self.backend.with_slopes(AnchorTerm(self.xp), self.lead, self.rest, on, off)

    def anchor_term_slope(self, on: Array | float, off: Array | float) -> Array:
        """Give the derivative of a cross-entropy with these masses by the anchor's logit."""
        return anchor_slope(self.xp, self.rest < self.own_e, self.at, self.away, on, off)
