"""Certified values: the losses by their definitions, in ball arithmetic of any precision.

Inputs are Python floats and ints, taken exactly. A result is an `arb`, a ball that is proven to
contain the true number, or a Python float where the outcome is NaN or infinite by definition.
`certified` raises the precision until every ball rounds to one number of the wanted dtype. The
formulas are the textbook's: no trick against cancellation is needed where precision is free.
Beside each result stands the absolute error that `tolerance` allows a computation in `dtype`.

Nothing but the generator, the tests and the benchmarks imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flint import arb

from xp_xent.conformance._enclosure import (
    INF,
    NAN,
    Logits,
    Result,
    Row,
    no_row,
    pull_back,
    reduce,
    times,
)
from xp_xent.conformance.tolerance import binary_bounds, cross_entropy_bounds

# cross_entropy


def masses(
    target: int | Sequence[float],
    num_classes: int,
    weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    part: Sequence[bool] | None = None,
) -> list[arb]:
    """Give what multiplies −log p of each class: smoothed target times class weight.

    `part` tells which classes take part, and are smoothed over.
    """
    part = [True] * num_classes if part is None else part
    count = sum(part)
    if isinstance(target, int):
        q = [arb(int(c == target)) for c in range(num_classes)]
    else:
        q = [arb(x) for x in target]
    epsilon = arb(label_smoothing)
    total = sum((x for x, takes in zip(q, part, strict=True) if takes), arb(0))
    if label_smoothing:
        others = smoothing == "others"
        given = [(total - x) / (count - 1) if others else arb(1) / count for x in q]
        q = [(1 - epsilon) * x + (epsilon * more if takes else 0)
             for x, more, takes in zip(q, given, part, strict=True)]  # fmt: skip
    return q if weight is None else [arb(w) * x for w, x in zip(weight, q, strict=True)]


def row(
    logits: Logits,
    mass: Sequence[arb],
    z_loss: float = 0.0,
    softcap: float | None = None,
    dtype: str = "float64",
    temperature: float = 1.0,
) -> Row:
    """Give Σ a_c (lse − z_c) + λ lse² and its gradient, A p_j − a_j + 2λ lse p_j.

    A logit of −inf has p = 0 and 0·inf = 0; mass on it makes the loss +inf, with no gradient.
    NaN and +inf, and a row of nothing but −inf, make the row NaN. A soft cap comes before that,
    and then the temperature divides. A logit of None is of a class that takes no part.
    """
    known = [x for x in logits if x is not None]
    absent, slope = [x is None or x == -INF for x in logits], [arb(1)] * len(logits)
    infinite = not known or (softcap is None and (INF in known or all(absent)))
    if infinite or any(math.isnan(x) for x in known):
        return Row(NAN, [NAN] * len(logits), 0.0, [0.0] * len(logits))
    if softcap is None:
        z = [arb(0 if x is None else x) for x in logits]
    else:
        tanh = [arb(1 if x > 0 else -1) if abs(x) == INF else (arb(x) / softcap).tanh()
                for x in (0 if x is None else x for x in logits)]  # fmt: skip
        z, slope, absent = (
            [softcap * x for x in tanh],
            [1 - x * x for x in tanh],
            [x is None for x in logits],
        )
    z, slope = ([x / arb(temperature) for x in part] for part in (z, slope))
    if any(gone and a != 0 for a, gone in zip(mass, absent, strict=True)):
        return Row(INF, [], 0.0, [])
    top = z[max((x, c) for c, x in enumerate(logits) if x is not None)[1]]
    e = [arb(0) if gone else (x - top).exp() for x, gone in zip(z, absent, strict=True)]
    whole = sum(e, arb(0))
    lse = top + whole.log()
    loss = sum((a * (lse - x) for a, x in zip(mass, z, strict=True) if a != 0), arb(0))
    pull = sum(mass, arb(0)) + 2 * arb(z_loss) * lse
    terms = zip(mass, e, slope, strict=True)
    bounds = cross_entropy_bounds(
        [NAN if x is None else x for x in logits],
        [float(a) for a in mass],
        dtype,
        z_loss=z_loss,
        softcap=softcap,
        temperature=temperature,
    )
    return Row(
        loss + arb(z_loss) * lse * lse,
        [(pull * x / whole - a) * s for a, x, s in terms],
        float(bounds.loss),
        bounds.gradient.tolist(),
    )


def over_rows(
    own: Callable[[Any, Any], Row],
    logits: Sequence[Logits],
    targets: Sequence[Any],
    *,
    share: Sequence[float] | None = None,
    sample_weight: Sequence[float] | None = None,
    where: Sequence[bool] | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    cotangent: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Result:
    """Enclose a loss of rows (N, K), which `own` gives for one row and its target.

    With ``reduction="none"`` a row's gradient is that of its own loss. `cotangent` weights the
    losses in the gradient, one a row or the reduced one. `share` is each label's share of the
    mean's denominator, 1 unless given. `dtype` is the one that a computation would run in.
    """
    rows: list[Row] = []
    shares: list[arb] = []
    for i, (z, target) in enumerate(zip(logits, targets, strict=True)):
        labelled = isinstance(target, int)
        if (where is not None and not where[i]) or (labelled and target == ignore_index):
            rows.append(no_row(len(z)))
            shares.append(arb(0))
            continue
        once = arb(1 if sample_weight is None else sample_weight[i])
        if labelled and not 0 <= target < len(z):  # where no exception can be raised
            rows.append(Row(NAN, [NAN] * len(z), 0.0, [0.0] * len(z)))
            shares.append(once)
            continue
        rows.append(times(own(z, target), once))
        shares.append(once * (share[target] if labelled and share is not None else 1))
    result = reduce(rows, shares, reduction, normalizer, dtype)
    return result if cotangent is None else pull_back(result, cotangent)


def cross_entropy(
    logits: Sequence[Logits],
    targets: Sequence[Any],
    *,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose cross_entropy and its gradient for rows of logits (N, K).

    Targets are N labels (int) or N rows of K probabilities.
    """

    def own(z: Logits, target: Any) -> Row:
        part = [x is not None for x in z]
        mass = masses(target, len(z), weight, label_smoothing, smoothing, part)
        return row(z, mass, z_loss, softcap, dtype, temperature)

    how |= {"share": weight, "ignore_index": ignore_index, "dtype": dtype}
    return over_rows(own, logits, targets, **how)


