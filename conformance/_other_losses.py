"""Certified values of the losses that are not cross_entropy itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flint import arb

from xp_xent.conformance._enclosure import INF, NAN, Logits, Result, Row, no_row, times
from xp_xent.conformance._formats import FORMATS
from xp_xent.conformance._other_tolerances import (
    poly_bounds,
    sigmoid_focal_bounds,
)
from xp_xent.conformance.reference import cross_entropy, masses, over_elements, over_rows, row
from xp_xent.conformance.tolerance import focal_bounds, sum_tolerance, weighting

Rows = Sequence[Logits]


def taking_part(z: Logits) -> list[bool]:
    """Tell which classes of a row take part."""
    return [x is not None for x in z]


def as_absent(z: Logits) -> list[Any]:
    """Give classes that take no part the logit −∞."""
    return [-math.inf if x is None else x for x in z]


def next_token_cross_entropy(logits: Rows, tokens: Sequence[int], **options: Any) -> Result:
    """Enclose the loss of each row by the token of the next; the last row has none."""
    for name in ("sample_weight", "where"):  # of the tokens' shape; the first is not used
        if name in options:
            options[name] = options[name][1:]
    result = cross_entropy(logits[:-1], tokens[1:], **options)
    zeros = no_row(len(logits[-1]))
    return replace(
        result,
        gradient=[*result.gradient, zeros.gradient],
        gradient_errors=[*result.gradient_errors, zeros.gradient_errors],
    )


def nll_loss(
    log_probs: Rows,
    targets: Sequence[Any],
    *,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose Σ a_c (−log p_c): negations, which are exact, times masses, where there are any."""

    def own(z: Logits, target: Any) -> Row:
        mass = masses(target, len(z), weight, label_smoothing, smoothing, taking_part(z))
        z = as_absent(z)
        spread = bool(label_smoothing) or not isinstance(target, int)
        off = 0.0 if weight is None and "sample_weight" not in how else weighting(dtype)
        off += weighting(dtype) + sum_tolerance(dtype, len(z)) if spread else 0.0
        terms = [a * -arb(x) if a != 0 else arb(0) for a, x in zip(mass, z, strict=True)]
        errors = [off * float(a) for a in mass]
        error = off * sum(abs(float(x)) for x in terms)
        return Row(sum(terms, arb(0)), [-a for a in mass], error, errors)

    how |= {"share": weight, "ignore_index": ignore_index, "dtype": dtype}
    return over_rows(own, log_probs, targets, **how)


def power(base: arb, exponent: float) -> arb:
    """Give a power, where 0**0 is 1."""
    return arb(1) if exponent == 0 else arb(base) ** exponent


def over_classes(mass: Sequence[arb], own: Callable[[int], Row], dtype: str) -> Row:
    """Enclose Σ_j c_j f_j, where `own` gives the part of one class and its errors.

    Errors of the parts add up; those of c_j itself and of the sum come on top, relative to a part.
    """
    parts = [times(own(c), a) for c, a in enumerate(mass) if a != 0]
    if any(isinstance(part.loss, float) for part in parts):  # infinite, or NaN
        return next(part for part in parts if isinstance(part.loss, float))
    if len(parts) < 2:
        return parts[0] if parts else no_row(len(mass))
    more = sum_tolerance(dtype, len(mass)) + 2 * weighting(dtype)
    columns = [list(x) for x in zip(*(part.gradient for part in parts), strict=True)]
    errors = zip(*(part.gradient_errors for part in parts), strict=True)
    return Row(
        sum((part.loss for part in parts), arb(0)),
        [sum(column, arb(0)) for column in columns],
        sum(part.loss_error + more * abs(float(part.loss)) for part in parts),
        [
            sum(error) + more * sum(abs(float(x)) for x in column)
            for error, column in zip(errors, columns, strict=True)
        ],
    )


def class_weights(classes: int, *given: Sequence[float] | float | None) -> list[arb] | None:
    """Multiply what weighs each class, as a number for all or one a class."""
    if all(x is None for x in given):
        return None
    lists = [[x] * classes if isinstance(x, float) else x for x in given if x is not None]
    return [
        math.prod((arb(x) for x in column), start=arb(1)) for column in zip(*lists, strict=True)
    ]


