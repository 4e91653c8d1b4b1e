"""Certified values of the maps, and of cotangents pulled back through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flint import arb

from xp_xent.conformance._enclosure import INF, NAN, Enclosure, Result
from xp_xent.conformance._other_tolerances import (
    MapBounds,
    log_sigmoid_bounds,
    log_softmax_bounds,
    logsumexp_bounds,
    sigmoid_bounds,
    softmax_bounds,
)

Row = Sequence[float]
# Each value, each entry of the gradient, and what either may be off
Mapped = tuple[list[Enclosure], list[Enclosure], MapBounds]


def exponentials(x: Row) -> tuple[arb, list[arb]]:
    """Give the maximum of a row and exp(x − maximum), 0 at −inf."""
    top = max((arb(z) for z in x if z != -INF), key=float)
    return top, [arb(0) if z == -INF else (arb(z) - top).exp() for z in x]


def no_distribution(x: Row) -> bool:
    """Tell rows without probabilities: NaN, +inf, or nothing but −inf."""
    return any(math.isnan(z) or z == INF for z in x) or all(z == -INF for z in x)


def softmax(x: Row, cotangent: Row, dtype: str) -> Mapped:
    """Enclose p, and p_j Σ_i p_i (c_j − c_i)."""
    if no_distribution(x):
        return [NAN] * len(x), [NAN] * len(x), softmax_bounds(x, cotangent, dtype)
    _, e = exponentials(x)
    p = [y / sum(e, arb(0)) for y in e]
    c = [arb(y) for y in cotangent]
    pulled = [
        a * sum((b * (own - other) for b, other in zip(p, c, strict=True)), arb(0))
        for a, own in zip(p, c, strict=True)
    ]
    return p, pulled, softmax_bounds(x, cotangent, dtype)


def log_softmax(x: Row, cotangent: Row, dtype: str) -> Mapped:
    """Enclose log p, −inf at a logit of −inf, and c_j − p_j Σ c."""
    if no_distribution(x):
        return [NAN] * len(x), [NAN] * len(x), log_softmax_bounds(x, cotangent, dtype)
    top, e = exponentials(x)
    whole, total = sum(e, arb(0)), sum((arb(y) for y in cotangent), arb(0))
    value = [-INF if z == -INF else arb(z) - top - whole.log() for z in x]
    pulled = [arb(c) - y / whole * total for c, y in zip(cotangent, e, strict=True)]
    return value, pulled, log_softmax_bounds(x, cotangent, dtype)


def logsumexp(x: Row, cotangent: Row, dtype: str) -> Mapped:
    """Enclose log Σ exp, and c p; of nothing it is −inf, without a slope.

    At +inf there is no gradient to ask for.
    """
    bounds = logsumexp_bounds(x, cotangent[0], dtype)
    if any(math.isnan(z) or z == INF for z in x):
        nan = any(math.isnan(z) for z in x)
        return [NAN if nan else INF], [NAN] * len(x) if nan else [], bounds
    if all(z == -INF for z in x):
        return [-INF], [arb(0)] * len(x), bounds
    top, e = exponentials(x)
    whole = sum(e, arb(0))
    return [top + whole.log()], [arb(cotangent[0]) * y / whole for y in e], bounds


def sigmoid(x: Row, cotangent: Row, dtype: str) -> Mapped:
    """Enclose 1/(1 + exp(−x)), and c p (1 − p)."""
    bounds = sigmoid_bounds(x[0], cotangent[0], dtype)
    if math.isinf(x[0]) or math.isnan(x[0]):
        return [{INF: 1.0, -INF: 0.0}.get(x[0], NAN)], [NAN if x[0] != x[0] else arb(0)], bounds
    p = 1 / (1 + (-arb(x[0])).exp())
    return [p], [arb(cotangent[0]) * p / (1 + arb(x[0]).exp())], bounds


def log_sigmoid(x: Row, cotangent: Row, dtype: str) -> Mapped:
    """Enclose −log(1 + exp(−x)), and c (1 − p)."""
    bounds, c = log_sigmoid_bounds(x[0], cotangent[0], dtype), arb(cotangent[0])
    if math.isinf(x[0]) or math.isnan(x[0]):
        slope = {INF: arb(0), -INF: c}.get(x[0], NAN)
        return [{INF: 0.0, -INF: -INF}.get(x[0], NAN)], [slope], bounds
    return [-(1 + (-arb(x[0])).exp()).log()], [c / (1 + arb(x[0]).exp())], bounds


MAPS: dict[str, Callable[[Row, Row, str], Mapped]] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "sigmoid": sigmoid,
    "log_sigmoid": log_sigmoid,
}
ELEMENTS = ("sigmoid", "log_sigmoid")


def over_rows(
    name: str, x: Sequence[Row], cotangents: Sequence[Row], *, dtype: str = "float64"
) -> Result:
    """Enclose a map of rows (N, K); the values of all rows are one list."""
    found = [MAPS[name](z, c, dtype) for z, c in zip(x, cotangents, strict=True)]
    return Result(
        [y for value, _, _ in found for y in value],
        [gradient for _, gradient, _ in found],
        [float(e) for _, _, bounds in found for e in bounds.value.reshape(-1)],
        [bounds.gradient.reshape(-1).tolist() for _, _, bounds in found],
    )