# binary_cross_entropy_with_logits


def element(
    z: float, y: arb, weight: float = 1.0, pos_weight: float = 1.0, *, dtype: str = "float64"
) -> Row:
    """Give w (−p y log σ(z) − (1 − y) log(1 − σ(z))) and its derivative, with limits at ±inf."""
    positive, negative = arb(weight) * arb(pos_weight) * y, arb(weight) * (1 - y)
    if math.isnan(z):
        return Row(NAN, [NAN], 0.0, [0.0])
    bounds = binary_bounds(z, float(y), dtype, weight=weight, pos_weight=pos_weight)
    errors = float(bounds.loss), [float(bounds.gradient)]
    if math.isinf(z):
        wrong = negative if z > 0 else positive
        loss = arb(0) if wrong == 0 else INF
        return Row(loss, [negative if z > 0 else -positive], *errors)
    up, down = arb(z).exp(), arb(-z).exp()
    loss = positive * (1 + down).log() + negative * (1 + up).log()
    return Row(loss, [negative / (1 + down) - positive / (1 + up)], *errors)


def over_elements(
    own: Callable[..., Row],
    logits: Sequence[float],
    targets: Sequence[float],
    factors: Sequence[Sequence[float] | None] = (),
    *,
    sample_weight: Sequence[float] | None = None,
    where: Sequence[bool] | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
    cotangent: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Result:
    """Enclose a loss of elements, which `own` gives for one, its target and its factors."""
    rows: list[Row] = []
    shares: list[arb] = []
    for i, (z, y) in enumerate(zip(logits, targets, strict=True)):
        counted = (where is None or where[i]) and y != ignore_index
        once = arb(1 if sample_weight is None else sample_weight[i])
        shares.append(once if counted else arb(0))
        if not counted:
            rows.append(no_row(1))
        elif not 0 <= y <= 1:  # NaN, or what no exception can be raised for
            rows.append(Row(NAN, [NAN], 0.0, [0.0]))
        else:
            found = own(z, arb(y), *(1.0 if w is None else w[i] for w in factors))
            rows.append(found if sample_weight is None else times(found, once))
    result = reduce(rows, shares, reduction, normalizer, dtype)
    return result if cotangent is None else pull_back(result, cotangent)


def binary_cross_entropy_with_logits(
    logits: Sequence[float],
    targets: Sequence[float],
    *,
    weight: Sequence[float] | None = None,
    pos_weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose binary_cross_entropy_with_logits and its gradient, all arrays flat."""
    epsilon = arb(label_smoothing)

    def own(z: float, y: arb, *factors: float) -> Row:
        return element(z, y * (1 - epsilon) + epsilon / 2, *factors, dtype=dtype)

    return over_elements(own, logits, targets, (weight, pos_weight), **how, dtype=dtype)
