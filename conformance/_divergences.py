"""Certified values of divergences and of entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flint import arb

from xp_xent.conformance._enclosure import INF, Logits, Result, Row
from xp_xent.conformance._map_values import exponentials
from xp_xent.conformance._other_losses import Rows, as_absent
from xp_xent.conformance._other_tolerances import entropy_bounds, jensen_shannon_bounds
from xp_xent.conformance.reference import masses, over_rows, row
from xp_xent.conformance.tolerance import kl_bounds, sum_tolerance, weighting


def kl_divergence(
    logits: Rows,
    targets: Rows,
    *,
    temperature: float = 1.0,
    log_targets: bool = False,
    normalized: bool = False,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose Σ q (log q − log p), with 0 log 0 = 0; p of logits, or of log p if `normalized`."""

    def own(z: Logits, q: Sequence[Any]) -> Row:
        if log_targets:
            q = [arb(0) if x == -INF else arb(x).exp() for x in q]
        if normalized:
            return log_probs_divergence(as_absent(z), q, dtype)
        plain = row(z, masses(q, len(z)), dtype=dtype, temperature=temperature)
        bounds = kl_bounds(z, q, dtype, temperature=temperature)
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
    logits: Rows,
    target_logits: Rows,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    dtype: str = "float64",
    **how: Any,
) -> Result:
    """Enclose β KL(q ‖ m) + (1 − β) KL(p ‖ m), with m = β q + (1 − β) p."""

    def own(z: Logits, w: Logits) -> Row:
        known = [c for c, x in enumerate(z) if x is not None]
        pair = [[x[c] if x[c] == -INF else arb(x[c]) / temperature for c in known] for x in (z, w)]
        found = among(*pair)
        gradient, errors = [arb(0)] * len(z), [0.0] * len(z)
        for at, c in enumerate(known):
            gradient[c] = found.gradient[at] / temperature
            errors[c] = found.gradient_errors[at] / temperature
        return found._replace(gradient=gradient, gradient_errors=errors)

    def among(z: Logits, w: Logits) -> Row:
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
        first, second = ([float(x) for x in row] for row in (z, w))
        bounds = jensen_shannon_bounds(first, second, dtype, beta=beta)
        return Row(loss, gradient, float(bounds.loss), bounds.gradient.tolist())

    return over_rows(own, logits, target_logits, **how, dtype=dtype)


def entropy(
    logits: Rows, *, temperature: float = 1.0, dtype: str = "float64", **how: Any
) -> Result:
    """Enclose −Σ p log p, with p = 0 at a logit of −inf."""

    def own(z: Logits, _: None) -> Row:
        known = [(c, x) for c, x in enumerate(z) if x is not None]
        _, some = exponentials([x if x == -math.inf else arb(x) / temperature for _, x in known])
        e = [arb(0)] * len(z)
        for (c, _), x in zip(known, some, strict=True):
            e[c] = x
        whole = sum(e, arb(0))
        p = [x / whole for x in e]
        log_p = [arb(0) if x == 0 else x.log() for x in p]
        loss = -sum((x * y for x, y in zip(p, log_p, strict=True)), arb(0))
        gradient = [-x * (y + loss) / temperature for x, y in zip(p, log_p, strict=True)]
        u = [-math.inf if x is None else float(x) / temperature for x in z]
        bounds = entropy_bounds(u, dtype)
        return Row(loss, gradient, float(bounds.loss), (bounds.gradient / temperature).tolist())

    return over_rows(own, logits, [None] * len(logits), **how, dtype=dtype)
