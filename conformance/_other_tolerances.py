"""The errors that the other losses and the maps may have, derived as in `tolerance`.

p, 1 − p and −log p of a class have relative accuracies of their own. The errors of factors add up;
those of a sum's terms do too, each relative to its term, whatever cancels between them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xp_xent.conformance._formats import FORMATS
from xp_xent.conformance.tolerance import (
    Bounds,
    Floats,
    _bound,
    _quiet,
    _without_own,
    log_odds,
    row_tolerance,
    sum_tolerance,
    weighting,
)


class Shares(NamedTuple):
    """What is known of each class of rows (..., K), and how well a computation may know it."""

    odds: Floats
    p: Floats
    miss: Floats  # 1 − p
    surprise: Floats  # −log p
    rare: Floats  # the relative error of p
    likely: Floats  # that of 1 − p and −log p


def shares(odds: Floats, classes: int, dtype: str) -> Shares:
    """Give p, 1 − p and −log p of log-odds."""
    p, miss = np.exp(-np.logaddexp(0.0, -odds)), np.exp(-np.logaddexp(0.0, odds))
    surprise = np.where(odds == np.inf, 0.0, np.logaddexp(0.0, -odds))
    rare, likely = (row_tolerance(dtype, classes, np.maximum(t, 0.0)) for t in (-odds, odds))
    return Shares(odds, p, miss, surprise, rare, likely)


def of_rows(logits: ArrayLike, dtype: str) -> Shares:
    """Give what is known of each class against the others of its row."""
    z = np.asarray(logits, np.float64)
    return shares(log_odds(z), z.shape[-1], dtype)


# Losses


@_quiet
def poly_bounds(
    logits: ArrayLike, label: int, dtype: str, *, epsilon: float, weight: float = 1.0
) -> Bounds:
    """Bound the errors of a row of poly_cross_entropy, w (−log p + epsilon (1 − p))."""
    c = of_rows(logits, dtype)
    own = c.likely[label] + weighting(dtype)
    loss = weight * (c.surprise[label] + abs(epsilon) * c.miss[label]) * own
    at_label = np.arange(len(c.p)) == label
    entry, relative = np.where(at_label, (c.miss, c.likely), (c.p, c.rare))
    slope = weight * (1.0 + abs(epsilon) * c.p[label])
    return Bounds(np.asarray(loss), slope * entry * (relative + c.rare[label] + weighting(dtype)))


@_quiet
def entropy_bounds(logits: ArrayLike, dtype: str) -> Bounds:
    """Bound the errors of a row of entropy: terms p (−log p), and p (−log p − loss)."""
    c = of_rows(logits, dtype)
    relative = c.rare + c.likely + weighting(dtype)
    terms = np.where(c.p > 0, c.p * c.surprise, 0.0)
    loss, error = np.sum(terms), np.sum(terms * relative)
    gradient = terms * relative + c.p * (loss * c.rare + error)
    return Bounds(
        np.asarray(error), np.where(c.p > 0, gradient + FORMATS[dtype].smallest_normal, 0.0)
    )


@_quiet
def jensen_shannon_bounds(
    logits: ArrayLike, target_logits: ArrayLike, dtype: str, *, beta: float
) -> Bounds:
    """Bound the errors of a row of jensen_shannon_divergence.

    What a class adds is p (1 − β) log(p/m) + q β log(q/m), and to the first order these are what
    the relative errors of p and q are multiplied by, for those of m cancel. In the slope,
    p (1 − β) log(p/m), the logarithm has the error of log(q/p) times β q/m: the sum of these
    relative errors, or where log(q/p) is small in the whole row, as much less, but for what
    differences of the logits have been rounded by. Parts count without signs.
    """
    a, b = of_rows(logits, dtype), of_rows(target_logits, dtype)
    by_p, by_q = a.rare + weighting(dtype), b.rare + weighting(dtype)
    relative = np.maximum(a.rare, b.rare) + weighting(dtype)
    m = beta * b.p + (1 - beta) * a.p
    first = np.where(a.p > 0, (1 - beta) * np.abs(np.log(a.p / m)), 0.0)
    second = np.where(b.p > 0, beta * np.abs(np.log(b.p / m)), 0.0)
    tiny = FORMATS[dtype].smallest_normal
    both = (a.p > 0) & (b.p > 0)
    distance = np.abs(np.log(np.where(both, b.p, 1.0)) - np.log(np.where(both, a.p, 1.0)))
    near = np.max(np.where((a.p > 0) == (b.p > 0), np.minimum(distance, 1.0), 1.0))
    relative = np.where(both, relative, np.where(a.p > 0, a.rare, b.rare) + weighting(dtype))
    terms = (1 - beta) * a.p * np.log(np.where(a.p > 0, a.p / m, 1.0))
    terms = np.abs(terms + beta * b.p * np.log(np.where(b.p > 0, b.p / m, 1.0)))
    z, w = (np.where(both, np.asarray(x, np.float64), 0.0) for x in (logits, target_logits))
    rounding = FORMATS[dtype].eps * np.max(np.abs(w - z))
    sizes = a.p * first * (near * by_p + rounding) + b.p * second * (near * by_q + rounding)
    error = np.sum(terms * relative + sizes) + tiny
    log_ratio = near * (by_p + by_q) + 2 * rounding
    log_ratio = np.where(both, log_ratio * (1 - beta) * beta * b.p / m, 0.0)
    slope = first * relative + log_ratio
    gradient = a.p * (slope + np.sum(a.p * slope))
    return Bounds(np.asarray(error), np.where(a.p > 0, gradient + tiny, 0.0))


@_quiet
def sigmoid_focal_bounds(
    logit: ArrayLike, target: float, dtype: str, *, alpha: float, gamma: float,
    pos_weight: float = 1.0, extra: float = 0.0,
) -> Bounds:  # fmt: skip
    """Bound the errors of an element of sigmoid_focal_loss, alpha u**gamma bce.

    `extra` is the relative error of what a target is smoothed or weighed by.

    u, the probability that the target does not have, and bce are sums of two terms of the same
    sign, so each is as good as its terms; a power multiplies the relative error. All terms of the
    slope are positive but for the target's sign.
    """
    c, y = shares(np.asarray(logit, np.float64), 2, dtype), target
    hit, missed = y * c.miss, (1 - y) * c.p  # of u; their derivatives, and those of bce
    on, off = pos_weight * y * c.surprise, (1 - y) * np.logaddexp(0.0, c.odds)
    u, bce = hit + missed, on + off
    of_u, of_bce = (
        np.where(a + b > 0, (a * c.likely + b * c.rare) / (a + b), 0.0)
        for a, b in ((hit, missed), (on, off))
    )
    focus, more = u**gamma, gamma * of_u + weighting(dtype) + extra
    bent = (gamma * u ** (gamma - 1.0) if gamma else 0.0) * bce * c.p * c.miss
    bend = bent * (more + of_u + of_bce + c.rare + c.likely)
    slope = u if pos_weight == 1 else pos_weight * hit + missed
    of_slope = of_u if pos_weight == 1 else np.maximum(c.likely, c.rare)
    gradient = bend + focus * slope * (more + of_slope)
    tiny = FORMATS[dtype].smallest_normal
    return Bounds(alpha * focus * bce * (more + of_bce) + tiny, alpha * gradient + tiny)


# Maps


class MapBounds(NamedTuple):
    """Absolute errors of a map's value, and of a cotangent pulled back through it."""

    value: Floats
    gradient: Floats


