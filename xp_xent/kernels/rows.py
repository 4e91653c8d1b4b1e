"""The arrays of a loss as kernels see them, and the steps that kernels begin and end with."""

from typing import Any, NamedTuple

from xp_xent.kernels.elementary import product

Array = Any


class Rows(NamedTuple):
    """The arrays of a loss, class axis last: (..., K), or (..., 1) for one number a row.

    An adapter may have it elsewhere, `Backend.class_axis`; the shapes are written as if last. A
    loss whose elements stand alone (binary cross-entropy) is one of rows with K = 1.
    """

    logits: Array = None  # (..., K); None while they are yet to be computed
    valid: Array | None = None  # (..., 1) boolean; None: every row
    row_weight: Array | None = None  # (..., 1), what multiplies the row's loss
    nan_if_out_of_range: Array | None = None  # (..., 1), else 1; of a label not refused by value
    label: Array = None  # (..., 1) class indices within 0 … K − 1; None without labels
    label_weight: Array | None = None  # (..., 1), the class weight of the label; None: 1
    smoothing_mass: Array | None = None  # (1, …, K), mass that label smoothing gives to each class
    smoothing_each: Array | None = None  # (1, …, 1), that mass where it is the same for each class
    probabilities: Array = None  # (..., K), targets that are not labels; None without
    class_weight: Array | None = None  # (1, …, K), with probabilities; pos_weight if binary
    alpha: Array | None = None  # of sigmoid focal, where it is an array
    class_valid: Array | None = None  # (..., K) boolean, or 1 for K's other axes; None: every class
    weighted: bool = True  # whether `valid`, `row_weight` or `nan_if_out_of_range` may be there


def valid_rows(backend: Any, rows: Rows, dtype: Any, array: Array | None = None) -> Array:
    """Convert logits (or another array of the rows) and blank the rows that do not count."""
    array = rows.logits if array is None else array
    array = backend.kernel_layout(array, dtype)
    if rows.valid is None or not backend.differentiable:
        return array  # what a kernel returns is blanked again
    # Another's NaN must not reach automatic differentiation.
    return backend.xp.where(rows.valid, array, 0.0)


def finish_loss(backend: Any, rows: Rows, loss: Array) -> Array:
    """Weight the rows' losses; 0 where a row does not count."""
    weight, checked, valid = rows.row_weight, rows.nan_if_out_of_range, rows.valid
    if weight is None and checked is None and valid is None:
        return loss
    # Without the axis of length one, along which a compiler may run its loops.
    xp, axis = backend.xp, backend.class_axis
    weight, checked, valid, loss = (
        None if x is None else xp.squeeze(x, axis=axis) for x in (weight, checked, valid, loss)
    )
    if weight is not None:
        loss = product(xp, weight, loss)
    if checked is not None:
        loss = checked * loss
    if valid is not None:
        loss = xp.where(valid, loss, 0.0)
    return xp.expand_dims(loss, axis=axis)


def finish_gradient(
    backend: Any, rows: Rows, gradient: Array, cotangent: Array | float, like: Array | None = None
) -> Array:
    """Weight gradients, make them exactly 0 where a row does not count, and round them once.

    The dtype is that of `like`, of the logits without it.
    """
    gradient = backend.scale_rows(gradient, row_factor(rows, cotangent), rows.valid)
    return backend.cast(gradient, (rows.logits if like is None else like).dtype)


def row_factor(rows: Rows, cotangent: Array | float) -> Array | float:
    """Return what a row's gradient is multiplied by, (..., 1): weight, NaN or 1, and cotangent."""
    factor = cotangent
    if rows.row_weight is not None:
        factor = rows.row_weight * factor
    if rows.nan_if_out_of_range is not None:
        factor = rows.nan_if_out_of_range * factor
    return factor
