"""The truth of a random call: the certified reference's numbers, and how far off each may be.

Derivatives that the reference does not state (by targets, the second by logits) are central
differences of its balls, with a step far below any number that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

from xp_xent.conformance import _case
from xp_xent.conformance._enclose import ENCLOSE, Enclosed
from xp_xent.conformance._enclosure import Result
from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.conformance.tolerance import row_tolerance, sum_tolerance

if TYPE_CHECKING:
    from _cases import Case

Array = np.ndarray[Any, Any]
BITS, STEP = 512, -120  # of precision; the difference's error is below 2**-200

ball = np.frompyfunc(arb, 1, 1)
wide = np.frompyfunc(lambda size: arb(0, size), 1, 1)
middle = np.frompyfunc(float, 1, 1)
radius = np.frompyfunc(lambda x: 0.0 if isinstance(x, float) else float(x.rad()), 1, 1)


@dataclass
class Truth:
    """What a call must answer, in float64, and the absolute error that each number may have."""

    value: Array
    value_error: Array
    gradients: list[Array]
    gradient_errors: list[Array]


def floats(values: Any) -> Array:
    """Balls as the floats in their middle."""
    return np.asarray(middle(np.asarray(values, dtype=object)), dtype=np.float64)


def enclose(case: Case, arrays: Sequence[Any], dtype: str, **options: Any) -> Enclosed:
    """Prepare the call for the reference, with these arrays in place of the case's own."""
    cotangent = None if "reduction" in options else case.cotangent
    inputs = arrays[0], (arrays[1] if len(arrays) > 1 else None)
    own = _case.case(case.loss, "", *inputs, cotangent=cotangent, **case.options | options)
    return ENCLOSE[case.loss](own._replace(function=case.loss), dtype)


def truth(case: Case, dtype: str = "float64") -> Truth:
    """Give value and gradients by every array that has one."""
    with ctx.workprec(BITS):
        if case.loss == "next_token_cross_entropy":
            return next_token(case, dtype)
        if case.loss == "linear_cross_entropy":
            return linear(case, dtype)
        given = enclose(case, case.arrays, dtype)
        result = given.compute()
        of = _truth(given, result)
        if len(case.arrays) > 1 and case.arrays[1].dtype.kind == "f":
            slope, error = by_targets(case, dtype)
            of.gradients.append(slope)
            of.gradient_errors.append(error)
        return of


def _truth(given: Enclosed, result: Result) -> Truth:
    gradient, errors = given.gradient(result.gradient), given.gradient(result.gradient_errors)
    value_error = given.value(np.asarray(result.value_errors) + radius(objects(result.value)))
    return Truth(floats(given.value(objects(result.value))), value_error.astype(np.float64),
                 [floats(gradient)], [np.asarray(errors, np.float64)])  # fmt: skip


def objects(values: Any) -> Array:
    return np.array(values, dtype=object)


def shifted(case: Case) -> Case:
    """Write the next token's loss as cross_entropy of each position and the token after it."""
    logits, tokens = case.arrays
    options = {k: v[..., 1:] if k in ("sample_weight", "where") else v
               for k, v in case.options.items()}  # fmt: skip
    if "class_where" in options:
        options["class_where"] = np.broadcast_to(options["class_where"], logits.shape)[..., :-1, :]
    arrays = logits[..., :-1, :], tokens[..., 1:]
    return type(case)("cross_entropy", arrays, options, case.cotangent)


def next_token(case: Case, dtype: str) -> Truth:
    """Add the last position, which has no gradient."""
    of = truth(shifted(case), dtype)
    last = [(0, 0)] * (case.arrays[0].ndim - 2) + [(0, 1), (0, 0)]
    of.gradients, of.gradient_errors = (
        [np.pad(x, last) for x in part] for part in (of.gradients, of.gradient_errors)
    )
    return of


