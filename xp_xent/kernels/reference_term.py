"""The reference's part of a cross-entropy: a function of numbers of a row, and its derivatives.

With `q_reference` and `q_others`, the masses of the targets at a row's reference and elsewhere, and
the `gap` and `other_sum` of `RowStats`, it is

    q_reference·log1p(other_sum / exp(gap)) + q_others·log1p(other_sum + expm1(gap))

two sums of positive terms: −log p of the reference, and the logarithm of Σ exp(z_j − m).
"""

from typing import Any, NamedTuple

from xp_xent.kernels.elementary import expm1, product

Array = Any
Mass = Any  # (..., 1) or a number


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
