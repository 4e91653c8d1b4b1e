"""From targets to rows: labels or probabilities, which rows count, and by how much."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent import _checks as check
from xp_xent._evaluation import Evaluation
from xp_xent._problem import RowOptions, RowProblem, open_problem
from xp_xent._reduction import Reduction
from xp_xent._rows import Rows
from xp_xent._smoothing import KINDS, Smoothing
from xp_xent.backends import Backend, dtype_name, same_shape

Array = Any

IGNORED = -100  # the default of ignore_index
BINARY = "; one logit a row, with targets 0 or 1, is for binary_cross_entropy_with_logits"


def softmax_evaluation(
    logits: Array,
    targets: Array,
    axis: int,
    options: RowOptions,
    kernel: Callable[[Any, Smoothing], Any],
    *,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    labels_only: bool = False,
    names: tuple[str, str] = ("logits", "targets"),
) -> Evaluation:
    """Check and lay out a softmax loss; `kernel` makes its formulas for a dtype and smoothing."""
    problem = open_problem(dict(zip(names, (logits, targets), strict=True)), axis, options)
    smoother = smoothing_of(label_smoothing, smoothing, problem.classes)
    rows, reduction = target_rows(problem, targets, axis, smoother, labels_only)
    return Evaluation(
        problem.backend,
        kernel(problem.dtype, smoother),
        rows._replace(logits=problem.logits),
        problem.layout,
        reduction,
        names,
    )


def target_rows(
    problem: RowProblem, targets: Array, axis: int, smoothing: Smoothing, labels_only: bool = False
) -> tuple[Rows, Reduction]:
    """Lay out everything of the rows but the logits."""
    if is_labels(problem, targets, axis):
        return label_rows(problem, targets, smoothing)
    if labels_only:
        raise TypeError(
            f"{problem.names[1]}: got floating probabilities ({dtype_name(targets.dtype)}), wanted "
            "integer labels; from one-hot targets, take the argmax along the class axis"
        )
    if problem.options.ignore_index not in (None, IGNORED):
        raise ValueError(
            f"ignore_index: got {problem.options.ignore_index}, but {problem.names[1]} are "
            "probabilities, which no label marks; pass the rows that count as where="
        )
    return probability_rows(problem, targets)


def smoothing_of(label_smoothing: Any, kind: str, classes: int) -> Smoothing:
    """Check the options of label smoothing."""
    epsilon = check.number("label_smoothing", label_smoothing, 0.0, 1.0)
    check.choice("smoothing", kind, KINDS)
    if epsilon != 0 and kind == "others" and check.known(classes, 1):
        raise ValueError("smoothing: 'others' needs at least two classes, got one")
    return Smoothing(epsilon, kind)


def is_labels(problem: RowProblem, targets: Array, axis: int) -> bool:
    """Tell class labels from probabilities, or refuse the targets."""
    got, rows = tuple(targets.shape), problem.rows_shape
    logits = problem.shape
    kind, (first, second) = check.kind(targets), problem.names
    if kind == "integer" and same_shape(got, rows):
        return True
    if kind == "floating" and same_shape(got, logits):
        return False
    binary = BINARY if problem.classes == 1 else ""
    if kind not in ("integer", "floating"):
        raise TypeError(
            f"{second}: got dtype {dtype_name(targets.dtype)}, wanted integer labels of shape "
            f"{rows} or floating probabilities of shape {logits}{binary}"
        )
    if kind == "floating" and same_shape(got, rows):
        raise TypeError(
            f"{second}: got floating labels ({dtype_name(targets.dtype)}) of shape {got}, wanted "
            f"integer labels of that shape, or floating probabilities of shape {logits}"
            f"{binary or check.CAST_LABELS}"
        )
    hint, fitting = "", check.fits_another_axis(logits, got)
    if kind == "integer" and same_shape(got, logits):
        hint = binary or "; one-hot targets are probabilities: convert them to a floating dtype"
    elif fitting:
        hint = f"; targets fit axis={' or axis='.join(map(str, fitting))}"
    elif kind == "integer" and len(got) == len(logits) and 1 in filter(_is_known, got):
        hint = "; labels have no class axis: squeeze it"
    raise ValueError(
        f"{second}: got {kind} shape {got} for {first} of shape {logits} and axis={axis}; "
        f"wanted integer labels of shape {rows} or floating probabilities of shape {logits}{hint}"
    )


def _is_known(length: Any) -> bool:
    return isinstance(length, int)  # not one that a compiler has yet to know


def label_rows(problem: RowProblem, labels: Array, smoothing: Smoothing) -> tuple[Rows, Reduction]:
    """Lay out the rows of integer labels."""
    backend, options, xp = problem.backend, problem.options, problem.backend.xp
    index = backend.cast(labels, backend.index_dtype(labels))
    readable, label, fine = backend.is_readable(labels), index, None
    if readable and backend.spans(index, 0, problem.classes - 1):
        # Then only a class can be the label to ignore.
        ignored = options.ignore_index is not None and 0 <= options.ignore_index < problem.classes
        counted = counted_rows(backend, options, labels if ignored else None)
    else:
        known = (index >= 0) & (index < problem.classes)
        label = xp.where(known, index, 0)
        counted = counted_rows(backend, options, labels)
        passed = known if counted is None else known | ~counted
        # A mask may be traced where labels are not, and the other way round.
        if readable and (counted is None or backend.is_readable(counted)):
            _refuse_out_of_range(problem, labels, passed)
        else:  # Where Python cannot look at the values, a label out of range makes its row NaN.
            # Not a row that does not count: its NaN would reach the weights' derivatives.
            fine = xp.where(passed, backend.full((), 1.0, problem.dtype, like=labels), xp.nan)
    class_weight = None
    weight = options.alpha if options.weight is None else options.weight
    if weight is not None:
        # Once: of two conversions each would round its part of the derivative.
        weight = backend.cast(weight, problem.dtype)
        class_weight = xp.reshape(xp.take(weight, xp.reshape(label, (-1,)), axis=0), label.shape)
    in_mean = class_weight if options.alpha is None else None
    scale, share = _scale_and_share(problem, counted, in_mean)
    mass, spread = class_weight, None
    if smoothing.epsilon != 0:
        kept, given = 1 - smoothing.epsilon, smoothing.share(problem.classes)
        like = problem.like
        mass = backend.full(index.shape, 1.0, problem.dtype, like=like) if mass is None else mass
        mass = kept * mass
        spread = problem.class_row(weight)
        if spread is None:
            spread = backend.full(problem.one_row(), 1.0, problem.dtype, like=like)
        spread = given * spread
    rows = Rows(
        counted=problem.column(counted),
        scale=problem.column(scale),
        fine=problem.column(fine),
        label=problem.column(label),
        label_weight=problem.column(mass),
        spread=spread,
    )
    return rows, Reduction(options.reduction, share, options.normalizer)


def probability_rows(problem: RowProblem, targets: Array | None) -> tuple[Rows, Reduction]:
    """Lay out the rows of probability targets, or of a loss without targets."""
    counted = counted_rows(problem.backend, problem.options, None)
    scale, share = _scale_and_share(problem, counted, None)
    rows = Rows(
        counted=problem.column(counted),
        scale=problem.column(scale),
        probabilities=None if targets is None else problem.layout.inward(targets),
        class_weight=problem.class_row(problem.options.weight),
    )
    return rows, Reduction(problem.options.reduction, share, problem.options.normalizer)


def counted_rows(backend: Backend, options: RowOptions, labels: Array | None) -> Array | None:
    """Give the rows that count, (...,), None where all are known to."""
    counted = options.where
    if labels is not None and options.ignore_index is not None:
        limits, index = backend.xp.iinfo(labels.dtype), int(options.ignore_index)
        if limits.min <= index <= limits.max:
            # As an array of that dtype: JAX takes no number beyond int32.
            kept = labels != backend.full((), index, labels.dtype, like=labels)
            counted = kept if counted is None else counted & kept
    known_now = counted is not None and backend.is_readable(counted)
    return None if known_now and backend.holds(counted) else counted


def _scale_and_share(
    problem: RowProblem, counted: Array | None, class_weight: Array | None
) -> tuple[Array | None, Array | None]:
    """Give what multiplies a row's loss, and what the row adds to the mean's denominator."""
    xp, scale = problem.backend.xp, problem.options.sample_weight
    if scale is not None:
        scale = problem.backend.cast(scale, problem.dtype)
        if counted is not None:
            scale = xp.where(counted, scale, 0.0)
    if scale is None or class_weight is None:
        share = class_weight if scale is None else scale
    else:
        with problem.backend.quiet():  # out of range in the mean alone, where it is stated
            share = scale * class_weight
    if counted is not None:
        share = (
            problem.backend.cast(counted, problem.dtype)
            if share is None
            else xp.where(counted, share, 0.0)
        )
    return scale, share


def _refuse_out_of_range(problem: RowProblem, labels: Array, passed: Array) -> None:
    if problem.backend.holds(passed):
        return
    bad = ~problem.backend.to_numpy(passed)
    first = np.argwhere(bad)[0]
    value = problem.backend.to_numpy(labels)[tuple(first)]
    if problem.options.shifted:
        first[-1] += 1
    position = tuple(int(i) for i in first)
    name, last = problem.names[1], problem.classes - 1
    hint = "; is the class axis right, or do labels start at 1?" if last else BINARY
    raise ValueError(
        f"{name}: got label {value} at position {position}, wanted 0 … {last} "
        f"(classes along the class axis) or ignore_index={problem.options.ignore_index}{hint}"
    )