def linear(case: Case, dtype: str) -> Truth:
    """cross_entropy of features @ classifier.T + bias: balls as wide as products may be wrong."""
    features, classifier, targets = case.arrays
    options, form = dict(case.options), FORMATS[COMPUTE[dtype]]
    bias = options.pop("bias", np.zeros(len(classifier)))
    x, c = features.reshape(-1, features.shape[-1]), classifier
    off = 4 * form.eps * (np.abs(x) @ np.abs(c).T + np.abs(bias))
    logits = (ball(x) @ ball(c).T + ball(bias) + wide(off)).reshape(
        *features.shape[:-1], len(classifier)
    )
    plain = type(case)("cross_entropy", (logits, targets), options, case.cotangent)
    given = enclose(plain, plain.arrays, dtype)
    result = given.compute()
    of = _truth(given, result)
    g, e = objects(result.gradient).reshape(-1, len(c)), np.asarray(result.gradient_errors)
    pairs = [
        (g @ ball(c), e @ abs(c), np.abs(floats(g)) @ abs(c), features.shape),
        (g.T @ ball(x), e.T @ abs(x), np.abs(floats(g)).T @ abs(x), classifier.shape),
        (g.sum(axis=0), e.sum(axis=0), np.abs(floats(g)).sum(axis=0), bias.shape),
    ]
    more = sum_tolerance(COMPUTE[dtype], max(g.size, x.size))
    of.gradients = [floats(a).reshape(shape) for a, *_, shape in pairs]
    of.gradient_errors = [
        np.asarray(error + more * size + radius(a), np.float64).reshape(shape)
        for a, error, size, shape in pairs
    ]
    return of


# Derivatives by differences


def difference(compute: Callable[[Array], Any], array: Array, where: Any) -> Array:
    """Differentiate `compute` as the numbers of an array, those at `where`, move together."""
    step = arb(2) ** STEP
    ends = []
    for sign in (1, -1):
        moved = ball(array)
        moved[where] = moved[where] + sign * step
        ends.append(objects(compute(moved)))
    with np.errstate(invalid="ignore"):  # mass on a class that takes no part
        return np.asarray((ends[0] - ends[1]) / (2 * step))


def class_axis(case: Case) -> int | None:
    """The axis of the classes; None where the loss is one of elements."""
    elementwise = case.loss.startswith(("binary", "sigmoid"))
    return None if elementwise else case.options.get("axis", -1)


def places(case: Case) -> list[Any]:
    """Indices that pick a class of every row, or every element: no two share a row."""
    axis, shape = class_axis(case), case.arrays[0].shape
    if axis is None:
        return [(...,)]
    before = axis % len(shape)
    return [(*[slice(None)] * before, c) for c in range(shape[axis])]


def by_targets(case: Case, dtype: str) -> tuple[Array, Array]:
    """Give the derivative by probabilities, and its allowed errors."""
    logits, targets = case.arrays
    slope, scale, how = np.zeros(targets.shape), _target_scale(case), {"reduction": "none"}
    for place in places(case):
        rows = difference(
            lambda q: enclose(case, (logits, q), dtype, **how, normalizer=None).compute().value,
            targets,
            place,
        )
        slope[place] = floats(rows).reshape(slope[place].shape)
    absent = np.isinf(scale) | ~np.asarray(case.options.get("class_where", True))
    slope = np.where(absent, 0.0, slope * _factor(case))  # there it has no slope
    scale = np.maximum(np.where(np.isinf(scale), scale, scale * np.abs(_factor(case))), abs(slope))
    classes, compute = case.classes, COMPUTE[dtype]
    spread = 2.0 * float(np.abs(logits).max()) / case.options.get("temperature", 1.0)
    if case.loss == "jensen_shannon_divergence":
        spread += 2.0 * float(np.abs(targets).max()) / case.options.get("temperature", 1.0)
    relative = row_tolerance(compute, classes, spread * case.options.get("gamma", 1.0) + spread)
    return slope, scale * (relative + sum_tolerance(compute, max(targets.size, 1)))


def _factor(case: Case) -> Array:
    """What multiplies the rows' own derivatives, to broadcast against the targets."""
    axis, targets, options = class_axis(case), case.arrays[1], case.options
    shape = targets.shape if axis is None else np.delete(targets.shape, axis)
    factor = np.ones(shape) if case.cotangent is None else case.cotangent
    if options.get("reduction", "mean") == "mean":
        counted = np.ones(shape) * options.get("where", True) * options.get("sample_weight", 1.0)
        factor = factor / (options.get("normalizer") or counted.sum() or 1.0)
    return factor if axis is None else np.expand_dims(factor, axis)


