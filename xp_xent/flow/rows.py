"""From values to rows: labels within range or refused, which rows count, and by how much."""

from functools import partial
from typing import Any

import numpy as np

from xp_xent.backends import to_numpy
from xp_xent.backends._numbers import dtype_kind, is_zero
from xp_xent.flow.options import BINARY, is_number
from xp_xent.flow.plan import RowPlan
from xp_xent.flow.validate import smoothing_of
from xp_xent.kernels.label_smoothing import Smoothing
from xp_xent.kernels.rows import Rows

Array = Any
Options = dict[str, Any]


def target_rows(
    plan: RowPlan, like: Array, targets: Array, options: Options, shift: int = 0
) -> tuple[Rows, Array | None]:
    """Lay out everything of the rows but the logits, and the weights of the mean's denominator."""
    if plan.has_labels:
        return label_rows(plan, like, targets, options, shift)
    return probability_rows(plan, like, targets, options)


def label_rows(
    plan: RowPlan, like: Array, labels: Array, options: Options, shift: int
) -> tuple[Rows, Array | None]:
    """Lay out the rows of integer labels."""
    backend, xp = plan.backend, plan.backend.xp
    label, checked = backend.cast(labels, plan.index_dtype), None
    readable, ignored = backend.can_read_values(labels), options.get("ignore_index")
    if readable and backend.all_between(label, 0, plan.classes - 1):
        # Then only a class can be the label to ignore.
        is_class = ignored is not None and 0 <= ignored < plan.classes
        valid = valid_mask(backend, options, labels if is_class else None)
    else:
        known = (label >= 0) & (label < plan.classes)
        label = xp.where(known, label, 0)
        valid = valid_mask(backend, options, labels)
        passed = known if valid is None else known | ~valid
        # A mask may be traced where labels are not, and the other way round.
        refusal = partial(_out_of_range, plan.names[1], plan.classes - 1, ignored, shift)
        if readable and (valid is None or backend.can_read_values(valid)):
            if not bool(xp.all(passed)):
                position = tuple(int(i) for i in np.argwhere(~to_numpy(passed))[0])
                raise refusal(to_numpy(labels)[position], position)
        elif (later := backend._refused_later(label, labels, passed, refusal)) is not None:
            label = later
        else:  # Where Python cannot look at the values, a label out of range makes its row NaN.
            # Not a row that does not count: its NaN would reach the weights' derivatives.
            checked = xp.where(passed, backend.full((), 1.0, plan.dtype, like=labels), xp.nan)
    class_weight, in_mean = _class_weights(plan, like, options), None
    label_weight = _of_label(plan, class_weight, label)
    if options.get("alpha") is None:
        in_mean = label_weight
    elif options.get("weight") is not None:
        in_mean = _of_label(plan, backend.cast(options["weight"], plan.dtype), label)
    row_weight, denominator_weight = _weights(plan, like, valid, options, in_mean)
    rows = Rows(
        valid=plan.to_column(valid),
        row_weight=plan.to_column(row_weight),
        nan_if_out_of_range=plan.to_column(checked),
        label=plan.to_column(label),
        label_weight=plan.to_column(label_weight),
        class_valid=plan.class_mask(options.get("class_where"), like),
    )
    smoothing = smoothing_of(options, plan.classes)
    if not is_zero(smoothing.epsilon):
        rows = _smoothed(plan, like, rows, smoothing, class_weight)
    return rows, denominator_weight


def _class_weights(plan: RowPlan, like: Array, options: Options) -> Array | None:
    """Return what multiplies the term of each class, (K,): its weight, times alpha."""
    weight, alpha, backend = options.get("weight"), options.get("alpha"), plan.backend
    if alpha is None:
        # Once: of two conversions each would round its part of the derivative.
        return None if weight is None else backend.cast(weight, plan.dtype)
    if is_number(alpha):
        alpha = backend.full((plan.classes,), 1.0, plan.dtype, like=like) * alpha
    alpha = backend.cast(alpha, plan.dtype)
    return alpha if weight is None else backend.cast(weight, plan.dtype) * alpha


