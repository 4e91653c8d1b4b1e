"""Certified values of the losses that are not cross_entropy itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flint import arb

from xp_xent.conformance._enclosure import INF, Result, Row, no_row
from xp_xent.conformance._map_values import exponentials
from xp_xent.conformance._other_tolerances import (
    entropy_bounds,
    jensen_shannon_bounds,
    poly_bounds,
    sigmoid_focal_bounds,
)
from xp_xent.conformance.reference import cross_entropy, masses, over_elements, over_rows, row
from xp_xent.conformance.tolerance import focal_bounds, kl_bounds, sum_tolerance, weighting

Rows = Sequence[Sequence[float]]


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

    def own(z: Sequence[float], target: Any) -> Row:
        mass = masses(target, len(z), weight, label_smoothing, smoothing)
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


def softmax_focal_loss(
    logits: Rows,
    labels: Sequence[int],
    *,
    alpha: Sequence[float] | float = 1.0,
    gamma: float = 2.0,
    ignore_index: int | None = -100,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose α_y (1 − p_y)**γ ℓ_y, with ℓ_y = −log p_y."""

    def own(z: Sequence[float], label: int) -> Row:
        if len(z) == 1:  # p is 1
            return no_row(1)
        plain = row(z, masses(label, len(z)), dtype=dtype)
        a = alpha if isinstance(alpha, float) else alpha[label]
        p = (-plain.loss).exp()
        rest, bent = power(1 - p, gamma), gamma * power(1 - p, gamma - 1.0) if gamma else arb(0)
        slope = arb(a) * (rest + bent * plain.loss * p)
        bounds = focal_bounds(z, label, dtype, alpha=a, gamma=gamma)
        gradient = [slope * x for x in plain.gradient]
        loss = arb(a) * rest * plain.loss
        return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

    return over_rows(own, logits, labels, **how, ignore_index=ignore_index, dtype=dtype)


def poly_cross_entropy(
    logits: Rows,
    labels: Sequence[int],
    *,
    epsilon: float = 2.0,
    weight: Sequence[float] | None = None,
    ignore_index: int | None = -100,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose w_y (ℓ_y + ε (1 − p_y)), with ℓ_y = −log p_y."""

    def own(z: Sequence[float], label: int) -> Row:
        plain = row(z, masses(label, len(z)), dtype=dtype)
        w = arb(1.0 if weight is None else weight[label])
        p = (-plain.loss).exp()
        bounds = poly_bounds(z, label, dtype, epsilon=epsilon, weight=float(w))
        gradient = [w * (1 + epsilon * p) * x for x in plain.gradient]
        loss = w * (plain.loss + epsilon * (1 - p))
        return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

    how |= {"share": weight, "ignore_index": ignore_index, "dtype": dtype}
    return over_rows(own, logits, labels, **how)


def kl_divergence(
    logits: Rows,
    targets: Rows,
    *,
    log_targets: bool = False,
    normalized: bool = False,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose Σ q (log q − log p), with 0 log 0 = 0; p of logits, or of log p if `normalized`."""

    def own(z: Sequence[float], q: Sequence[Any]) -> Row:
        if log_targets:
            q = [arb(0) if x == -INF else arb(x).exp() for x in q]
        if normalized:
            return log_probs_divergence(z, q, dtype)
        plain, bounds = row(z, masses(q, len(z)), dtype=dtype), kl_bounds(z, q, dtype)
        more = sum((arb(x) * arb(x).log() for x in q if x != 0), arb(0))
        gradient = plain.gradient
        return Row(plain.loss + more, gradient, float(bounds.loss), bounds.gradient.tolist())

    return over_rows(own, logits, targets, **how, dtype=dtype)


def log_probs_divergence(x: Sequence[float], q: Sequence[Any], dtype: str) -> Row:
    """Enclose Σ q (log q − x) of a row, finite where there is mass."""
    terms = [arb(m) * (arb(m).log() - y) if m != 0 else arb(0) for m, y in zip(q, x, strict=True)]
    mass = [arb(m) for m in q]
    off = weighting(dtype) + sum_tolerance(dtype, len(x))
    error = off * sum(abs(float(term)) + float(m) for term, m in zip(terms, mass, strict=True))
    return Row(sum(terms, arb(0)), [-m for m in mass], error, [off * float(m) for m in mass])


def jensen_shannon_divergence(
    logits: Rows, target_logits: Rows, *, beta: float = 0.5, dtype: str = "float64", **how: Any
) -> Result:
    """Enclose β KL(q ‖ m) + (1 − β) KL(p ‖ m), with m = β q + (1 − β) p."""

    def own(z: Sequence[float], w: Sequence[float]) -> Row:
        shares = []
        for x in (z, w):
            _, e = exponentials(x)
            shares.append([y / sum(e, arb(0)) for y in e])
        (p, q), share = shares, arb(beta)
        m = [share * y + (1 - share) * x for x, y in zip(p, q, strict=True)]
        slopes = [
            (1 - share) * (x / y).log() if x != 0 else arb(0) for x, y in zip(p, m, strict=True)
        ]
        others = [share * (x / y).log() if x != 0 else arb(0) for x, y in zip(q, m, strict=True)]
        loss = sum((a * b for a, b in zip([*p, *q], [*slopes, *others], strict=True)), arb(0))
        mean = sum((a * b for a, b in zip(p, slopes, strict=True)), arb(0))
        gradient = [a * (b - mean) for a, b in zip(p, slopes, strict=True)]
        bounds = jensen_shannon_bounds(z, w, dtype, beta=beta)
        return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

    return over_rows(own, logits, target_logits, **how, dtype=dtype)


def entropy(logits: Rows, *, dtype: str = "float64", **how: Any) -> Result:
    """Enclose −Σ p log p, with p = 0 at a logit of −inf."""

    def own(z: Sequence[float], _: None) -> Row:
        _, e = exponentials(z)
        whole = sum(e, arb(0))
        p = [x / whole for x in e]
        log_p = [arb(0) if x == 0 else x.log() for x in p]
        loss = -sum((x * y for x, y in zip(p, log_p, strict=True)), arb(0))
        gradient = [-x * (y + loss) for x, y in zip(p, log_p, strict=True)]
        bounds = entropy_bounds(z, dtype)
        return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

    return over_rows(own, logits, [None] * len(logits), **how, dtype=dtype)


def sigmoid_focal_loss(
    logits: Sequence[float],
    targets: Sequence[float],
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose α_t u**γ bce, where u is the probability that the target does not have."""
    on, off = (arb(1), arb(1)) if alpha is None else (arb(alpha), 1 - arb(alpha))

    def own(z: float, y: arb) -> Row:
        up, down = arb(z).exp(), arb(-z).exp()
        hit, miss, p, q = (1 + down).log(), (1 + up).log(), 1 / (1 + down), 1 / (1 + up)
        bce, u, a = y * hit + (1 - y) * miss, y * q + (1 - y) * p, on * y + off * (1 - y)
        focus, bent = power(u, gamma), gamma * power(u, gamma - 1.0) if gamma else arb(0)
        slope = a * (bent * bce * p * q * (1 - 2 * y) + focus * ((1 - y) * p - y * q))
        bounds = sigmoid_focal_bounds(z, float(y), dtype, alpha=float(a), gamma=gamma)
        return Row(a * focus * bce, [slope], float(bounds.loss), [float(bounds.gradient)])

    return over_elements(own, logits, targets, **how, dtype=dtype)