@_quiet
def softmax_bounds(x: ArrayLike, cotangent: ArrayLike, dtype: str) -> MapBounds:
    """Bound the errors of p, and of Σ_i c_i p_i (δ_ij − p_j): c_j p_j (1 − p_j) and the others."""
    c, g = of_rows(x, dtype), np.abs(np.asarray(cotangent, np.float64))
    own, others = g * c.p * c.miss, _without_own(np.add, 0.0, g * c.p)
    from_others = _without_own(np.add, 0.0, g * c.p * c.rare)
    more = sum_tolerance(dtype, len(c.p))
    gradient = own * (c.rare + c.likely + more) + c.p * (others * (c.rare + more) + from_others)
    least = np.sum(g)
    return MapBounds(_bound(c.p, c.odds, c.rare, 1.0, dtype),
                     gradient + _bound(0.0 * g, c.odds, c.rare, least, dtype))  # fmt: skip


@_quiet
def log_softmax_bounds(x: ArrayLike, cotangent: ArrayLike, dtype: str) -> MapBounds:
    """Bound the errors of log p, and of c_j (1 − p_j) and p_j times the other cotangents."""
    c, g = of_rows(x, dtype), np.abs(np.asarray(cotangent, np.float64))
    more = sum_tolerance(dtype, len(c.p))
    gradient = g * c.miss * (c.likely + more)
    gradient = gradient + c.p * _without_own(np.add, 0.0, g) * (c.rare + more)
    return MapBounds(_bound(c.surprise, c.odds, c.likely, 1.0, dtype),
                     gradient + _bound(0.0 * g, c.odds, c.rare, np.sum(g), dtype))  # fmt: skip


@_quiet
def logsumexp_bounds(x: ArrayLike, cotangent: ArrayLike, dtype: str) -> MapBounds:
    """Bound the errors of the log-sum-exp, a maximum and a logarithm, and of c p."""
    c, g = of_rows(x, dtype), np.abs(np.asarray(cotangent, np.float64))
    lse = np.abs(np.logaddexp.reduce(np.asarray(x, np.float64)))
    gradient = g * c.p * (c.rare + weighting(dtype))
    value = np.maximum(lse, 1.0) * row_tolerance(dtype, len(c.p), 0.0)
    return MapBounds(value, gradient + _bound(0.0 * c.p, c.odds, c.rare, g, dtype))


@_quiet
def sigmoid_bounds(x: ArrayLike, cotangent: ArrayLike, dtype: str) -> MapBounds:
    """Bound the errors of p and c p (1 − p)."""
    c, g = shares(np.asarray(x, np.float64), 2, dtype), np.abs(np.asarray(cotangent, np.float64))
    gradient = _bound(g * c.p * c.miss, c.odds, c.rare + c.likely, g, dtype)
    return MapBounds(_bound(c.p, c.odds, c.rare, 1.0, dtype), gradient)


@_quiet
def log_sigmoid_bounds(x: ArrayLike, cotangent: ArrayLike, dtype: str) -> MapBounds:
    """Bound the errors of log p and c (1 − p)."""
    c, g = shares(np.asarray(x, np.float64), 2, dtype), np.abs(np.asarray(cotangent, np.float64))
    gradient = _bound(g * c.miss, c.odds, c.likely + weighting(dtype), g, dtype)
    return MapBounds(_bound(c.surprise, c.odds, c.likely, 1.0, dtype), gradient)
