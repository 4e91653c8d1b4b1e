"""A row of logits, seen from one of its classes: the sums that nothing cancels in.

For a row z, its largest entry m and a *reference* class k:

    gap       = z_k − m                       (≤ 0)
    other_sum = Σ_{j≠k} exp(z_j − m)          (without the reference's own term)

Then log Σ exp(z) = m + log1p(other_sum + expm1(gap)) and −log p_k = log1p(other_sum / exp(gap)): a
sum of positive terms, however small, with no 1 in it to drown them. The reference is the label
where there is one, else the largest class. `Backend.exp_sums` sums.

With `q_reference` and `q_others`, the masses of the targets at the reference and elsewhere, the
reference's part of a cross-entropy is

    q_reference·log1p(other_sum / exp(gap)) + q_others·log1p(other_sum + expm1(gap))
"""

from typing import Any, NamedTuple

from xp_xent.kernels.elementary import expm1, product

Array = Any
Mass = Any  # (..., 1) or a number


class RowStats:
    """Statistics of rows z (..., K), each around a reference class (..., 1).

    `exps`, `z`, `is_other` (which classes are not the reference), `probabilities` and `surprisals`
    have the shape (..., K); everything else has (..., 1).
    """

    def __init__(self, backend: Any, sums: Any, *, at_row_max: bool = False) -> None:
        self.xp, self.backend, self.sums, self.at_row_max = backend.xp, backend, sums, at_row_max
        self.z, self.reference, self.other_sum = sums.z, sums.reference, sums.other_sum
        self.gap, self.exps, self.place = sums.gap, sums.exps, sums.place
        self.reference_exp, self.total = sums.reference_exp, sums.total
        if self.total is None:
            self.reference_exp = self.xp.exp(self.gap)
            self.total = self.other_sum + self.reference_exp  # Σ exp(z_j − m) ≥ 1

    @property
    def is_other(self) -> Array:
        """Which classes are not the reference."""
        return self.backend.indices(self.z) != self.reference

    @property
    def log_total(self) -> Array:
        """The logarithm of Σ exp(z_j − m)."""
        if self.backend.differentiable and self.at_row_max:
            return self.reference_term(0.0, 1.0)
        return self.xp.log1p(self.other_sum + expm1(self.xp, self.gap))

    @property
    def lse(self) -> Array:
        """The logarithm of Σ exp(z_j)."""
        return self.sums.row_max + self.log_total

    @property
    def p_reference(self) -> Array:
        """The reference's probability."""
        if self.backend.differentiable and self.at_row_max:
            # The gap is 0, but has a derivative; those of the quotient would cancel.
            return 1 / (1 + self.other_sum * self.xp.exp(-self.gap))
        return self.reference_exp / self.total

    @property
    def one_minus_p(self) -> Array:
        """The probability of all other classes, 1 − p_k, to full relative accuracy."""
        return self.other_sum / self.total

    @property
    def nll(self) -> Array:
        """The negative log-likelihood of the reference, −log p_k."""
        return self.reference_term(1.0, 0.0)

    @property
    def probabilities(self) -> Array:
        """The probability of every class."""
        p = self.exps / self.total
        return self.backend.set_at_label(p, self.reference, self.p_reference)

    @property
    def surprisals(self) -> Array:
        """The surprisal of every class, −log p."""
        surprisals = (self.sums.level - self.z) + self.log_total
        return self.backend.set_at_label(surprisals, self.reference, self.nll)

    def other_classes_sum(self, x: Array) -> Array:
        """Sum over the classes other than the reference."""
        return self.backend.row_sum(self.xp.where(self.is_other, x, 0.0))

    def cross_entropy(self, q: Array, q_reference: Array, q_others: Array) -> Array:
        """Compute Σ q_j (−log p_j); the last two are the masses of q there and elsewhere."""
        others = self.other_classes_sum(product(self.xp, q, self.sums.level - self.z))
        return others + self.reference_term(q_reference, q_others)

    def reference_term(self, q_reference: Any, q_others: Any) -> Array:
        """Compute q_k·(−log p_k) + q_others·log Σ exp(z_j − m), a part of `cross_entropy`."""
        term = ReferenceTerm(self.xp)
        return self.backend.custom_derivative(
            term.value, term.differentiable_form, self.gap, self.other_sum, q_reference, q_others,
            partials=term.partials,
        )  # fmt: skip

    def reference_partial(self, q_reference: Any, q_others: Any) -> Array:
        """Compute the derivative of a cross-entropy with these masses by the reference's logit."""
        sure = self.other_sum < self.reference_exp
        return reference_partial(
            self.xp, sure, self.p_reference, self.one_minus_p, q_reference, q_others
        )


