"""The truth, slow and plain: each loss in decimal arithmetic of 120 digits, its gradient by hand.

A row of logits z that puts the mass a_c on class c has the loss Σ a_c (lse − z_c) + λ lse²; with
A = Σ a_c its gradient is A p_j − a_j + 2λ lse p_j. Everything about labels, smoothing and class
weights is in a. Beside each sum stands its scale, the same sum without signs: an error is small
when it is small against that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ZERO = Decimal(0)

exp = np.frompyfunc(lambda x: x.exp(), 1, 1)
ln = np.frompyfunc(lambda x: x.ln(), 1, 1)
_decimal = np.frompyfunc(Decimal, 1, 1)


def exact(values: Any) -> Array:
    """Floats as decimals, with no rounding; decimals as they are."""
    values = np.asarray(values)
    floats = values if values.dtype == object else values.astype(np.float64)
    return np.asarray(_decimal(floats), dtype=object)


def decimals(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run `function` with 120 digits, NaN quiet."""

    @functools.wraps(function)
    def run(*arrays: Any, **options: Any) -> Any:
        with localcontext(Context(prec=120, traps=[])):
            return function(*arrays, **options)

    return run


@dataclass
class Rows:
    """Unreduced rows: loss and its scale, then (gradient, scale) of each array, row by row."""

    loss: Array
    scale: Array
    gradients: list[tuple[Array, Array]]
    share: Array
    counted: Array
    spread: float


@dataclass
class Truth:
    """What a loss must answer, in float64, and how its terms add up without their signs."""

    value: Array
    scale: Array
    gradients: list[Array]
    gradient_scales: list[Array]
    spread: float = 0.0
    exact_gradients: list[tuple[Array, Array]] = field(default_factory=list)


def by_rows(array: Array, axis: int) -> Array:
    """(…, K, …) as (rows, K)."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def from_rows(rows: Array, like: Array, axis: int) -> Array:
    """(rows, K) back in the shape of `like`."""
    moved = np.moveaxis(like, axis, -1)
    return np.moveaxis(rows.reshape(moved.shape), -1, axis)


def log_softmax(z: Array) -> tuple[Array, Array]:
    """Rows of log p, and lse."""
    top = z.max(axis=1, keepdims=True)
    lse = top + ln(exp(z - top).sum(axis=1, keepdims=True))
    return z - lse, lse[:, 0]


def log_sigmoid(z: Array) -> Array:
    """log(1/(1 + e^−z)) of decimals."""
    return -ln(1 + exp(-z))


def spread_of(z: Array) -> float:
    """Return the largest distance between two logits of a row: no log-odds is larger."""
    return float((z.max(axis=1) - z.min(axis=1)).max()) if z.size else 0.0


def finish(
    rows: Rows,
    like: Array,
    axis: int | None,
    *,
    reduction: str = "mean",
    normalizer: float | None = None,
    cotangent: Any = None,
) -> Truth:
    """Leave out what is not counted, reduce, scale the gradients; axis None: a row an element."""
    shape = like.shape if axis is None else np.moveaxis(like, axis, -1).shape[:-1]
    keep, total = rows.counted, Decimal(1)
    loss, scale, share = (np.where(keep, x, ZERO) for x in (rows.loss, rows.scale, rows.share))
    if reduction == "mean":
        total = share.sum() if normalizer is None else Decimal(normalizer)
    if reduction == "none":
        value, size = loss.reshape(shape), scale.reshape(shape)
    elif total == 0:
        value, size, total = np.nan, np.nan, Decimal(1)
    else:
        value, size = loss.sum() / total, scale.sum() / total
    factor = exact(np.broadcast_to(1.0 if cotangent is None else cotangent, shape)).reshape(-1, 1)
    factor = np.where(keep[:, None], factor / total, ZERO)
    pairs = [(g * factor, s * abs(factor)) for g, s in rows.gradients]

    def restore(per_row: Array) -> Array:
        back = per_row.reshape(like.shape) if axis is None else from_rows(per_row, like, axis)
        return back.astype(np.float64)

    return Truth(
        value=np.asarray(value, dtype=np.float64),
        scale=np.asarray(size, dtype=np.float64),
        gradients=[restore(g) for g, _ in pairs],
        gradient_scales=[restore(s) for _, s in pairs],
        spread=rows.spread,
        exact_gradients=pairs,
    )


def counted_rows(labels: Array, where: Array | None, ignore_index: int | None) -> Array:
    """Which rows take part, as (rows,)."""
    counted = np.ones(labels.size, dtype=bool) if where is None else where.reshape(-1)
    return counted if ignore_index is None else counted & (labels.reshape(-1) != ignore_index)
