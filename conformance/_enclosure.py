"""Enclosures in ball arithmetic: how they are rounded, certified, weighted and reduced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from flint import arb, ctx

from xp_xent.conformance._formats import FORMATS, Format
from xp_xent.conformance.tolerance import sum_tolerance

Logits = Sequence[Any]  # of a row: floats, and None for a class that takes no part
Enclosure = Any  # arb, or the float nan, inf or -inf
NAN, INF = math.nan, math.inf
MAX_PRECISION = 8192


class Row(NamedTuple):
    """A row's own loss and gradient (empty where there is none), and their allowed errors."""

    loss: Enclosure
    gradient: list[Enclosure]
    loss_error: float
    gradient_errors: list[float]


def no_row(num_classes: int) -> Row:
    """Give what a row that does not count has: nothing, exactly."""
    return Row(arb(0), [arb(0)] * num_classes, 0.0, [0.0] * num_classes)


@dataclass(frozen=True)
class Result:
    """A loss, reduced or one a row, and the gradient of each row, with their allowed errors."""

    value: list[Enclosure]
    gradient: list[list[Enclosure]]
    value_errors: list[float]
    gradient_errors: list[list[float]]


# Rounding


def round_number(x: arb, form: Format) -> float:
    """Round an exact ball (of radius 0) to nearest, ties to even; -0 becomes 0."""
    mantissa, exponent = (int(part) for part in x.man_exp())
    if mantissa == 0:
        return 0.0
    sign, size = (-1 if mantissa < 0 else 1), abs(mantissa)
    lowest = max(exponent + size.bit_length(), form.min_exponent + 1) - form.precision
    if (drop := lowest - exponent) > size.bit_length():
        return 0.0
    if drop > 0:
        kept, rest, half = size >> drop, size & ((1 << drop) - 1), 1 << (drop - 1)
        kept += rest > half or (rest == half and kept & 1)
        size, exponent = kept, lowest
    if exponent + size.bit_length() - 1 > form.max_exponent:
        return sign * INF
    return sign * math.ldexp(float(size), exponent) if size else 0.0


def round_to(x: Enclosure, dtype: str) -> float | None:
    """Round to a dtype; None if the ball is too wide to tell which number that is."""
    if isinstance(x, float):
        return x
    if not x.is_finite():
        return None
    low, high = (round_number(end, FORMATS[dtype]) for end in (x.lower(), x.upper()))
    return low if low == high else None


def nearest(x: float, dtype: str) -> float:
    """Round a float to a dtype."""
    return round_number(arb(x), FORMATS[dtype]) if math.isfinite(x) else x


def certified(compute: Callable[[], Result], value_dtype: str, gradient_dtype: str) -> Result:
    """Evaluate with rising precision until value and gradient are pinned in their dtypes.

    Parameters
    ----------
    compute : callable
        Evaluates at the precision of the moment.
    value_dtype, gradient_dtype : str
        What the results are rounded to.

    Returns
    -------
    Result
        Value and gradient as floats, correctly rounded.

    Raises
    ------
    ArithmeticError
        A result is too close to the middle between two numbers to be told apart.
    """
    precision = 128
    while precision <= MAX_PRECISION:
        with ctx.workprec(precision):
            result = compute()
            value = [round_to(x, value_dtype) for x in result.value]
            gradient = [[round_to(x, gradient_dtype) for x in row] for row in result.gradient]
        if None not in value and not any(None in row for row in gradient):
            return replace(result, value=value, gradient=gradient)
        precision *= 2
    raise ArithmeticError(f"not pinned with {MAX_PRECISION} bits: a result lies on a midpoint")


# Reduction


def product(x: Enclosure, factor: arb) -> Enclosure:
    """Multiply, where a float is NaN or an infinity and the factor not negative."""
    if isinstance(x, float):
        return NAN if factor == 0 else x
    return x * factor


def times(own: Row, factor: arb) -> Row:
    """Multiply a row's loss and gradient."""
    size = abs(float(factor))
    return Row(
        product(own.loss, factor),
        [product(x, factor) for x in own.gradient],
        own.loss_error * size,
        [error * size for error in own.gradient_errors],
    )


def pull_back(result: Result, cotangent: Sequence[float]) -> Result:
    """Weight the rows' gradients, by one number each or one for all; 0 times NaN is NaN."""
    factors = list(cotangent) * (len(result.gradient) if len(result.value) == 1 else 1)
    gradient = [
        [x if isinstance(x, float) else x * arb(c) for x in own]
        for own, c in zip(result.gradient, factors, strict=True)
    ]
    pairs = zip(result.gradient_errors, factors, strict=True)
    errors = [[error * abs(c) for error in own] for own, c in pairs]
    return replace(result, gradient=gradient, gradient_errors=errors)


def reduce(
    rows: list[Row], shares: list[arb], reduction: str, normalizer: float | None, dtype: str
) -> Result:
    """Reduce rows, whose shares of the mean's denominator are given."""
    total = arb(1)
    if reduction == "mean":
        total = sum(shares, arb(0)) if normalizer is None else arb(normalizer)
    if reduction != "none" and total != 0:
        rows = [times(own, 1 / total) for own in rows]
    parts = zip(*rows, strict=True) if rows else ([], [], [], [])
    losses, gradients, errors, gradient_errors = (list(part) for part in parts)
    if reduction == "none":
        return Result(losses, gradients, errors, gradient_errors)
    if total == 0:
        # Rows that do not count keep their gradient of 0; one that does has 0/0 of the mean.
        gradients = [[x if x == 0 else NAN for x in gradient] for gradient in gradients]
        return Result([NAN], gradients, [0.0], gradient_errors)
    # A stated NaN or infinity decides the sum.
    stated = [x for x in losses if isinstance(x, float)]
    value = sum(stated) if stated else sum(losses, arb(0))
    more = sum_tolerance(dtype, len(rows))
    error = 0.0 if stated else sum(errors) + more * abs(float(value))
    for gradient, own in zip(gradients, gradient_errors, strict=True):
        for j, x in enumerate(gradient):
            own[j] += 0.0 if isinstance(x, float) else more * abs(float(x))
    return Result([value], gradients, [error], gradient_errors)
