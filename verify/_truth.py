"""The truth of what is asked for: each row's loss and gradient, to more digits than a claim has.

Ball arithmetic proves each number's digits; pairs of float64 have some 70 bits by their making.
Both give the same two arrays, so that everything after them is one program.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify import _pairs as pairs
from xp_xent.verify._case import Case, Index
from xp_xent.verify._pairs import Pair, pair
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._targets import Targets

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
BALLS, PAIRS, DOUBLES = "ball arithmetic", "float64 pairs", "float64"
LARGEST = 10**6  # logits, up to which all of them go through ball arithmetic


class Rows(NamedTuple):
    """Each row's own loss, and its gradient, as numbers of more digits than float64 has."""

    loss: Pair  # (n,)
    gradient: Pair  # (n, K)


class Formula(NamedTuple):
    """What a row's loss is of its logits, apart from the masses of the classes."""

    cap: float | None = None
    temperature: float = 1.0
    z_loss: float = 0.0
    plain: bool = False  # −Σ a z, without a softmax


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
    formula = Formula(steps.get("softcap"), steps.get("temperature", 1.0), pipeline.z_loss, plain)
    kept, part = targets.counted(pipeline)[index], case.part(index)
    part = np.ones(z.shape, bool) if part is None else part
    # A soft cap makes numbers of infinities, but not of classes that take no part.
    absent = (z == -np.inf) & ((formula.cap is None and not plain) | ~part)
    good = kept & np.all(np.isfinite(z) | (z == -np.inf) & ~plain | absent, axis=-1)
    good &= plain | ~np.all(absent, axis=-1)
    # What does not count is 0; what is NaN or infinite by definition is stated.
    loss = np.where(kept, np.nan, 0.0)
    gradient = np.where(kept[:, None] & part, np.full(z.shape, np.nan), 0.0)
    dead = good & np.any(absent & (masses.rounded != 0), axis=-1)
    result = Rows(pair(loss), pair(gradient))
    if good.any():
        compute = _balls if method == BALLS else _pairs
        with np.errstate(all="ignore"):
            masses = masses.to(z.shape).at(good)
            found = compute(z[good], absent[good], masses, formula)
        for whole, some in zip(result, found, strict=True):
            whole.high[good], whole.low[good] = some
    result.loss.high[dead], result.loss.low[dead] = np.inf, 0.0
    for numbers in result.gradient:
        numbers[~part & kept[:, None]] = 0.0
    return result


def smoothed(case: Case, pipeline: Pipeline, targets: Targets, index: Index) -> Pair:
    """Give what multiplies the cost of each class: smoothed targets times class weights."""
    K, epsilon, part = case.classes, pipeline.label_smoothing, case.part(index)
    if case.labels is None:
        q = pair(case.masses(index))
    else:
        labels = targets.labels(pipeline.offset, pipeline.shift)[index]
        q = pair((labels[:, None] == np.arange(K)).astype(np.float64))
    if epsilon:
        rest = pairs.add_exact(np.ones(()), np.asarray(-epsilon))
        spread = pair(np.asarray(epsilon))
        count = np.asarray(float(K)) if part is None else np.sum(part, -1, keepdims=True) * 1.0
        if pipeline.smoothing == "others":
            others = pairs.subtract(pairs.total(q).to(q.high.shape), q)
            spread, count = pairs.multiply(spread, others), count - 1.0
        share = pairs.divide(spread, pair(np.maximum(count, 1.0)))
        if part is not None:
            share = pairs.choose(part, share, pair(np.zeros(part.shape)))
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


def _pairs(z: Floats, absent: Bools, a: Pair, formula: Formula) -> Rows:
    """Compute rows by sums of positive pairs, none of which has its largest term in it."""
    z = np.where(absent, 0.0, z)
    cap, temperature, z_loss, plain = formula
    if plain:
        return Rows(pairs.total(pairs.minus(pairs.multiply(a, pair(z)))), pairs.minus(a))
    shape, none, ones = z.shape, pair(np.zeros_like(z)), pair(np.ones_like(z))
    given, slope = (pair(z), None) if cap is None else _capped(z, cap)
    given = pairs.choose(absent, pair(np.full_like(z, -np.inf)), given)
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


def _balls(z: Floats, absent: Bools, a: Pair, formula: Formula) -> Rows:
    """Enclose rows, with more bits until each number is pinned."""
    from flint import arb, ctx

    losses: list[tuple[float, float]] = []
    slopes: list[list[tuple[float, float]]] = []
    rows = zip(z.tolist(), absent.tolist(), a.high.tolist(), a.low.tolist(), strict=True)
    for row, gone, high, low in rows:
        precision = 128
        while True:
            with ctx.workprec(precision):
                mass = [arb(x) + arb(y) if y else arb(x) for x, y in zip(high, low, strict=True)]
                found = _ball(arb, row, gone, mass, formula)
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
    arb: Any, row: list[float], gone: list[bool], mass: list[Any], formula: Formula
) -> list[Any]:
    """Enclose a row's loss, then each entry of its gradient, by the textbook's formulas."""
    cap, temperature, z_loss, plain = formula
    if plain:
        terms = zip(mass, row, gone, strict=True)
        return [sum((-a * arb(x) for a, x, no in terms if not no), arb(0)), *(-a for a in mass)]
    slope = None
    if cap is None:
        given = [None if no else arb(x) for x, no in zip(row, gone, strict=True)]
    else:
        tanh = [arb(1 if x > 0 else -1) if np.isinf(x) else (arb(x) / cap).tanh() for x in row]
        given = [None if no else cap * x for x, no in zip(tanh, gone, strict=True)]
        slope = [1 - x * x for x in tanh]
    given = [None if x is None else x / arb(temperature) for x in given]
    top = given[max(range(len(row)), key=lambda c: (not gone[c], row[c]))]
    e = [arb(0) if x is None else (x - top).exp() for x in given]
    whole = sum(e, arb(0))
    lse = top + whole.log()
    costs = zip(mass, given, strict=True)
    loss = sum((a * (lse - x) for a, x in costs if a != 0 and x is not None), arb(0))
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
