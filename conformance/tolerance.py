"""Every tolerance of conformance, in units in the last place, derived and not flat.

A row of K logits has for each class c its log-odds against the others, t_c = log(p_c/(1 − p_c)).
Rounding the logits' differences once, which no implementation can avoid, changes p_c by up to
|t_c| eps relative to itself where p_c is small (t_c < 0), and 1 − p_c where that is (t_c > 0);
sums add log2 K roundings, and a handful of operations a handful more. So where it is small either
is good to 8 + 2|t_c| + log2 K, in units of eps and relative to itself, and elsewhere to 8 + log2 K.

A loss is a sum of positive terms, the mass a_c on each class times −log p_c, and a term is as
good as 1 − p_c: for an unlikely class −log p_c is about −t_c, a plain difference. The gradient
A p_j − a_j, with A = Σ a_c, is (A − a_j) p_j − a_j (1 − p_j), two terms whose factors all have a
relative accuracy of their own: so the sum of their errors is allowed. Nothing smaller than the
smallest normal number has eps; there the absolute error of that number counts.

A half-precision result is computed in float32 and rounded once: one ULP of its own is added.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xp_xent.conformance._formats import COMPUTE, FORMATS, ulp, ulp_error

Floats = NDArray[np.float64]


# Two correct programs in the same dtype: closed form and automatic differentiation, in ULP.
# 4504 ULP of float64 are 1e-12, relative.
AUTODIFF: Final = {"float32": 64.0, "float64": 4504.0}
# A smoothed loss of logits of a few units, whatever the number of classes: less than is derived
# below, which leaves room for masses that are all rounded in one direction.
SMOOTHED: Final = 8.0


def accepts(
    got: ArrayLike, expected: ArrayLike, ulps: ArrayLike, dtype: str, *, flushes: bool = False
) -> NDArray[np.bool_]:
    """Tell for each number if it is within its tolerance.

    Parameters
    ----------
    got, expected : array_like of float
        Numbers that are exact in float64.
    ulps : array_like of float
        The tolerance of each, in ULP of `expected`.
    dtype : str
        The dtype of the result.
    flushes : bool, optional
        The library treats subnormal numbers as 0 (XLA on a CPU does), so that up to the smallest
        normal number of the dtype it computes in may be missing.

    Returns
    -------
    ndarray of bool
    """
    slack = FORMATS[COMPUTE[dtype]].smallest_normal if flushes else 0.0
    ulps = np.asarray(ulps, dtype=np.float64)
    finite = np.where(np.isfinite(expected), expected, 0.0)
    return np.asarray(ulp_error(got, expected, dtype) <= ulps + slack / ulp(finite, dtype))


def row_tolerance(dtype: str, num_classes: int, log_odds: ArrayLike) -> Floats:
    """Give the relative error that a row may have: (8 + 2|t| + log2 K) eps.

    Parameters
    ----------
    dtype : str
        The dtype whose eps counts.
    num_classes : int
        K, at least 1.
    log_odds : array_like of float
        t, of a class against the others.

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> from xp_xent.conformance.tolerance import row_tolerance
    >>> float(row_tolerance("float32", 2, 10.0) / 2**-23)
    29.0
    """
    # Past these odds p or 1 - p is 0 in any arithmetic of that dtype.
    form = FORMATS[dtype]
    farthest = (form.precision - form.min_exponent) * math.log(2.0)
    odds = np.minimum(np.abs(np.asarray(log_odds, dtype=np.float64)), farthest)
    return (8.0 + 2.0 * odds + math.log2(num_classes)) * form.eps


def _without_own(fold: np.ufunc, empty: float, rows: Floats) -> Floats:
    """Fold each row without the entry itself: nothing is subtracted, so nothing cancels."""
    ends = np.full((*rows.shape[:-1], 1), empty)
    before = fold.accumulate(np.concatenate([ends, rows], axis=-1), axis=-1)[..., :-1]
    turned = np.concatenate([ends, rows[..., ::-1]], axis=-1)
    return np.asarray(fold(before, fold.accumulate(turned, axis=-1)[..., :-1][..., ::-1]))


def log_odds(logits: ArrayLike) -> Floats:
    """Give log(p/(1 − p)) of every class of every row (..., K)."""
    z = np.asarray(logits, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return z - _without_own(np.logaddexp, -np.inf, z)


class Bounds(NamedTuple):
    """Absolute errors that rows may have."""

    loss: Floats  # (...,)
    gradient: Floats  # (..., K)


def _bound(scale: Floats, log_odds: Floats, relative: Floats, floor: Any, dtype: str) -> Floats:
    """Allow `relative` of the scale, but exactly 0 where p is 0 or 1 by a class's absence."""
    least = floor * FORMATS[dtype].smallest_normal
    return np.where(np.isfinite(log_odds), relative * np.maximum(scale, least), 0.0)