def _of_label(plan: RowPlan, weight: Array | None, label: Array) -> Array | None:
    """Return each label's own of class weights."""
    return None if weight is None else plan.backend._entries(weight, label)


def _smoothed(
    plan: RowPlan, like: Array, rows: Rows, smoothing: Smoothing, class_weight: Array | None
) -> Rows:
    """Spread mass over the classes of rows that have labels."""
    backend, mass = plan.backend, rows.label_weight
    if mass is None:
        mass = backend.full((1,) * len(rows.label.shape), 1.0, plan.dtype, like=like)
    kept, given = 1 - smoothing.epsilon, smoothing.epsilon
    if rows.class_valid is None:  # else the kernel divides it among the row's classes
        given = smoothing.mass_per_class(plan.classes)
    by_class, each = plan.class_row(class_weight), None
    if by_class is None:
        by_class = backend.full(plan.one_row(), 1.0, plan.dtype, like=like)
        each = given * backend.full((1,) * len(plan.shape), 1.0, plan.dtype, like=like)
    return rows._replace(
        label_weight=kept * mass, smoothing_mass=given * by_class, smoothing_each=each
    )


def probability_rows(
    plan: RowPlan, like: Array, targets: Array | None, options: Options
) -> tuple[Rows, Array | None]:
    """Lay out the rows of probability targets, or of a loss without targets."""
    valid = valid_mask(plan.backend, options, None)
    row_weight, denominator_weight = _weights(plan, like, valid, options, None)
    rows = Rows(
        valid=plan.to_column(valid),
        row_weight=plan.to_column(row_weight),
        probabilities=None if targets is None else plan.to_kernel(targets),
        class_weight=plan.class_row(_class_weights(plan, like, options)),
        class_valid=plan.class_mask(options.get("class_where"), like),
    )
    return rows, denominator_weight


def valid_mask(backend: Any, options: Options, labels: Array | None) -> Array | None:
    """Return which rows count, (...,); None where all are known to."""
    valid, ignored = options.get("where"), options.get("ignore_index")
    if labels is not None and ignored is not None:
        low, high = _limits(backend.xp, labels.dtype)
        if low <= (index := int(ignored)) <= high:
            # As an array of that dtype: JAX takes no number beyond int32.
            kept = labels != backend.full((), index, labels.dtype, like=labels)
            valid = kept if valid is None else valid & kept
    known_now = valid is not None and backend.can_read_values(valid)
    return None if known_now and bool(backend.xp.all(valid)) else valid


def _limits(xp: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the least and the largest number of a dtype."""
    kind = dtype_kind(dtype)
    if kind == "bool":
        return 0, 1
    limits = xp.iinfo(dtype) if kind == "integer" else xp.finfo(dtype)
    return limits.min, limits.max


def _weights(
    plan: RowPlan,
    like: Array,
    valid: Array | None,
    options: Options,
    class_weight: Array | None,
) -> tuple[Array | None, Array | None]:
    """Return what multiplies a row's loss, and what the row adds to the mean's denominator."""
    xp, row_weight = plan.backend.xp, options.get("sample_weight")
    if row_weight is not None:
        row_weight = plan.backend.cast(row_weight, plan.dtype)
        if valid is not None:
            row_weight = xp.where(valid, row_weight, 0.0)
    if row_weight is None or class_weight is None:
        in_mean = class_weight if row_weight is None else row_weight
    else:
        in_mean = row_weight * class_weight
    if valid is not None and in_mean is None:
        in_mean = plan.backend.cast(valid, plan.dtype)
    elif valid is not None:
        in_mean = xp.where(valid, in_mean, 0.0)
    return row_weight, plan.counts(like) if in_mean is None else in_mean


def _out_of_range(
    name: str, last: int, ignored: Any, shift: int, value: Any, position: tuple[int, ...]
) -> ValueError:
    if shift:
        position = (*position[:-1], position[-1] + shift)
    hint = "; is the class axis right, or do labels start at 1?" if last else BINARY
    return ValueError(
        f"{name}: got label {value} at position {position}, wanted 0 … {last} "
        f"(classes along the class axis) or ignore_index={ignored}{hint}"
    )
