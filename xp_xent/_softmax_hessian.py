"""The Hessian of a row's loss by its logits: its diagonal, and the magnitudes beside it.

By the capped logits, with d = p − δ_y and the names of `_softmax_rows`,

    H = c·(diag p − p pᵀ) + 2λ·p pᵀ + b·d dᵀ        c = G + 2λ·lse        b = a·f''(ℓ_y)

Beside the diagonal the entries of a row have one sign, that of the label's column apart, so that
the sum of their magnitudes takes no more than a number a class. Where b is 0, with slopes s of a
soft cap, it is

    |2λ − c|·s_j p_j Σ_{k≠j} s_k p_k

and otherwise, where there is neither λ nor a cap,

    |b − c|·p_j Σ_{k≠j,y} p_k + p_j·|c·p_y + b·(1 − p_y)|        j ≠ y
    (1 − p_y)·|c·p_y + b·(1 − p_y)|                              j = y

Sums over k ≠ j are not what is left of 1, but of positive terms, where p_j holds most of it.
"""

from typing import Any, NamedTuple

from xp_xent._anchored import Anchored

Array = Any


class Hessian(NamedTuple):
    """The Hessian of rows, of which no more than a number a class is ever made."""

    row: Anchored
    mass: Any  # c, (..., 1) or a number
    push: float  # 2λ
    bend: Any  # b·scale, (..., 1), for rows anchored at their labels; None where b is 0
    scale: Any  # (..., 1) or a number, of the order of 1 − p_y, or 1
    slope: Array | None  # of the soft cap, (..., K)

    def diagonal(self) -> Array:
        """Give H_jj, less what the bend of a soft cap adds."""
        row, backend = self.row, self.row.backend
        result = backend.multiply_(self._variance(), self.mass)
        if self.push != 0:
            p = row.probability
            result = result + self.push * p * p
        if self.bend is not None:
            distance = backend.put_(row.probability, row.anchor, -row.away)
            result = result + self.bend * (distance / self.scale) * distance
        return result if self.slope is None else result * self.slope * self.slope

    def beside(self) -> Array:
        """Give Σ_{k≠j} |H_jk|."""
        if self.bend is not None:
            return self._bent_beside()
        row, backend = self.row, self.row.backend
        if self.slope is None:
            found = self._variance()
        else:
            own = row.at * backend.pick(self.slope, row.anchor)
            p = row.e * self.slope / row.total
            rest = backend.row_sum(p)
            found = backend.multiply_(backend.others_(+p, own, rest + own), p)
            found = backend.put_(found, row.anchor, own * rest)
        return backend.multiply_(found, abs(self.push - self.mass))

    def _variance(self) -> Array:
        """Give p(1 − p)."""
        row, backend = self.row, self.row.backend
        p = row.e / row.total  # 0 at the anchor
        found = backend.multiply_(backend.others_(+p, row.at), p)
        return backend.put_(found, row.anchor, row.at * row.away)

    def _bent_beside(self) -> Array:
        row, backend = self.row, self.row.backend
        bend = self.bend * (row.away / self.scale)
        by_label = abs(self.mass * row.at + bend)
        # Parts of 1 − p_y relative to it, for their squares might underflow.
        share = row.e / row.xp.where(row.rest == 0, 1.0, row.rest)
        factor = abs(bend - self.mass * row.away) * row.away
        others = factor * share * backend.others_(+share, 0.0)
        return others + by_label * backend.put_(row.probability, row.anchor, row.away)


def plain_gradient_and_curvature(
    row: Anchored, mass: Array | float, factor: Array | float, *, bound: bool
) -> tuple[Array, Array]:
    """Give mass·factor·(p − δ), and that of p(1 − p) or, as a `bound`, the magnitude of its double.

    It uses up the exponentials of the row, and makes both of one product with them. The factors
    are not so small that their quotient overflows.
    """
    xp, backend, at, whole = row.xp, row.backend, row.at, mass * factor
    times = 2.0 if bound else 1.0
    # By the total first: the weights' own product might be out of range.
    share = mass * (factor / row.total)
    flow = backend.multiply_(row.e, share)
    known = isinstance(whole, float)
    by = (whole or 1.0) if known else xp.where(whole == 0, 1.0, whole)
    others = backend.others_(flow / (by / times), 2 * at if bound else at, times)
    # At the label, where these are all, its own entry takes the gradient's place for a moment.
    flow = backend.put_(flow, row.place, (at * whole) * row.away)
    curvature = backend.multiply_(others, flow)
    if bound and not (known and whole > 0):
        curvature = abs(curvature)
    return backend.put_(flow, row.place, -row.rest * share), curvature
