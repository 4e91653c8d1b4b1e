"""The arrays of a loss as kernels see them, and the steps that every kernel ends with."""

from typing import Any, NamedTuple

from xp_xent._stable import product

Array = Any


class Rows(NamedTuple):
    """The arrays of a loss, class axis last: (..., K), or (..., 1) for one number a row.

    A loss whose elements stand alone (binary cross-entropy) is one of rows with K = 1.
    """

    logits: Array  # (..., K)
    counted: Array | None = None  # (..., 1) boolean; None: every row
    scale: Array | None = None  # (..., 1), what multiplies the row's loss
    label: Array | None = None  # (..., 1) class indices within 0 … K − 1
    label_weight: Array | None = None  # (..., 1), the class weight of the label; None: 1
    spread: Array | None = None  # (1, …, K), mass that label smoothing gives to each class
    probabilities: Array | None = None  # (..., K), targets that are not labels
    class_weight: Array | None = None  # (1, …, K), with probabilities; pos_weight if binary


def open_rows(xp: Any, rows: Rows, dtype: Any, array: Array | None = None) -> Array:
    """Convert logits (or another array of the rows) and blank the rows that do not count."""
    array = xp.astype(rows.logits if array is None else array, dtype, copy=False)
    # A row that does not count may hold NaN, which a product with zero would let through.
    return array if rows.counted is None else xp.where(rows.counted, array, 0.0)


def close_loss(xp: Any, rows: Rows, loss: Array) -> Array:
    """Scale the rows' losses; 0 where a row does not count."""
    if rows.scale is not None:
        loss = product(xp, rows.scale, loss)
    return loss if rows.counted is None else xp.where(rows.counted, loss, 0.0)


def close_gradient(
    xp: Any, rows: Rows, gradient: Array, cotangent: Array | None, like: Array | None = None
) -> Array:
    """Scale the rows' gradients, exactly 0 where a row does not count, and round them once."""
    for factor in (rows.scale, cotangent):
        if factor is not None:
            gradient = factor * gradient
    if rows.counted is not None:
        gradient = xp.where(rows.counted, gradient, 0.0)
    return xp.astype(gradient, (rows.logits if like is None else like).dtype, copy=False)