def softmax_focal_loss(
    logits: Rows,
    targets: Sequence[Any],
    *,
    alpha: Sequence[float] | float | None = None,
    gamma: float = 2.0,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose Σ q_j w_j α_j (1 − p_j)**γ ℓ_j, with ℓ_j = −log p_j."""

    def own(z: Logits, target: Any) -> Row:
        if len(z) == 1:  # p is 1
            return no_row(1)
        factor = class_weights(len(z), alpha, weight)
        mass = masses(target, len(z), factor, label_smoothing, smoothing, taking_part(z))

        def part(label: int) -> Row:
            plain = row(z, masses(label, len(z)), dtype=dtype)
            if isinstance(plain.loss, float):
                return plain
            p = (-plain.loss).exp()
            rest, bent = power(1 - p, gamma), gamma * power(1 - p, gamma - 1.0) if gamma else arb(0)
            slope = rest + bent * plain.loss * p
            bounds = focal_bounds(as_absent(z), label, dtype, alpha=1.0, gamma=gamma)
            gradient = [slope * x for x in plain.gradient]
            return Row(rest * plain.loss, gradient, float(bounds.loss), bounds.gradient.tolist())

        return over_classes(mass, part, dtype)

    how |= {"share": weight, "ignore_index": ignore_index, "dtype": dtype}
    return over_rows(own, logits, targets, **how)


def poly_cross_entropy(
    logits: Rows,
    targets: Sequence[Any],
    *,
    epsilon: float = 2.0,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose Σ q_j w_j (ℓ_j + ε (1 − p_j)), with ℓ_j = −log p_j."""

    def own(z: Logits, target: Any) -> Row:
        mass = masses(target, len(z), weight, label_smoothing, smoothing, taking_part(z))

        def part(label: int) -> Row:
            plain = row(z, masses(label, len(z)), dtype=dtype)
            if isinstance(plain.loss, float):
                return plain
            p = (-plain.loss).exp()
            bounds = poly_bounds(as_absent(z), label, dtype, epsilon=epsilon)
            gradient = [(1 + epsilon * p) * x for x in plain.gradient]
            loss = plain.loss + epsilon * (1 - p)
            return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

        return over_classes(mass, part, dtype)

    how |= {"share": weight, "ignore_index": ignore_index, "dtype": dtype}
    return over_rows(own, logits, targets, **how)


def sigmoid_focal_loss(
    logits: Sequence[float],
    targets: Sequence[float],
    *,
    alpha: Sequence[float] | float | None = None,
    gamma: float = 2.0,
    weight: Sequence[float] | None = None,
    pos_weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose w α_t u**γ bce, where u is the probability that the target does not have."""
    epsilon, each = arb(label_smoothing), alpha if isinstance(alpha, list) else None

    def own(z: float, y: arb, w: float, positive: float, of_element: float) -> Row:
        y = y * (1 - epsilon) + epsilon / 2
        one = alpha if each is None else of_element
        on, off = (arb(1), arb(1)) if one is None else (arb(one), 1 - arb(one))
        up, down = arb(z).exp(), arb(-z).exp()
        hit, miss, p, q = (1 + down).log(), (1 + up).log(), 1 / (1 + down), 1 / (1 + up)
        mass = arb(positive) * y
        bce, u, a = mass * hit + (1 - y) * miss, y * q + (1 - y) * p, on * y + off * (1 - y)
        focus, bent = power(u, gamma), gamma * power(u, gamma - 1.0) if gamma else arb(0)
        slope = bent * bce * p * q * (1 - 2 * y) + focus * ((1 - y) * p - mass * q)
        more = 0.0 if positive == 1 and not label_smoothing else (2 + gamma) * weighting(dtype)
        bounds = sigmoid_focal_bounds(
            z, float(y), dtype, alpha=float(a), gamma=gamma, pos_weight=positive, extra=more
        )
        found = Row(a * focus * bce, [a * slope], float(bounds.loss), [float(bounds.gradient)])
        return found if w == 1 else times(found, arb(w))

    factors = (weight, pos_weight, each)
    return over_elements(own, logits, targets, factors, **how, dtype=dtype)


def binary_cross_entropy(
    probabilities: Sequence[float],
    targets: Sequence[float],
    *,
    weight: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose w (−y log p − (1 − y) log(1 − p)), infinite at a sure miss.

    A logarithm is allowed 8 eps, a quotient by a probability 4, each term's own.
    """
    epsilon, eps = arb(label_smoothing), FORMATS[dtype].eps

    def own(p: float, y: arb, w: float) -> Row:
        y = y * (1 - epsilon) + epsilon / 2
        on, off = arb(w) * y, arb(w) * (1 - y)
        if not 0 <= p <= 1:
            return Row(NAN, [NAN], 0.0, [0.0])
        if (p == 0 and on != 0) or (p == 1 and off != 0):
            return Row(INF, [-INF if p == 0 else INF], 0.0, [0.0])
        hit, miss = (a if a == 0 else -a * x.log() for a, x in ((on, arb(p)), (off, 1 - arb(p))))
        by_hit, by_miss = (a if a == 0 else a / x for a, x in ((on, arb(p)), (off, 1 - arb(p))))
        error, by_error = 8 * eps * float(hit + miss), 4 * eps * float(by_hit + by_miss)
        off_by = 3 * weighting(dtype)
        return Row(
            hit + miss,
            [by_miss - by_hit],
            error + off_by * float(hit + miss),
            [by_error + off_by * float(by_hit + by_miss)],
        )

    return over_elements(own, probabilities, targets, (weight,), **how, dtype=dtype)
