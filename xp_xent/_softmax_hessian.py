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
"""

from functools import partial
from typing import Any, NamedTuple

from xp_xent._anchored import Anchored

Array = Any

# A p up to here leaves 1 − p its digits, but for two bits.
MOST = 0.75


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
        result = backend.multiply_(variance(row), self.mass)
        if self.push != 0:
            p = row.probability
            result = result + self.push * p * p
        if self.bend is not None:
            distance = backend.put_(row.probability, row.anchor, -row.away)
            result = result + self.bend * (distance / self.scale) * distance
        return result if self.slope is None else result * self.slope * self.slope

    def beside(self) -> Array:
        """Give Σ_{k≠j} |H_jk|."""
        row, backend = self.row, self.row.backend
        if self.bend is not None:
            return self._bent_beside()
        if self.slope is None:
            found = variance(row)
        else:
            own = row.own_e * backend.pick(self.slope, row.anchor)
            found = pairs(backend, row.e * self.slope, own, row.total, row.anchor)
        return backend.multiply_(found, abs(self.push - self.mass))

    def _bent_beside(self) -> Array:
        row, xp, backend = self.row, self.row.xp, self.row.backend
        bend = self.bend * (row.away / self.scale)
        by_label = abs(self.mass * row.at + bend)
        # Of shares of 1 − p_y: squares of its parts might underflow.
        rest = xp.where(row.rest == 0, 1.0, row.rest)
        shares = pairs(backend, row.e, 0.0, rest, row.anchor)
        others = abs(bend - self.mass * row.away) * row.away * shares
        return others + by_label * backend.put_(row.probability, row.anchor, row.away)


def variance(row: Anchored) -> Array:
    """Give p(1 − p) of every class, 1 − p from the other classes' sum where p is near 1."""
    backend, sums = row.backend, (row.e, row.own_e, row.total, row.anchor)
    if not (row.at_largest or backend.looks):
        return pairs(backend, *sums)
    p = row.e / row.total  # 0 at the anchor, which is not looked at
    result = backend.multiply_(1 - p, p)
    if not row.at_largest:
        within = backend.rows_within(p, MOST)
        result = backend.mended_(partial(pairs, backend), result, within, *sums)
    return backend.put_(result, row.anchor, row.at * row.away)


def pairs(backend: Any, e: Array, own: Array | float, total: Array, anchor: Array) -> Array:
    """Give p_j Σ_{k≠j} p_k of every class, p being e / total, and own / total at the anchor.

    There e is 0. What is left of the sum without its largest term is summed again.
    """
    xp, rest = backend.xp, backend.row_sum(e)
    largest = backend.places(e) == xp.argmax(e, axis=backend.axis, keepdims=True)
    others = xp.where(largest, backend.row_sum(xp.where(largest, 0.0, e)), rest - e)
    found = (e / total) * ((others + own) / total)
    return backend.put_(found, anchor, (own / total) * (rest / total))
