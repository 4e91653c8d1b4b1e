"""Certified values of the losses that are not cross_entropy itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flint import arb

from xp_xent.conformance._enclosure import Result, Row, no_row, pull_back, reduce, times
from xp_xent.conformance.reference import cross_entropy, masses, row
from xp_xent.conformance.tolerance import focal_bounds, kl_bounds, weighting

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
    targets: Sequence[int],
    *,
    weight: Sequence[float] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    normalizer: float | None = None,
    cotangent: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Result:
    """Enclose −w_y log p_y: a negation, which is exact, times a weight."""
    rows, shares = [], []
    for z, label in zip(log_probs, targets, strict=True):
        if label == ignore_index:
            rows.append(no_row(len(z)))
            shares.append(arb(0))
            continue
        own = Row(-arb(z[label]), [arb(-(c == label)) for c in range(len(z))], 0.0, [0.0] * len(z))
        if weight is not None:
            off = weighting(dtype)
            errors = [off * (c == label) for c in range(len(z))]
            own = own._replace(loss_error=off * abs(z[label]), gradient_errors=errors)
        factor = arb(1 if weight is None else weight[label])
        rows.append(times(own, factor))
        shares.append(factor)
    result = reduce(rows, shares, reduction, normalizer, dtype)
    return result if cotangent is None else pull_back(result, cotangent)


def softmax_focal_loss(
    logits: Rows,
    labels: Sequence[int],
    *,
    alpha: Sequence[float] | float = 1.0,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    normalizer: float | None = None,
    cotangent: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Result:
    """Enclose α_y (1 − p_y)**γ ℓ_y, with ℓ_y = −log p_y."""
    rows, shares = [], []
    for z, label in zip(logits, labels, strict=True):
        shares.append(arb(int(label != ignore_index)))
        if label == ignore_index:
            rows.append(no_row(len(z)))
            continue
        own = row(z, masses(label, len(z)), dtype=dtype)
        a = alpha if isinstance(alpha, float) else alpha[label]
        p = (-own.loss).exp()
        slope = arb(a) * ((1 - p) ** gamma + gamma * own.loss * p * (1 - p) ** (gamma - 1.0))
        bounds = focal_bounds(z, label, dtype, alpha=a, gamma=gamma)
        loss = arb(a) * (1 - p) ** gamma * own.loss
        gradient = [slope * x for x in own.gradient]
        rows.append(Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist()))
    result = reduce(rows, shares, reduction, normalizer, dtype)
    return result if cotangent is None else pull_back(result, cotangent)


def kl_divergence(
    logits: Rows,
    target_probs: Rows,
    *,
    where: Sequence[bool] | None = None,
    reduction: str = "mean",
    cotangent: Sequence[float] | None = None,
    dtype: str = "float64",
) -> Result:
    """Enclose Σ q (log q − log p), with 0 log 0 = 0."""
    rows, shares = [], []
    for i, (z, q) in enumerate(zip(logits, target_probs, strict=True)):
        counted = where is None or where[i]
        shares.append(arb(int(counted)))
        if not counted:
            rows.append(no_row(len(z)))
            continue
        own, bounds = row(z, masses(q, len(z)), dtype=dtype), kl_bounds(z, q, dtype)
        plain = sum((arb(x) * arb(x).log() for x in q if x), arb(0))
        rows.append(
            Row(own.loss + plain, own.gradient, float(bounds.loss), bounds.gradient.tolist())
        )
    result = reduce(rows, shares, reduction, None, dtype)
    return result if cotangent is None else pull_back(result, cotangent)
