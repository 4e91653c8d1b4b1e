"""From values to rows: labels within range or refused, which rows count, and by how much."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent.backends import to_numpy
from xp_xent.backends._numbers import dtype_kind
from xp_xent.flow import checks as check
from xp_xent.flow import validate
from xp_xent.flow.execute import Evaluation, EvaluationWithStats, Reduction
from xp_xent.flow.options import (
    AT_LEAST_0,
    SOFTCAP,
    TEMPERATURE,
    UNIT,
    Range,
    is_number,
    masks,
    numbers,
)  # fmt: skip
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.validate import BINARY
from xp_xent.kernels.elementary import is_zero
from xp_xent.kernels.label_smoothing import Smoothing
from xp_xent.kernels.row_metrics import SoftmaxWithMetrics
from xp_xent.kernels.rows import Rows
from xp_xent.kernels.softmax import Softmax

Array = Any
Options = dict[str, Any]

# Of `softmax_kernel`.
SOFTMAX_NUMBERS = {
    "label_smoothing": UNIT, "z_loss": AT_LEAST_0, "softcap": SOFTCAP, "temperature": TEMPERATURE,
}  # fmt: skip


class RowLoss(Loss):
    """A loss of rows of classes; `kernel` makes its formulas for a dtype and the options.

    `spread_kernel` does where the mass of a row lies on several classes, if that needs others.
    """

    shift = 0  # what is added to a label's position in a message
    plan_type = RowPlan

    def __init__(
        self,
        kernel: Callable[[Any, Options], Any],
        arguments: tuple[str, ...] = ("logits", "targets"),
        *,
        ranges: dict[str, Range] | None = None,
        spread_kernel: Callable[[Any, Options], Any] | None = None,
    ) -> None:
        super().__init__(arguments, ranges, labels=arguments[1])
        self._kernel, self._spread_kernel = kernel, spread_kernel or kernel

    def validate(self, arrays: tuple[Array, ...], options: Options) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        named = dict(zip(self.arguments, arrays, strict=True))
        plan = validate.row_plan(named, options, self.arguments, plan_type=self.plan_type)
        plan.has_labels = self._has_labels(plan, arrays, options)
        options = numbers(self.ranges, plan.backend, plan.dtype, arrays[0], options)
        kernel = self._checked_kernel(plan, options)
        if self.settled(options):
            plan.kernel = kernel
            if plan.has_labels and _is_plain(plan, options):
                plan.reduction = Reduction.of(plan, options)
        return plan

    def _has_labels(self, plan: RowPlan, arrays: tuple[Array, ...], options: Options) -> bool:
        name, targets = self.arguments[1], arrays[1]
        if validate.is_labels(plan, targets, options["axis"]):
            return True
        validate.no_label_to_ignore(name, options)
        return False

    def prepare(self, plan: RowPlan, arrays: tuple[Array, ...], options: Options) -> Evaluation:
        """Return the evaluation of a call, or refuse its values."""
        (logits, targets), backend = arrays, plan.backend
        evaluation = EvaluationWithStats if options.get("return_stats") else Evaluation
        if plan.moves_axis:
            logits = plan.to_kernel(logits)
        if plan.reduction is not None and backend.can_read_values(targets):
            label = targets
            if label.dtype != plan.index_dtype:
                label = backend.cast(label, plan.index_dtype)
            if backend.all_between(label, 0, plan.classes - 1):
                rows = Rows(logits, label=label[plan.column], weighted=False)
                return evaluation(plan, plan.kernel, rows, plan.reduction)
        options = numbers(self.ranges, backend, plan.dtype, arrays[0], options)
        kernel = plan.kernel or self._checked_kernel(plan, options)
        targets, aligned = self.aligned(plan, targets, masks(backend, options))
        rows, weight = target_rows(plan, arrays[0], targets, aligned, self.shift)
        reduction = Reduction.of(plan, options, weight)
        rows = rows._replace(logits=logits)
        return evaluation(plan, kernel, rows, reduction)

    def _checked_kernel(self, plan: RowPlan, options: Options) -> Any:
        smoothing = smoothing_of(options, plan.classes)
        spread = not plan.has_labels or not is_zero(smoothing.epsilon)
        kernel = self._spread_kernel if spread else self._kernel
        return kernel(plan.dtype, options)

    def aligned(self, plan: RowPlan, targets: Array, options: Options) -> tuple[Array, Options]:
        """Return targets, and options of one number a row, beside the logits that they are of."""
        return targets, options


def _is_plain(plan: RowPlan, options: Options) -> bool:
    """Return whether no option says anything of rows or classes."""
    names = ("weight", "alpha", "sample_weight", "where", "class_where", "normalizer")
    ignored = options.get("ignore_index")
    no_class = ignored is None or not 0 <= ignored < plan.classes
    known = None not in plan.rows_shape
    return known and no_class and all(options.get(name) is None for name in names)


def smoothing_of(options: Options, classes: int | None = None) -> Smoothing:
    """Make of the options of label smoothing what smooths, or refuse them."""
    epsilon, kind = options.get("label_smoothing", 0.0), options.get("smoothing", "uniform")
    check.choice("smoothing", kind, validate.SMOOTHINGS)
    if not is_zero(epsilon) and kind == "others" and check.known(classes, 1):
        raise ValueError("smoothing: 'others' needs at least two classes, got one")
    return Smoothing(epsilon, kind)


def softmax_kernel(dtype: Any, options: dict[str, Any]) -> Softmax:
    """Return cross-entropy's formulas with these options."""
    names = ("z_loss", "softcap", "temperature")
    kind = SoftmaxWithMetrics if check.flag("return_stats", options["return_stats"]) else Softmax
    return kind(dtype, smoothing=smoothing_of(options), **{name: options[name] for name in names})


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
        if readable and (valid is None or backend.can_read_values(valid)):
            _refuse_out_of_range(plan, labels, passed, ignored, shift)
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
    if weight is None:
        return None
    xp, backend = plan.backend.xp, plan.backend
    if None in label.shape:  # in which nothing can be reshaped to
        at_label = backend.indices(weight, -1) == xp.expand_dims(label, axis=-1)
        return xp.sum(xp.where(at_label, weight, 0.0), axis=-1)
    return xp.reshape(xp.take(weight, xp.reshape(label, (-1,)), axis=0), label.shape)