# Infinities meet zeros here, and are sorted out by what stands beside them.
_quiet = np.errstate(all="ignore")


@_quiet
def cross_entropy_bounds(
    logits: ArrayLike,
    masses: ArrayLike,
    dtype: str,
    *,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
) -> Bounds:
    """Bound the errors of rows of cross_entropy, before any reduction.

    Parameters
    ----------
    logits : array_like of float, shape (..., K)
        No +inf; NaN is a class that takes no part.
    masses : array_like of float, shape (..., K)
        What multiplies −log p of each class: target, smoothing and class weight together.
    dtype : str
        float32 or float64, the dtype that is computed in.
    z_loss, softcap, temperature : float, optional
        As in `xp_xent.cross_entropy`.

    Returns
    -------
    Bounds
    """
    z, a, eps = np.asarray(logits, np.float64), np.asarray(masses, np.float64), FORMATS[dtype].eps
    part, slope, spread = ~np.isnan(z), np.ones_like(z), np.zeros(())
    z = np.where(part, z, 0.0)
    blur = np.zeros((*z.shape[:-1], 1))  # relative error of p by that of the capped logits
    if softcap is not None:
        # tanh is good to 4 ULP of itself, so differences of capped logits are no longer exact;
        # its derivative is 1/cosh², with a conditioning of twice the argument.
        x = np.clip(z / softcap, -1000.0, 1000.0)  # 1/cosh² is 0 there
        z, slope, spread = softcap * np.tanh(x), np.cosh(x) ** -2.0, (8.0 + 4.0 * np.abs(x)) * eps
        blur = 8.0 * eps * np.max(np.abs(z), axis=-1, keepdims=True)
    # Both roundings of (z − m)/T are within those that `row_tolerance` allows for the odds.
    z, slope, blur = (x / temperature for x in (np.where(part, z, -np.inf), slope, blur))
    t, K = log_odds(z), z.shape[-1]
    p, miss = np.exp(-np.logaddexp(0.0, -t)), np.exp(-np.logaddexp(0.0, t))
    total = np.sum(a, axis=-1, keepdims=True)
    floor, tiny = np.maximum(total, 1.0), FORMATS[dtype].smallest_normal

    terms = np.where(a > 0, a * np.logaddexp(0.0, -t), 0.0)
    likely, rare = (row_tolerance(dtype, K, np.maximum(odds, 0.0)) + blur for odds in (t, -t))
    gradient = _bound(_without_own(np.add, 0.0, a) * p, t, rare + spread, floor, dtype)
    gradient = slope * (gradient + _bound(a * miss, t, likely + spread, a, dtype))
    # The slope alone may be smaller than the smallest normal number.
    curved = (slope > 0) & (slope * temperature < 1)
    gradient = gradient + np.where(curved, floor * spread * tiny, 0.0)

    lse = np.logaddexp.reduce(z, axis=-1, keepdims=True)
    lse_error = np.maximum(np.abs(lse), 1.0) * row_tolerance(dtype, K, 0.0) + blur
    penalty = 2.0 * z_loss * np.abs(lse) * lse_error
    pull = 2.0 * z_loss * p * (lse_error + np.abs(lse) * (rare + spread))
    loss = np.sum(_bound(terms, t, likely, a, dtype), axis=-1)
    return Bounds(loss + penalty[..., 0], gradient + slope * pull)


@_quiet
def binary_bounds(
    logits: ArrayLike, targets: ArrayLike, dtype: str, *, weight: Any = 1.0, pos_weight: Any = 1.0
) -> Bounds:
    """Bound the errors of elements of binary_cross_entropy_with_logits: a row of two classes.

    Parameters
    ----------
    logits, targets : array_like of float, shape (...)
        No NaN; the targets after smoothing.
    dtype : str
        float32 or float64, the dtype that is computed in.
    weight, pos_weight : array_like of float, optional
        They broadcast against the logits.

    Returns
    -------
    Bounds
        Both of the logits' shape.
    """
    t, y = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    masses = (weight * pos_weight * y, weight * (1.0 - y))
    loss, gradient = np.zeros(t.shape), np.zeros(t.shape)
    for a, odds in zip(masses, (t, -t), strict=True):
        near = row_tolerance(dtype, 2, np.maximum(odds, 0.0))
        softplus, sigmoid = np.logaddexp(0.0, -odds), np.exp(-np.logaddexp(0.0, odds))
        loss = loss + _bound(np.where(a > 0, a * softplus, 0.0), t, near, a, dtype)
        gradient = gradient + _bound(a * sigmoid, t, near, a, dtype)
    return Bounds(loss, gradient)


