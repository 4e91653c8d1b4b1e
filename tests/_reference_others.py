"""The losses of `_reference` that are not a plain sum over classes, and the binary ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from _reference import (
    ZERO,
    Array,
    Rows,
    Truth,
    by_rows,
    decimals,
    exact,
    exp,
    finish,
    ln,
    log_sigmoid,
    log_softmax,
    spread_of,
)
from _reference_losses import Mass, mass, take


def _of_class(
    logits: Array, labels: Array, options: dict[str, Any]
) -> tuple[Mass, Array, Array, Array, float]:
    """For losses of the class alone: mass, p_y, ℓ_y, p − onehot, the rows' spread."""
    z = exact(by_rows(logits, options.get("axis", -1)))
    of = mass(labels, z.shape[1], **options)
    onehot = np.where(of.a != 0, Decimal(1), ZERO)
    log_p, _ = log_softmax(z)
    minus = (onehot * -log_p).sum(axis=1)
    return of, exp(-minus), minus, exp(log_p) - onehot, spread_of(z)


def _focus(base: Array, gamma: Decimal) -> Array:
    """base**gamma, where 0**0 is 1."""
    return np.frompyfunc(lambda x: x**gamma if x or gamma else Decimal(1), 1, 1)(base)


def _bent(base: Array, gamma: Decimal) -> Array:
    """The derivative of base**gamma, and 0 at 0, where it is always multiplied by 0."""
    return np.where(base != 0, gamma * _focus(base, gamma) / base, ZERO)


@decimals
def softmax_focal_loss(
    logits: Array, labels: Array, *, alpha: Any = None, gamma: float = 2.0, **options: Any
) -> Truth:
    """α_y (1 − p_y)^γ ℓ_y, its mean over the counted rows."""
    how, g = take(options, "reduction", "normalizer", "cotangent"), Decimal(gamma)
    of, p, loss, slope, spread = _of_class(logits, labels, options)
    classes = np.where(of.counted, labels.reshape(-1), 0).astype(int)
    per_class = np.ones(slope.shape[1]) * (1.0 if alpha is None else alpha)
    factor = exact(per_class)[classes] * of.once
    rest = _focus(1 - p, g)
    rows = factor * rest * loss
    outer = factor * (rest + _bent(1 - p, g) * p * loss)
    gradient = outer[:, None] * slope
    gradients = [(gradient, abs(gradient))]
    spread += abs(float(g)) * 2
    return finish(
        Rows(rows, rows, gradients, of.once, of.counted, spread),
        logits,
        options.get("axis", -1),
        **how,
    )


@decimals
def poly_cross_entropy(
    logits: Array, labels: Array, *, epsilon: float = 2.0, **options: Any
) -> Truth:
    """w_y (ℓ_y + ε (1 − p_y))."""
    how, e = take(options, "reduction", "normalizer", "cotangent"), Decimal(epsilon)
    of, p, loss, slope, spread = _of_class(logits, labels, options)
    rows = of.share * (loss + e * (1 - p))
    scale = of.share * (loss + abs(e) * (1 - p))
    gradient, size = (
        (of.share * (1 + x * p))[:, None] * y for x, y in ((e, slope), (abs(e), abs(slope)))
    )
    return finish(
        Rows(rows, scale, [(gradient, size)], of.share, of.counted, spread),
        logits,
        options.get("axis", -1),
        **how,
    )


@decimals
def kl_divergence(
    logits: Array, target_probs: Array, *, axis: int = -1, where: Any = None, **how: Any
) -> Truth:
    """Σ q (log q − log p), 0·log 0 = 0; its mean over rows."""
    z, q = exact(by_rows(logits, axis)), exact(by_rows(target_probs, axis))
    log_p, _ = log_softmax(z)
    log_q = np.where(q != 0, ln(np.where(q != 0, q, Decimal(1))), ZERO)
    total = q.sum(axis=1, keepdims=True)
    gradient, size = total * exp(log_p) - q, total * exp(log_p) + q
    # At q = 0 the slope by q is −∞ from the right; any finite convention will do, NaN will not.
    target_size = np.where(q != 0, abs(log_q) + 1 + abs(log_p), Decimal("Infinity"))
    gradients = [(gradient, size), (log_q + 1 - log_p, target_size)]
    counted = np.ones(len(z), dtype=bool) if where is None else where.reshape(-1)
    loss, scale = (q * (log_q - log_p)).sum(axis=1), (q * (abs(log_q) + abs(log_p))).sum(axis=1)
    rows = Rows(loss, scale, gradients, exact(np.ones(len(z))), counted, spread_of(z))
    return finish(rows, logits, axis, **how)