class StatsWithoutMax(RowStats):
    """The statistics where no maximum was subtracted, and every exponential keeps its digits."""

    _nll: Array = None  # asked for twice where statistics come with a loss

    @property
    def nll(self) -> Array:
        """The negative log-likelihood of the reference, −log p_k."""
        if self._nll is None:
            self._nll = self.xp.log1p(self.other_sum / self.reference_exp)
        return self._nll

    @property
    def lse(self) -> Array:
        """The logarithm of Σ exp(z_j)."""
        return self.xp.log(self.total)


def row_stats(backend: Any, z: Array, reference: Array | None, dtype: Any, **how: Any) -> RowStats:
    """Sum up rows z (..., K) around the reference, None for the largest class."""
    sums = backend.exp_sums(z, reference, dtype, **how)
    if sums.row_max is None:
        return StatsWithoutMax(backend, sums)
    return RowStats(backend, sums, at_row_max=reference is None)


class ReferenceTerm(NamedTuple):
    """The function for a backend to evaluate; everything has the shape (..., 1)."""

    xp: Any

    def value(self, gap: Array, other_sum: Array, q_reference: Mass, q_others: Mass) -> Array:
        """Compute it, where a library differentiates it by `partials` or not at all.

        The gap comes in by a factor alone, so that confident rows keep their digits even where a
        compiler computes a logit twice, and rounds it differently.
        """
        value = product(self.xp, q_reference, reference_nll(self.xp, gap, other_sum))
        if isinstance(q_others, float) and q_others == 0:
            return value
        return value + q_others * self.xp.log1p(other_sum + expm1(self.xp, gap))

    def partials(
        self, gap: Array, other_sum: Array, q_reference: Mass, q_others: Mass
    ) -> tuple[Array, ...]:
        """Compute its derivatives by all four; their own do not cancel either."""
        xp, reference_exp, mass = self.xp, self.xp.exp(gap), q_reference + q_others
        total, sure = other_sum + reference_exp, other_sum < reference_exp
        p, one_minus_p = reference_exp / total, other_sum / total
        by_gap = reference_partial(xp, sure, p, one_minus_p, q_reference, q_others)
        by_masses = (
            self.differentiable_form(gap, other_sum, *masses) for masses in ((1.0, 0.0), (0.0, 1.0))
        )
        return by_gap, mass / total, *by_masses

    def differentiable_form(
        self, gap: Array, other_sum: Array, q_reference: Mass, q_others: Mass
    ) -> Array:
        """Compute it in operations that may be differentiated one by one, to any order.

        The quotient's derivatives would overflow or cancel where the gap is wide. So it is taken
        only where the reference holds more than half of the probability; there the gap is 0.
        """
        xp, sure, mass = self.xp, other_sum < 1, q_reference + q_others
        none = xp.where(sure, gap, 0.0)  # its value is 0, its derivative is not
        wide = xp.where(sure, 0.0, gap)
        return xp.where(
            sure,
            q_others * none + mass * xp.log1p(other_sum * xp.exp(-none)),
            mass * xp.log1p(other_sum + expm1(xp, wide)) - product(xp, q_reference, wide),
        )


def reference_nll(xp: Any, gap: Array, other_sum: Array) -> Array:
    """Compute −log p of the reference: log1p(other_sum / exp(gap))."""
    # Below −60 the reference's own exponential no longer matters beside the others', which are at
    # least 1: not in float64 either. The quotient by exp(−60) still fits into float32. (Numbers in
    # place, for Dynamo would make a module's float an input of what it compiles.)
    far = gap < -60.0
    reference_exp = xp.where(far, 8.75651076269652e-27, xp.exp(gap))
    return xp.log1p(other_sum / reference_exp) + xp.where(far, -60.0 - gap, 0.0)


def reference_partial(
    xp: Any, sure: Array, p: Array, one_minus_p: Array, q_reference: Mass, q_others: Mass
) -> Array:
    """Compute the derivative by the reference's logit, of probability `p`.

    `sure` tells where it holds more than half of the probability.
    """
    mass = q_reference + q_others
    return xp.where(sure, q_others - mass * one_minus_p, mass * p - q_reference)