@_quiet
def focal_bounds(
    logits: ArrayLike, label: int, dtype: str, *, alpha: float, gamma: float
) -> Bounds:
    """Bound the errors of a row of softmax_focal_loss, alpha (1 − p)**gamma times −log p.

    All factors, and both terms of the slope by −log p, are positive, so their relative errors
    add up: gamma times that of 1 − p, and that of −log p, of p_j or of 1 − p.
    """
    z = np.asarray(logits, np.float64)
    t, K = log_odds(z), z.shape[-1]
    p, miss, loss = (f[label] for f in (np.exp(-np.logaddexp(0.0, -t)),
                     np.exp(-np.logaddexp(0.0, t)), np.logaddexp(0.0, -t)))  # fmt: skip
    likely = float(row_tolerance(dtype, K, max(t[label], 0.0)))
    own = (gamma + 1.0) * likely + weighting(dtype)
    slope = alpha * (miss**gamma + gamma * loss * p * miss ** (gamma - 1.0))
    rare = np.where(np.arange(K) == label, likely, row_tolerance(dtype, K, np.minimum(t, 0.0)))
    entry = np.where(np.arange(K) == label, miss, np.exp(-np.logaddexp(0.0, -t)))
    return Bounds(np.asarray(alpha * miss**gamma * loss * own), slope * entry * (own + rare))


@_quiet
def kl_bounds(
    logits: ArrayLike, target_probs: ArrayLike, dtype: str, *, temperature: float = 1.0
) -> Bounds:
    """Bound the errors of a row of kl_divergence: those of cross_entropy and of q log q."""
    q = np.asarray(target_probs, np.float64)
    bounds = cross_entropy_bounds(logits, q, dtype, temperature=temperature)
    plain = np.where(q > 0, np.abs(q * np.log(np.where(q > 0, q, 1.0))), 0.0)
    return Bounds(bounds.loss + np.sum(plain) * row_tolerance(dtype, q.shape[-1], 0.0),
                  bounds.gradient)  # fmt: skip


def shifted_loss_bound(dtype: str, num_classes: int, mass: ArrayLike, value: ArrayLike) -> Floats:
    """Bound the error of rows by log_softmax of shifted logits, as frameworks compute it.

    log p_c = (z_c − m) − log Σ exp(z_j − m) rounds each part once and the sum's 1 with it, so that
    a confident row has the absolute error of a number near 1: (8 + log2 K)(A + loss) eps, with A
    the row's mass. `cross_entropy_bounds` is what a form without that 1 attains.
    """
    units = 8.0 + math.log2(max(num_classes, 1))
    return units * (np.asarray(mass) + np.abs(value)) * FORMATS[dtype].eps


def shifted_gradient_bound(
    dtype: str, num_classes: int, mass: ArrayLike, masses: ArrayLike, p: ArrayLike
) -> Floats:
    """Bound the error of entries A p_j − a_j, with p_j the exponential of the log_softmax above.

    The absolute error of log p_j, 2|log p_j| eps and the sum's, is the relative one of p_j.
    """
    p, units = np.asarray(p, np.float64), 8.0 + math.log2(max(num_classes, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(p > 0, p * (units - 2.0 * np.log(p)), 0.0)
    return (np.asarray(mass) * own + units * np.asarray(masses)) * FORMATS[dtype].eps


def weighting(dtype: str) -> float:
    """Give the relative error that the product with a weight may add."""
    return 2.0 * FORMATS[dtype].eps


def sum_tolerance(dtype: str, count: int) -> float:
    """Give the relative error that a sum of `count` positive rows, and its scaling, may add."""
    return (4.0 + math.log2(max(count, 1))) * FORMATS[dtype].eps


def in_ulps(bound: ArrayLike, expected: ArrayLike, dtype: str) -> Floats:
    """Express absolute errors of the computation in ULP of the result's dtype, rounded up."""
    finite = np.where(np.isfinite(expected), expected, 0.0)
    bound = np.where(np.isfinite(expected), bound, 0.0)
    exact = bound / ulp(finite, dtype) + np.where(bound > 0, COMPUTE[dtype] != dtype, 0.0)
    # Two digits, with a hair's breadth to spare, so that they are the same on every machine.
    digit = 10.0 ** (np.floor(np.log10(np.where(exact > 0, exact, 1.0))) - 1.0)
    return np.where(exact > 0, np.ceil(exact / digit - 1e-6) * digit, 0.0)
