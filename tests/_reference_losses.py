"""The row losses of `_reference`, one function each; see there for the method."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from _reference import (
    ZERO,
    Array,
    Rows,
    Truth,
    by_rows,
    counted_rows,
    decimals,
    exact,
    exp,
    finish,
    ln,
    log_softmax,
    spread_of,
)


@dataclass(frozen=True)
class Mass:
    """Smoothed, class-weighted targets of each row, and what else a row carries."""

    a: Array  # (rows, K)
    share: Array  # (rows,) of the mean's denominator
    once: Array  # (rows,) sample weights
    counted: Array
    weight: Array  # (K,)
    epsilon: Decimal
    smoothing: str
    soft: bool

    def terms(self, minus_log_p: Array) -> Array:
        """a_c ℓ_c, where 0·inf is 0."""
        return np.where(self.a != 0, self.a * minus_log_p, ZERO)

    def target_slope(self, minus_log_p: Array) -> tuple[Array, Array]:
        """Return the derivative of Σ a_c ℓ_c by each probability (it is linear in them)."""
        each, once = minus_log_p * self.weight, self.once[:, None]
        slope, size = (1 - self.epsilon) * each, (1 - self.epsilon) * abs(each)
        if self.smoothing == "others":
            share = self.epsilon / (len(self.weight) - 1)
            slope = slope + share * (each.sum(axis=1, keepdims=True) - each)
            size = size + share * abs(each).sum(axis=1, keepdims=True)
        return slope * once, size * once


def mass(
    targets: Array,
    classes: int,
    *,
    axis: int = -1,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
) -> Mass:
    """Say what the targets and the options of cross_entropy make of each row."""
    soft, epsilon = targets.dtype.kind == "f", Decimal(label_smoothing)
    w = exact(np.ones(classes) if weight is None else weight)
    if soft:
        q = exact(by_rows(targets, axis))
        counted = counted_rows(q[:, 0], where, None)
        share = exact(np.ones(len(q)))
    else:
        counted = counted_rows(targets, where, ignore_index)
        labels = np.where(counted, targets.reshape(-1), 0).astype(int)
        q, share = exact(np.eye(classes))[labels], w[labels]
    if smoothing == "uniform":
        q = (1 - epsilon) * q + epsilon / classes
    else:
        q = (1 - epsilon) * q + epsilon * (q.sum(axis=1, keepdims=True) - q) / (classes - 1)
    once = exact(np.ones(len(q)) if sample_weight is None else sample_weight.reshape(-1))
    return Mass(q * w, share * once, once, counted, w, epsilon, smoothing, soft)


def cross_entropy_rows(
    logits: Array, of: Mass, z_loss: float = 0.0, softcap: float | None = None
) -> Rows:
    """Rows of cross_entropy from decimal logits (rows, K)."""
    z, slope, spread, once = logits, Decimal(1), spread_of(logits), of.once[:, None]
    if softcap is not None:
        fall = exp(-2 * z / Decimal(softcap))
        tanh = (1 - fall) / (1 + fall)
        z, slope = Decimal(softcap) * tanh, 1 - tanh * tanh
        spread += 2 * float(abs(z).max(initial=ZERO))
    log_p, lse = log_softmax(z)
    p, penalty, terms = exp(log_p), Decimal(z_loss), of.terms(-log_p)
    size = abs(z).max(axis=1, initial=ZERO) + ln(Decimal(z.shape[1]))
    total = of.a.sum(axis=1, keepdims=True)
    pull, sizes = ((2 * penalty * x)[:, None] * p for x in (lse, size))
    gradients = [
        ((total * p - of.a + pull) * slope * once, (total * p + of.a + sizes) * slope * once)
    ]
    if of.soft:
        gradients.append(of.target_slope(-log_p))
    return Rows(
        loss=(terms.sum(axis=1) + penalty * lse * lse) * of.once,
        scale=(terms.sum(axis=1) + penalty * abs(lse) * size) * of.once,
        gradients=gradients,
        share=of.share,
        counted=of.counted,
        spread=spread,
    )


def take(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Move these options out into a dict of their own."""
    return {name: options.pop(name) for name in names if name in options}


@decimals
def cross_entropy(logits: Array, targets: Array, **options: Any) -> Truth:
    """Σ a_c ℓ_c + λ lse², with every option."""
    how = take(options, "reduction", "normalizer", "cotangent")
    own, axis = take(options, "z_loss", "softcap"), options.get("axis", -1)
    z = exact(by_rows(logits, axis))
    rows = cross_entropy_rows(z, mass(targets, z.shape[1], **options), **own)
    return finish(rows, logits, axis, **how)


@decimals
def nll_loss(log_probs: Array, targets: Array, **options: Any) -> Truth:
    """Σ a_c (−log p_c): linear in its first argument, which need not be normalised."""
    how, axis = take(options, "reduction", "normalizer", "cotangent"), options.get("axis", -1)
    lp = exact(by_rows(log_probs, axis))
    of = mass(targets, lp.shape[1], **options)
    terms, by_logit = of.terms(-lp), of.a * of.once[:, None]
    gradients = [(-by_logit, by_logit)]
    if of.soft:
        gradients.append(of.target_slope(-lp))
    loss, scale = (x.sum(axis=1) * of.once for x in (terms, abs(terms)))
    return finish(Rows(loss, scale, gradients, of.share, of.counted, 0.0), log_probs, axis, **how)


@decimals
def linear_cross_entropy(
    features: Array, classifier: Array, targets: Array, *, bias: Array | None = None, **options: Any
) -> Truth:
    """cross_entropy of features @ classifier.T + bias; gradients of all three."""
    how = take(options, "reduction", "normalizer", "cotangent")
    own = take(options, "z_loss", "softcap")
    x, c = exact(features.reshape(-1, features.shape[-1])), exact(classifier)
    b = exact(np.zeros(len(c)) if bias is None else bias)
    rows = cross_entropy_rows(x @ c.T + b, mass(targets, len(c), **options), **own)
    rows.spread += float((abs(x) @ abs(c).T + abs(b)).max(initial=ZERO)) * 2
    truth = finish(rows, np.empty((*features.shape[:-1], len(c))), -1, **how)
    g, s = truth.exact_gradients[0]
    pairs = [
        (g @ c, s @ abs(c), features.shape),
        (g.T @ x, s.T @ abs(x), classifier.shape),
        (g.sum(axis=0), s.sum(axis=0), b.shape),
    ]
    truth.gradients = [a.reshape(shape).astype(np.float64) for a, _, shape in pairs]
    truth.gradient_scales = [a.reshape(shape).astype(np.float64) for _, a, shape in pairs]
    return truth


def next_token_cross_entropy(logits: Array, tokens: Array, **options: Any) -> Truth:
    """cross_entropy of each position against the token after it."""
    per_token = {k: options.pop(k)[..., 1:] for k in ("sample_weight", "where") if k in options}
    truth = cross_entropy(logits[..., :-1, :], tokens[..., 1:], **per_token, **options)
    last = [(0, 0)] * (logits.ndim - 2) + [(0, 1), (0, 0)]
    truth.gradients = [np.pad(g, last) for g in truth.gradients]
    truth.gradient_scales = [np.pad(g, last) for g in truth.gradient_scales]
    return truth
