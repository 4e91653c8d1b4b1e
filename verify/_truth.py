"""The truth of what is asked for: each row's loss and gradient, to far more digits than a claim has.

Ball arithmetic proves each number's digits; pairs of float64 have some 80 bits by their construction.
Both give the same two arrays, so that everything after them is one program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify import _pairs as pairs
from xp_xent.verify._case import Case, Index
from xp_xent.verify._pairs import Pair, pair
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._targets import Targets

Floats = NDArray[np.float64]
BALLS, PAIRS, DOUBLES = "ball arithmetic", "float64 pairs", "float64"
LARGEST = 10**6  # logits, up to which all of them go through ball arithmetic


class Rows(NamedTuple):
    """Each row's own loss, and its gradient, as numbers of more digits than float64 has."""

    loss: Pair  # (n,)
    gradient: Pair  # (n, K)


def own_rows(case: Case, pipeline: Pipeline, targets: Targets, index: Index, method: str) -> Rows:
    """Compute the own losses of some rows and their slopes, before any weight of the row.

    Parameters
    ----------
    case, pipeline, targets
        What is asked for; the pipeline is one that the library has an option for.
    index : slice or integer array
    method : str
        `BALLS` or `PAIRS`.
    """
    z, masses = case.rows(index), smoothed(case, pipeline, targets, index)
    cap = dict(pipeline.steps).get("softcap")
    plain = pipeline.form == "none"
    compute: Callable[..., Rows] = _balls if method == BALLS else _pairs
    kept = targets.counted(pipeline)[index]
    good = kept & np.all(np.isfinite(z) | (z == -np.inf), axis=-1)
    if cap is None and not plain:
        dead = np.any((z == -np.inf) & (masses.rounded != 0), axis=-1)
        good &= ~dead & np.any(z > -np.inf, axis=-1)
    elif plain:
        good &= np.all(np.isfinite(z), axis=-1)
    # What is NaN or infinite by definition, and what does not count.
    loss, gradient = np.where(kept, np.nan, 0.0), np.where(kept[:, None], np.nan, np.zeros(z.shape))
    if cap is None and not plain:
        loss[kept & dead & np.any(z > -np.inf, axis=-1) & ~np.any(np.isnan(z) | (z == np.inf), axis=-1)] = np.inf  # fmt: skip
    result = Rows(pair(loss), pair(gradient))
    if good.any():
        with np.errstate(all="ignore"):
            found = compute(z[good], masses[good], cap, pipeline.z_loss, plain)
        for whole, part in ((result.loss, found.loss), (result.gradient, found.gradient)):
            whole.high[good], whole.low[good] = part.high, part.low
    return result


def smoothed(case: Case, pipeline: Pipeline, targets: Targets, index: Index) -> Pair:
    """Give what multiplies the cost of each class: smoothed targets times class weights."""
    K, epsilon = case.classes, pipeline.label_smoothing
    if case.labels is None:
        q = pair(case.masses(index))
    else:
        labels = targets.labels(pipeline.offset, pipeline.shift)[index]
        q = pair((labels[:, None] == np.arange(K)).astype(np.float64))
    if epsilon:
        rest = pairs.add_exact(np.ones(()), np.asarray(-epsilon))
        spread, count = pair(np.asarray(epsilon)), K
        if pipeline.smoothing == "others":
            whole = pairs.total(q)
            spread = pairs.multiply(spread, pairs.add(whole[:, None], pairs.minus(q)))
            count = K - 1
        share = pairs.divide(spread, pair(np.asarray(float(count))))
        q = pairs.add(pairs.multiply(rest, q), share)
    if pipeline.weight_power:
        q = pairs.multiply(q, pair(targets.weight))
    return q


def _capped(z: Floats, cap: float) -> tuple[Pair, Pair]:
    """Give c tanh(z / c) and its slope, 4E / (1 + E)², with E = exp(−2|z| / c)."""
    x = pairs.divide(pair(np.where(np.isfinite(z), z, np.sign(z) * 1e3 * cap)), pair(np.full_like(z, cap)))  # fmt: skip
    size = Pair(np.abs(x.high), np.where(x.high < 0, -x.low, x.low))
    e = pairs.exp(Pair(-2.0 * size.high, -2.0 * size.low))
    more = pairs.add(pair(np.ones_like(z)), e)
    less = pairs.add(pair(np.ones_like(z)), pairs.minus(e))
    tanh = pairs.divide(less, more)
    # Near 0 the difference would cancel: x − x³/3 + 2x⁵/15.
    near, square = size.high < 2.0**-12, size.high**2
    cubic = size.high * square * (-1.0 / 3.0 + square * (2.0 / 15.0))
    series = pairs.add(size, pair(cubic))
    tanh = Pair(*(np.where(near, s, t) for s, t in zip(series, tanh, strict=True)))
    signed = Pair(*(np.where(x.high < 0, -part, part) for part in tanh))
    slope = pairs.divide(Pair(4.0 * e.high, 4.0 * e.low), pairs.multiply(more, more))
    return pairs.multiply(pair(np.full_like(z, cap)), signed), slope


