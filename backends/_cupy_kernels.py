"""CuPy's fused kernels: the walks over elements of a loss and its gradient, one launch each.

Shared memory, grids and the width of indices are CuPy's own choice. Arithmetic is in R, the loss's
dtype; a half-precision element is widened when it is loaded, and a gradient rounded when it is
stored.
"""

from typing import Any

# A row is summed up as its largest element and Σ exp(z − it) over all the others, which merges
# like a running log-sum-exp: where two parts meet, the lower maximum becomes one of the others.
# Nothing is ever subtracted, so that the sum keeps its relative accuracy beside the 1 left out.
PAIR = """
template <typename R> struct xp_xent_pair {
    R top, others;
    __device__ xp_xent_pair() : top(log(R(0))), others(0) {}
    __device__ xp_xent_pair(R top, R others) : top(top), others(others) {}
};

template <typename R> __device__ xp_xent_pair<R> xp_xent_above(
    const xp_xent_pair<R>& high, const xp_xent_pair<R>& low
) {
    // Not exp(inf - inf) where both are infinite.
    const R scale = low.top == high.top ? R(1) : exp(low.top - high.top);
    return xp_xent_pair<R>(high.top, high.others + (1 + low.others) * scale);
}

template <typename R> __device__ xp_xent_pair<R> xp_xent_merge(
    const xp_xent_pair<R>& a, const xp_xent_pair<R>& b
) {
    if (b.top <= a.top) return xp_xent_above(a, b);
    if (a.top < b.top) return xp_xent_above(b, a);
    return xp_xent_pair<R>(a.top + b.top, 0);  // NaN, which stays
}
"""


class Kernels:
    """The kernels, compiled for a set of dtypes when they are first called."""

    def __init__(self, xp: Any) -> None:
        # One input alone: a second one that lies along the rows would make neighbouring threads
        # read from different rows. So the largest element is what is left out, not the label.
        self.maximum_and_others = xp.ReductionKernel(
            "T z", "R row_max, R others",
            map_expr="xp_xent_pair<R>(static_cast<R>(z), R(0))",
            reduce_expr="xp_xent_merge(a, b)",
            # An infinite or undefined maximum leaves nothing of the row.
            post_map_expr="row_max = a.top, others = a.others + (a.top - a.top)",
            identity="xp_xent_pair<R>()",
            reduce_type="xp_xent_pair<R>",
            name="xp_xent_maximum_and_others", preamble=PAIR,
        )  # fmt: skip
        # The sum without the label instead. Where the label is not the maximum, that has its 1 in
        # it, beside which the label's own term is taken out without harm.
        self.label_and_other_sum = xp.ElementwiseKernel(
            "raw T z, L label, R row_max, R others, int64 classes, int64 inner",
            "R own, R other_sum",
            """
            own = static_cast<R>(z[(i / inner * classes + label) * inner + i % inner]);
            const R less = others - exp(own - row_max);
            other_sum = own == row_max ? others : 1 + (less < 0 ? R(0) : less);
            """,
            name="xp_xent_label_and_other_sum",
        )  # fmt: skip
        self.gradients = {
            (last, wide): _gradient(xp, last, wide)
            for last in (True, False)
            for wide in (False, True)
        }
        self.exp_shifted = xp.ElementwiseKernel(
            "T z, R shift", "R e", "e = exp(static_cast<R>(z) - shift)", name="xp_xent_exp_shifted"
        )
        self.set_at_label = xp.ElementwiseKernel(
            "L index, T value, int64 classes, int64 inner", "raw T x",
            "x[(i / inner * classes + index) * inner + i % inner] = value",
            name="xp_xent_set_at_label",
        )  # fmt: skip
        self.zero_masked = xp.ElementwiseKernel(
            "bool valid", "T x", "if (!valid) x = T(0)", name="xp_xent_zero_masked"
        )


def _gradient(xp: Any, last: bool, wide: bool) -> Any:
    """Make the kernel that writes a gradient; a label of -1 stands for a row of zeros.

    What belongs to a row is found by one division where the classes come last, by two elsewhere;
    in 32 bits if they suffice, for in 64 that takes longer than the memory does.
    """
    name, index = ("int64", "long long") if wide else ("uint32", "unsigned int")
    place = """
        const Index row = n / classes, place = n - row * classes;
    """ if last else """
        const Index above = n / inner, outer = above / classes, place = above - outer * classes;
        const Index row = outer * inner + (n - above * inner);
    """  # fmt: skip
    return xp.ElementwiseKernel(
        "T z, raw R row_max, raw R factor, raw int64 label, raw R entry, "
        f"{name} classes, {name} inner",
        "G gradient",
        f"""
        typedef {index} Index;
        const Index n = static_cast<Index>(i);
        {place}
        const long long at = label[row];
        R slope = R(0);
        if (at == static_cast<long long>(place)) slope = entry[row];
        else if (at >= 0) slope = exp(static_cast<R>(z) - row_max[row]) * factor[row];
        gradient = static_cast<G>(slope);
        """,
        name=f"xp_xent_gradient_{'last' if last else 'inner'}_{name}",
    )