def _target_scale(case: Case) -> Array:
    """Give the sum without signs where the terms of a derivative by targets have both."""
    logits, targets = case.arrays
    if case.loss == "kl_divergence":
        part = np.broadcast_to(case.options.get("class_where", True), logits.shape)
        z = np.where(part, logits, -np.inf) / case.options.get("temperature", 1.0)
        z = z - z.max(axis=(axis := class_axis(case)), keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
        with np.errstate(divide="ignore"):  # at q = 0 the slope is −∞ from the right
            return np.abs(np.log(targets)) + 1 - log_p
    if case.loss == "jensen_shannon_divergence":
        axis, beta = class_axis(case), case.options.get("beta", 0.5)
        temperature = case.options.get("temperature", 1.0)
        part = np.broadcast_to(case.options.get("class_where", True), logits.shape)
        u = [np.where(part, x, -np.inf) / temperature for x in (logits, targets)]
        e = [np.exp(x - x.max(axis=axis, keepdims=True)) for x in u]
        p, q = (x / x.sum(axis=axis, keepdims=True) for x in e)
        m = np.where(part, beta * q + (1 - beta) * p, 1)
        both = (p > 0) & (q > 0)
        apart = np.where(both, np.abs(np.log(np.where(both, q, 1) / np.where(both, p, 1))), 1)
        near = np.minimum(np.max(np.where(part, apart, 0), axis=axis, keepdims=True), 1)
        # Besides, the error of log(q/p), as much less where that is small in the whole row, but for
        # what differences of the logits are rounded by.
        u = [np.where(both, x, 0) for x in u]
        offset = np.abs(u[1] - u[0]).max(axis=axis, keepdims=True)
        near = np.maximum(near, offset / 4)
        log = np.abs(beta * np.log(np.where(part, q, 1) / m)) + near * beta * (1 - beta) * p / m
        by_q = q * log / temperature
        return np.asarray(by_q + q * by_q.sum(axis=axis, keepdims=True))
    hit, miss = np.logaddexp(0, -logits), np.logaddexp(0, logits)
    if case.loss == "binary_cross_entropy_with_logits":
        weight, pos = (case.options.get(name, 1.0) for name in ("weight", "pos_weight"))
        return np.broadcast_to(weight * (pos * hit + miss), logits.shape)
    if case.loss == "sigmoid_focal_loss":
        weight, pos = (case.options.get(name, 1.0) for name in ("weight", "pos_weight"))
        gamma, p, q = case.options.get("gamma", 2.0), np.exp(-hit), np.exp(-miss)
        epsilon = case.options.get("label_smoothing", 0.0)
        targets = targets * (1 - epsilon) + epsilon / 2
        u, bce = targets * q + (1 - targets) * p, pos * targets * hit + (1 - targets) * miss
        slope = gamma * u ** (gamma - 1) * bce + u**gamma * (pos * hit + miss + bce)
        return np.asarray(weight * slope)
    if case.loss == "binary_cross_entropy":
        return np.asarray(case.options.get("weight", 1.0) * -(np.log(logits) + np.log1p(-logits)))
    return np.zeros(targets.shape)


def row_hessians(case: Case) -> Array:
    """H[row, i, j] of the reduced loss: no other entries are nonzero, no last token's either."""
    case = shifted(case) if case.loss == "next_token_cross_entropy" else case
    case = type(case)(case.loss, case.arrays, case.options)
    logits, axis = case.arrays[0], class_axis(case)
    with ctx.workprec(BITS):
        columns = [
            difference(
                lambda z: enclose(case, (z, *case.arrays[1:]), "float64").compute().gradient,
                logits,
                place,
            )
            for place in places(case)
        ]
    classes = 1 if axis is None else logits.shape[axis]
    return np.stack([floats(x).reshape(-1, classes) for x in columns], axis=-1)


def mapped(name: str, x: Array, axis: int | None = None) -> Array:
    """Give the values of a map."""
    options = {} if axis is None else {"axis": axis}
    shape = np.delete(x.shape, axis) if name == "logsumexp" else x.shape
    own = _case.case(name, "", x, None, cotangent=np.zeros(shape), **options)
    given = ENCLOSE[name](own._replace(function=name), "float64")
    with ctx.workprec(BITS):
        return floats(given.value(objects(given.compute().value)))