@decimals
def entropy(logits: Array, *, axis: int = -1, where: Any = None, **how: Any) -> Truth:
    """−Σ p log p of softmax(logits)."""
    log_p, _ = log_softmax(exact(by_rows(logits, axis)))
    p = exp(log_p)
    loss = -(p * log_p).sum(axis=1)
    counted = np.ones(len(p), dtype=bool) if where is None else where.reshape(-1)
    gradient, size = (
        -p * (log_p + loss[:, None]),
        p * (abs(log_p) + loss[:, None]),
    )
    share, spread = exact(np.ones(len(p))), spread_of(log_p)
    return finish(Rows(loss, loss, [(gradient, size)], share, counted, spread), logits, axis, **how)


def _elementwise(
    logits: Array, loss: Array, gradients: list[tuple[Array, Array]], where: Any, how: Any
) -> Truth:
    counted = np.ones(loss.shape, dtype=bool) if where is None else where.reshape(-1)
    spread = float(abs(exact(logits)).max(initial=ZERO))
    columns = [(g[:, None], size[:, None]) for g, size in gradients]
    rows = Rows(loss, loss, columns, exact(np.ones(loss.shape)), counted, spread)
    return finish(rows, logits, None, **how)


@decimals
def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    where: Any = None,
    label_smoothing: float = 0.0,
    **how: Any,
) -> Truth:
    """−w (pw y log σ(z) + (1 − y) log(1 − σ(z))), y smoothed towards 1/2."""
    z, epsilon = exact(logits).reshape(-1), Decimal(label_smoothing)
    y = exact(targets).reshape(-1) * (1 - epsilon) + epsilon / 2
    w, pos = (
        exact(np.broadcast_to(1.0 if x is None else x, logits.shape)).reshape(-1)
        for x in (weight, pos_weight)
    )
    hit, miss = -log_sigmoid(z), -log_sigmoid(-z)
    p, q, up, down = exp(-hit), exp(-miss), w * pos * y, w * (1 - y)
    by_logit = (down * p - up * q, down * p + up * q)
    by_target = (
        (1 - epsilon) * w * (pos * hit - miss),
        (1 - epsilon) * w * (pos * hit + miss),
    )
    return _elementwise(logits, up * hit + down * miss, [by_logit, by_target], where, how)


@decimals
def sigmoid_focal_loss(
    logits: Array,
    targets: Array,
    *,
    alpha: float | None = None,
    gamma: float = 2.0,
    where: Any = None,
    **how: Any,
) -> Truth:
    """α_t u^γ bce, where u = 1 − p_t is the probability not given to the target, α_t likewise."""
    z, y, g = exact(logits).reshape(-1), exact(targets).reshape(-1), Decimal(gamma)
    hit, miss = -log_sigmoid(z), -log_sigmoid(-z)
    p, q = exp(-hit), exp(-miss)
    bce, u = y * hit + (1 - y) * miss, q * y + p * (1 - y)
    on, off = (Decimal(1), Decimal(1)) if alpha is None else (Decimal(alpha), 1 - Decimal(alpha))
    a = on * y + off * (1 - y)
    focus, bent = _focus(u, g), _bent(u, g) * bce
    by_logit = a * (bent * p * q * (1 - 2 * y) + focus * ((1 - y) * p - y * q))
    logit_size = a * (bent * p * q + focus * ((1 - y) * p + y * q))
    by_target = a * (bent * (q - p) + focus * (hit - miss)) + (on - off) * focus * bce
    target_size = a * (bent + focus * (hit + miss)) + focus * bce
    gradients = [(by_logit, logit_size), (by_target, target_size)]
    return _elementwise(logits, a * focus * bce, gradients, where, how)
