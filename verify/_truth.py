"""The truth of what is asked for: each row's loss and gradient, to more digits than a claim has.

Ball arithmetic proves each number's digits; pairs of float64 have some 70 bits by their making.
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
    steps, plain = dict(pipeline.steps), pipeline.form == "none"
    cap, temperature = steps.get("softcap"), steps.get("temperature", 1.0)
    kept = targets.counted(pipeline)[index]
    masked = z == -np.inf
    good = kept & np.all(np.isfinite(z) | (masked & (not plain)), axis=-1)
    # What does not count is 0; what is NaN or infinite by definition is stated.
    loss = np.where(kept, np.nan, 0.0)
    gradient = np.where(kept[:, None], np.full(z.shape, np.nan), 0.0)
    if cap is None and not plain:
        good &= ~np.all(masked, axis=-1)
        dead = np.any(masked & (masses.rounded != 0), axis=-1)
        loss[good & dead] = np.inf
        good &= ~dead
    result = Rows(pair(loss), pair(gradient))
    if good.any():
        compute: Callable[..., Rows] = _balls if method == BALLS else _pairs
        with np.errstate(all="ignore"):
            masses = masses.to(z.shape).at(good)
            found = compute(z[good], masses, cap, temperature, pipeline.z_loss, plain)
        for whole, part in zip(result, found, strict=True):
            whole.high[good], whole.low[good] = part
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
            others = pairs.subtract(pairs.total(q).to(q.high.shape), q)
            spread, count = pairs.multiply(spread, others), K - 1
        share = pairs.divide(spread, pair(np.asarray(float(count))))
        q = pairs.add(pairs.multiply(rest, q), share)
    if pipeline.weight_power:
        q = pairs.multiply(q, pair(targets.weight))
    return q


def _capped(z: Floats, cap: float) -> tuple[Pair, Pair]:
    """Give c tanh(z / c) and its slope, 4E / (1 + E)², with E = exp(−2|z| / c)."""
    caps, ones = pair(np.full_like(z, cap)), pair(np.ones_like(z))
    x = pairs.divide(pair(np.clip(z, -1e3 * cap, 1e3 * cap)), caps)
    size = pairs.choose(x.high < 0, pairs.minus(x), x)
    e = pairs.exp(Pair(-2.0 * size.high, -2.0 * size.low))
    more = pairs.add(ones, e)
    tanh = pairs.divide(pairs.subtract(ones, e), more)
    # Near 0 the difference would cancel: x − x³/3 + 2x⁵/15.
    square = size.high**2
    cubic = size.high * square * (-1.0 / 3.0 + square * (2.0 / 15.0))
    tanh = pairs.choose(size.high < 2.0**-12, pairs.add(size, pair(cubic)), tanh)
    signed = pairs.choose(x.high < 0, pairs.minus(tanh), tanh)
    slope = pairs.divide(Pair(4.0 * e.high, 4.0 * e.low), pairs.multiply(more, more))
    return pairs.multiply(caps, signed), slope


def _pairs(
    z: Floats, a: Pair, cap: float | None, temperature: float, z_loss: float, plain: bool
) -> Rows:
    """Compute rows by sums of positive pairs, none of which has its largest term in it."""
    if plain:
        return Rows(pairs.total(pairs.minus(pairs.multiply(a, pair(z)))), pairs.minus(a))
    shape, none, ones = z.shape, pair(np.zeros_like(z)), pair(np.ones_like(z))
    given, slope = (pair(z), None) if cap is None else _capped(z, cap)
    absent = given.high == -np.inf
    if temperature != 1:
        by = pair(np.full_like(z, temperature))
        given = pairs.choose(absent, given, pairs.divide(given, by))
        slope = pairs.divide(ones if slope is None else slope, by)
    top = np.argmax(given.high, axis=-1)
    m = given.at((np.arange(len(z)), top))
    lead = pairs.choose(absent, pair(np.full_like(z, -800.0)), pairs.subtract(given, m.to(shape)))
    e = pairs.choose(absent, none, pairs.exp(lead))
    anchor = np.arange(shape[-1]) == top[:, None]
    rest = pairs.total(pairs.choose(anchor, none, e))
    log_sum = pairs.log1p(rest)
    terms = pairs.multiply(a, pairs.subtract(log_sum.to(shape), lead))
    loss = pairs.total(pairs.choose(a.high != 0, terms, none))
    sums = pairs.add(ones, rest.to(shape))
    p = pairs.divide(e, sums)
    # 1 − p, of the anchor by what is beside it; of another class p is 1/2 at most.
    miss = pairs.choose(anchor, pairs.divide(rest.to(shape), sums), pairs.subtract(ones, p))
    beside = pairs.subtract(pairs.total(a).to(shape), a)
    gradient = pairs.subtract(pairs.multiply(beside, p), pairs.multiply(a, miss))
    if z_loss:
        lse, factor = pairs.add(m, log_sum), pair(np.full(len(z), z_loss))
        loss = pairs.add(loss, pairs.multiply(pairs.multiply(lse, lse), factor))
        pull = pairs.multiply(lse, pair(np.full(len(z), 2.0 * z_loss)))
        gradient = pairs.add(gradient, pairs.multiply(pull.to(shape), p))
    return Rows(loss, gradient if slope is None else pairs.multiply(gradient, slope))


def _balls(
    z: Floats, a: Pair, cap: float | None, temperature: float, z_loss: float, plain: bool
) -> Rows:
    """Enclose rows, with more bits until each number is pinned."""
    from flint import arb, ctx

    losses: list[tuple[float, float]] = []
    slopes: list[list[tuple[float, float]]] = []
    for row, high, low in zip(z.tolist(), a.high.tolist(), a.low.tolist(), strict=True):
        precision = 128
        while True:
            with ctx.workprec(precision):
                mass = [arb(x) + arb(y) if y else arb(x) for x, y in zip(high, low, strict=True)]
                found = _ball(arb, row, mass, cap, temperature, z_loss, plain)
                parts = [_parts(arb, x) for x in found]
            if None not in parts or precision > 4096:
                break
            precision *= 2
        whole = [(np.nan, 0.0) if part is None else part for part in parts]
        losses.append(whole[0])
        slopes.append(whole[1:])
    loss, gradient = np.asarray(losses), np.asarray(slopes)
    return Rows(Pair(loss[:, 0], loss[:, 1]), Pair(gradient[..., 0], gradient[..., 1]))


def _ball(
    arb: Any,
    row: list[float],
    mass: list[Any],
    cap: float | None,
    temperature: float,
    z_loss: float,
    plain: bool,
) -> list[Any]:
    """Enclose a row's loss, then each entry of its gradient, by the textbook's formulas."""
    if plain:
        loss = sum((-a * arb(x) for a, x in zip(mass, row, strict=True)), arb(0))
        return [loss, *(-a for a in mass)]
    slope = None
    if cap is None:
        given = [None if x == -np.inf else arb(x) for x in row]
    else:
        tanh = [arb(1 if x > 0 else -1) if np.isinf(x) else (arb(x) / cap).tanh() for x in row]
        given, slope = [cap * x for x in tanh], [1 - x * x for x in tanh]
    given = [None if x is None else x / arb(temperature) for x in given]
    top = given[max(range(len(row)), key=lambda c: row[c])]
    e = [arb(0) if x is None else (x - top).exp() for x in given]
    whole = sum(e, arb(0))
    lse = top + whole.log()
    loss = sum((a * (lse - x) for a, x in zip(mass, given, strict=True) if a != 0), arb(0))
    pull = sum(mass, arb(0))
    if z_loss:
        loss, pull = loss + arb(z_loss) * lse * lse, pull + 2 * arb(z_loss) * lse
    by_whole = pull / whole
    entries = [(by_whole * x - a) / temperature for x, a in zip(e, mass, strict=True)]
    if slope is not None:
        entries = [x * s for x, s in zip(entries, slope, strict=True)]
    return [loss, *entries]


def _parts(arb: Any, x: Any) -> tuple[float, float] | None:
    """Give a ball as a pair, or None if it is wider than one."""
    middle = x.mid()
    high = float(middle)
    width = float(x.rad())
    if width > abs(high) * 2.0**-75 and width > 1e-320:
        return None
    return high, float(middle - arb(high))