def _smoothed(
    plan: RowPlan, like: Array, rows: Rows, smoothing: Smoothing, class_weight: Array | None
) -> Rows:
    """Spread mass over the classes of rows that have labels."""
    backend, mass = plan.backend, rows.label_weight
    if mass is None:
        mass = backend.full((1,) * len(rows.label.shape), 1.0, plan.dtype, like=like)
    by_class = plan.class_row(class_weight)
    if by_class is None:
        by_class = backend.full(plan.one_row(), 1.0, plan.dtype, like=like)
    kept, given = 1 - smoothing.epsilon, smoothing.epsilon
    if rows.class_valid is None:  # else the kernel divides it among the row's classes
        given = smoothing.mass_per_class(plan.classes)
    return rows._replace(label_weight=kept * mass, smoothing_mass=given * by_class)


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


def _refuse_out_of_range(
    plan: RowPlan, labels: Array, passed: Array, ignored: Any, shift: int
) -> None:
    if bool(plan.backend.xp.all(passed)):
        return
    first = np.argwhere(~to_numpy(passed))[0]
    value = to_numpy(labels)[tuple(first)]
    if shift:
        first[-1] += shift
    position = tuple(int(i) for i in first)
    name, last = plan.names[1], plan.classes - 1
    hint = "; is the class axis right, or do labels start at 1?" if last else BINARY
    raise ValueError(
        f"{name}: got label {value} at position {position}, wanted 0 … {last} "
        f"(classes along the class axis) or ignore_index={ignored}{hint}"
    )