def _pairs(z: Floats, a: Pair, cap: float | None, z_loss: float, plain: bool) -> Rows:
    a = Pair(*(np.broadcast_to(part, z.shape) for part in a))
    if plain:
        return Rows(pairs.total(pairs.minus(pairs.multiply(a, pair(z)))), pairs.minus(a))
    given, slope = (pair(z), None) if cap is None else _capped(z, cap)
    absent = given.high == -np.inf
    top = np.argmax(given.high, axis=-1)[:, None]
    m = Pair(*(np.take_along_axis(part, top, -1) for part in given))
    lead = pairs.add(given, pairs.minus(Pair(*(np.broadcast_to(x, z.shape) for x in m))))
    lead = Pair(*(np.where(absent, x, y) for x, y in zip((-800.0, 0.0), lead, strict=True)))
    e = pairs.exp(lead)
    anchor = np.arange(z.shape[-1]) == top
    # Without its own 1 the sum keeps the digits of a confident row.
    others = Pair(*(np.where(anchor | absent, 0.0, part) for part in e))
    rest = pairs.total(others)
    log_sum = pairs.log1p(rest)
    log_sums = Pair(*(np.broadcast_to(x[:, None], z.shape) for x in log_sum))
    cost = pairs.add(pairs.minus(lead), log_sums)
    terms = pairs.multiply(a, cost)
    live = a.high != 0
    loss = pairs.total(Pair(*(np.where(live, part, 0.0) for part in terms)))
    lse = pairs.add(Pair(m.high[:, 0], m.low[:, 0]), log_sum)
    mass = pairs.total(a)
    if z_loss:
        penalty = pairs.multiply(pairs.multiply(lse, lse), pair(np.full(len(z), z_loss)))
        loss = pairs.add(loss, penalty)
    sums = pairs.add(pair(np.ones(len(z))), rest)
    sums = Pair(*(np.broadcast_to(x[:, None], z.shape) for x in sums))
    p = pairs.divide(Pair(*(np.where(absent, 0.0, part) for part in e)), sums)
    # 1 − p, of the anchor by what is beside it; of another class p is 1/2 at most.
    rests = Pair(*(np.broadcast_to(x[:, None], z.shape) for x in rest))
    miss = pairs.add(pair(np.ones_like(z)), pairs.minus(p))
    miss = Pair(*(np.where(anchor, x, y) for x, y in zip(pairs.divide(rests, sums), miss, strict=True)))
    masses = Pair(*(np.broadcast_to(x[:, None], z.shape) for x in mass))
    gradient = pairs.add(pairs.multiply(pairs.add(masses, pairs.minus(a)), p),
                         pairs.minus(pairs.multiply(a, miss)))  # fmt: skip
    if z_loss:
        pull = pairs.multiply(lse, pair(np.full(len(z), 2.0 * z_loss)))
        pull = Pair(*(np.broadcast_to(x[:, None], z.shape) for x in pull))
        gradient = pairs.add(gradient, pairs.multiply(pull, p))
    return Rows(loss, gradient if slope is None else pairs.multiply(gradient, slope))


def _balls(z: Floats, a: Pair, cap: float | None, z_loss: float, plain: bool) -> Rows:
    from flint import arb, ctx

    a = Pair(*(np.broadcast_to(part, z.shape) for part in a))
    losses: list[tuple[float, float]] = []
    slopes: list[list[tuple[float, float]]] = []
    for row, high, low in zip(z.tolist(), a.high.tolist(), a.low.tolist(), strict=True):
        precision = 128
        while True:
            with ctx.workprec(precision):
                mass = [arb(h) + arb(l) if l else arb(h) for h, l in zip(high, low, strict=True)]
                found = _ball(arb, row, mass, cap, z_loss, plain)
                parts = [_parts(arb, x) for x in found]
            if None not in parts or precision > 4096:
                break
            precision *= 2
        whole = [(np.nan, 0.0) if part is None else part for part in parts]
        losses.append(whole[0])
        slopes.append(whole[1:])
    loss, gradient = np.asarray(losses), np.asarray(slopes)
    return Rows(Pair(loss[:, 0], loss[:, 1]), Pair(gradient[..., 0], gradient[..., 1]))


def _ball(arb: Any, row: list[float], mass: list[Any], cap: float | None, z_loss: float, plain: bool) -> list[Any]:  # fmt: skip
    """Enclose a row's loss, then each entry of its gradient, by the textbook's formulas."""
    if plain:
        return [sum((-a * arb(x) for a, x in zip(mass, row, strict=True)), arb(0)), *(-a for a in mass)]  # fmt: skip
    slope = None
    if cap is None:
        given = [None if x == -np.inf else arb(x) for x in row]
    else:
        tanh = [arb(1 if x > 0 else -1) if np.isinf(x) else (arb(x) / cap).tanh() for x in row]
        given, slope = [cap * x for x in tanh], [1 - x * x for x in tanh]
    top = given[max(range(len(row)), key=lambda c: row[c])]
    e = [arb(0) if x is None else (x - top).exp() for x in given]
    whole = sum(e, arb(0))
    lse = top + whole.log()
    loss = sum((a * (lse - x) for a, x in zip(mass, given, strict=True) if a != 0), arb(0))
    pull = sum(mass, arb(0))
    if z_loss:
        loss, pull = loss + arb(z_loss) * lse * lse, pull + 2 * arb(z_loss) * lse
    by_whole = pull / whole
    entries = [by_whole * x - a for x, a in zip(e, mass, strict=True)]
    return [loss, *(entries if slope is None else (x * s for x, s in zip(entries, slope, strict=True)))]  # fmt: skip


def _parts(arb: Any, x: Any) -> tuple[float, float] | None:
    """Give a ball as a pair, or None if it is wider than one."""
    middle = x.mid()
    high = float(middle)
    width = float(x.rad())
    if width > abs(high) * 2.0**-75 and width > 1e-320:
        return None
    return high, float(middle - arb(high))
