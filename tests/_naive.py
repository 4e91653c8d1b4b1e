"""The losses as a textbook would write them in PyTorch, in float64, for autograd to differentiate.

They share no line with `_reference` nor with the library: all three must agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import log_softmax, logsigmoid, one_hot


def _reduce(
    rows: Any, share: Any, counted: Any, reduction: str = "mean", normalizer: Any = None
) -> Any:
    rows = torch.where(counted, rows, 0.0)
    if reduction == "none":
        return rows
    if reduction == "sum":
        return rows.sum()
    total = torch.where(counted, share, 0.0).sum() if normalizer is None else normalizer
    return rows.sum() / total


def _counted(targets: Any, where: Any, ignore_index: int | None, rows: Any) -> Any:
    counted = torch.ones(rows, dtype=torch.bool) if where is None else where
    soft = targets is None or targets.is_floating_point()
    return counted if soft or ignore_index is None else counted & (targets != ignore_index)


def _smooth(q: Any, label_smoothing: float, smoothing: str) -> Any:
    classes = q.shape[-1]
    if smoothing == "uniform":
        return (1 - label_smoothing) * q + label_smoothing / classes
    spread = (q.sum(-1, keepdim=True) - q) / (classes - 1)
    return (1 - label_smoothing) * q + label_smoothing * spread


def _of_log_probs(
    log_p: Any,
    targets: Any,
    *,
    weight: Any = None,
    sample_weight: Any = None,
    where: Any = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    extra: Any = 0.0,
    **how: Any,
) -> Any:
    counted = _counted(targets, where, ignore_index, log_p.shape[:-1])
    w = torch.ones(log_p.shape[-1], dtype=log_p.dtype) if weight is None else weight
    once = torch.ones(log_p.shape[:-1], dtype=log_p.dtype)
    once = once if sample_weight is None else sample_weight
    if targets.is_floating_point():
        q, share = targets, once
    else:
        labels = torch.where(counted, targets.long(), 0)
        q, share = one_hot(labels, log_p.shape[-1]).to(log_p.dtype), once * w[labels]
    rows = -(_smooth(q, label_smoothing, smoothing) * w * log_p).sum(-1) + extra
    return _reduce(rows * once, share, counted, **how)


def cross_entropy(
    z: Any, y: Any, *, axis: int = -1, z_loss: float = 0.0, softcap: Any = None, **how: Any
) -> Any:
    z = z.movedim(axis, -1)
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    y = y.movedim(axis, -1) if y.is_floating_point() else y
    return _of_log_probs(log_softmax(z, -1), y, extra=z_loss * z.logsumexp(-1) ** 2, **how)


def nll_loss(log_p: Any, y: Any, *, axis: int = -1, **how: Any) -> Any:
    y = y.movedim(axis, -1) if y.is_floating_point() else y
    return _of_log_probs(log_p.movedim(axis, -1), y, **how)


def linear_cross_entropy(x: Any, c: Any, y: Any, *, bias: Any = None, **how: Any) -> Any:
    return cross_entropy(x @ c.T + (0 if bias is None else bias), y, **how)


def next_token_cross_entropy(z: Any, tokens: Any, **how: Any) -> Any:
    for name in {"where", "sample_weight"} & set(how):
        how[name] = how[name][..., 1:]
    return cross_entropy(z[..., :-1, :], tokens[..., 1:], **how)


def _per_label(z: Any, y: Any, axis: int, how: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    log_p = log_softmax(z.movedim(axis, -1), -1)
    counted = _counted(y, how.pop("where", None), how.pop("ignore_index", -100), y.shape)
    labels = torch.where(counted, y.long(), 0)
    once = how.pop("sample_weight", None)
    once = torch.ones(y.shape, dtype=z.dtype) if once is None else once
    return log_p.gather(-1, labels[..., None])[..., 0], labels, counted, once


def softmax_focal_loss(
    z: Any, y: Any, *, axis: int = -1, alpha: Any = None, gamma: float = 2.0, **how: Any
) -> Any:
    log_p, labels, counted, once = _per_label(z, y, axis, how)
    a = 1.0 if alpha is None else alpha[labels] if torch.is_tensor(alpha) else alpha
    rows = -a * (1 - log_p.exp()) ** gamma * log_p
    return _reduce(rows * once, once, counted, **how)


def poly_cross_entropy(
    z: Any, y: Any, *, axis: int = -1, epsilon: float = 2.0, weight: Any = None, **how: Any
) -> Any:
    log_p, labels, counted, once = _per_label(z, y, axis, how)
    once = once if weight is None else once * weight[labels]
    return _reduce((epsilon * (1 - log_p.exp()) - log_p) * once, once, counted, **how)


def kl_divergence(z: Any, q: Any, *, axis: int = -1, where: Any = None, **how: Any) -> Any:
    z, q = z.movedim(axis, -1), q.movedim(axis, -1)
    rows = (torch.xlogy(q, q) - q * log_softmax(z, -1)).sum(-1)
    return _reduce(rows, torch.ones_like(rows), _counted(None, where, None, rows.shape), **how)


def entropy(z: Any, *, axis: int = -1, where: Any = None, **how: Any) -> Any:
    log_p = log_softmax(z.movedim(axis, -1), -1)
    rows = -(log_p.exp() * log_p).sum(-1)
    return _reduce(rows, torch.ones_like(rows), _counted(None, where, None, rows.shape), **how)


def binary_cross_entropy_with_logits(
    z: Any,
    y: Any,
    *,
    weight: Any = 1.0,
    pos_weight: Any = 1.0,
    where: Any = None,
    label_smoothing: float = 0.0,
    **how: Any,
) -> Any:
    y = y.to(z.dtype) * (1 - label_smoothing) + label_smoothing / 2
    rows = -weight * (pos_weight * y * logsigmoid(z) + (1 - y) * logsigmoid(-z))
    return _reduce(rows, torch.ones_like(rows), _counted(None, where, None, z.shape), **how)


def sigmoid_focal_loss(
    z: Any, y: Any, *, alpha: Any = None, gamma: float = 2.0, where: Any = None, **how: Any
) -> Any:
    y, p = y.to(z.dtype), torch.sigmoid(z)
    missed = 1 - (p * y + (1 - p) * (1 - y))
    a = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    rows = -a * missed**gamma * (y * logsigmoid(z) + (1 - y) * logsigmoid(-z))
    return _reduce(rows, torch.ones_like(rows), _counted(None, where, None, z.shape), **how)
