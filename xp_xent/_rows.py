"""The arrays of a loss as kernels see them, and the steps that kernels begin and end with."""

from typing import Any, NamedTuple

from xp_xent._stable import product

Array = Any


class Rows(NamedTuple):
    """The arrays of a loss, class axis last: (..., K), or (..., 1) for one number a row.

    An adapter may have the class axis elsewhere, `Backend.axis`; the shapes are written as if last.
    A loss whose elements stand alone (binary cross-entropy) is one of rows with K = 1.
    """

    logits: Array = None  # (..., K); None while they are yet to be computed
    counted: Array | None = None  # (..., 1) boolean; None: every row
    scale: Array | None = None  # (..., 1), what multiplies the row's loss
    fine: Array | None = None  # (..., 1), 1, or NaN where Python could not refuse the label
    label: Array | None = None  # (..., 1) class indices within 0 … K − 1
    label_weight: Array | None = None  # (..., 1), the class weight of the label; None: 1
    spread: Array | None = None  # (1, …, K), mass that label smoothing gives to each class
    probabilities: Array | None = None  # (..., K), targets that are not labels
    class_weight: Array | None = None  # (1, …, K), with probabilities; pos_weight if binary


def open_rows(backend: Any, rows: Rows, dtype: Any, array: Array | None = None) -> Array:
    """Convert logits (or another array of the rows) and blank the rows that do not count."""
    array = rows.logits if array is None else array
    array = backend.arranged(array, dtype)
    return array if rows.counted is None else backend.masked(array, rows.counted)


def close_loss(backend: Any, rows: Rows, loss: Array) -> Array:
    """Scale the rows' losses; 0 where a row does not count."""
    given = rows.scale, rows.fine, rows.counted
    if all(x is None for x in given):
        return loss
    # Without the axis of length one, along which a compiler may run its loops.
    xp, axis = backend.xp, backend.axis
    scale, fine, counted = (None if x is None else xp.squeeze(x, axis=axis) for x in given)
    loss = xp.squeeze(loss, axis=axis)
    if scale is not None:
        loss = product(xp, scale, loss)
    if fine is not None:
        loss = fine * loss
    if counted is not None:
        loss = xp.where(counted, loss, 0.0)
    return xp.expand_dims(loss, axis=axis)


def close_gradient(
    backend: Any, rows: Rows, gradient: Array, cotangent: Array | float, like: Array | None = None
) -> Array:
    """Scale gradients that a kernel made, then as `settle_gradient`."""
    gradient = backend.multiply_(gradient, row_factor(rows, cotangent))
    return settle_gradient(backend, rows, gradient, rows.logits if like is None else like)


def settle_gradient(backend: Any, rows: Rows, gradient: Array, like: Array) -> Array:
    """Make gradients exactly 0 where a row does not count, and round them once."""
    if rows.counted is not None:
        gradient = backend.blank_(gradient, rows.counted)
    return backend.cast(gradient, like.dtype)


def row_factor(rows: Rows, cotangent: Array | float) -> Array | float:
    """Give what a row's gradient is multiplied by, (..., 1): its scale, `fine` and cotangent."""
    factor = cotangent
    for other in (rows.scale, rows.fine):
        if other is not None:
            factor = other * factor
    return factor
