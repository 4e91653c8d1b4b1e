"""Losses of rows of classes: how their calls are validated, and prepared for the kernels."""

from collections.abc import Callable
from typing import Any

from xp_xent.backends._numbers import is_zero
from xp_xent.flow import checks as check
from xp_xent.flow import validate
from xp_xent.flow.execute import Evaluation, Reduction, run
from xp_xent.flow.next_token import SHIFT, NextTokenPlan, following
from xp_xent.flow.options import (
    AT_LEAST_0,
    SOFTCAP,
    TEMPERATURE,
    UNIT,
    Range,
    masks,
    numbers,
)  # fmt: skip
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.rows import target_rows
from xp_xent.kernels.row_metrics import loss_stats
from xp_xent.kernels.rows import Rows
from xp_xent.kernels.softmax import Softmax

Array = Any
Options = dict[str, Any]

# Of `softmax_kernel`.
SOFTMAX_NUMBERS = {
    "label_smoothing": UNIT, "z_loss": AT_LEAST_0, "softcap": SOFTCAP, "temperature": TEMPERATURE,
}  # fmt: skip


class EvaluationWithStats(Evaluation):
    """The evaluation of a loss with what a trainer logs beside it."""

    __slots__ = ()

    def value(self) -> Any:
        """Compute the reduced loss and its `LossStats`."""
        return self._reduced(*run(self, "value"))

    def _reduced(self, losses: Array, *metrics: Array) -> Any:
        if not metrics:  # by another argument than the logits
            return self.value()
        return super()._reduced(losses), loss_stats(self, metrics, self.plan.from_column)

    def _refused(self, *_: Any) -> Any:
        """Refuse curvature, which has no statistics beside it."""
        raise check.no_stats()

    hvp: Any = _refused
    hessian_diagonal: Any = _refused
    hessian: Any = _refused
    value_gradient_and_curvature: Any = _refused


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
        settled = self.settled(options)
        if not settled:
            options = numbers(self.ranges, plan.backend, plan.dtype, arrays[0], options)
        kernel = self._checked_kernel(plan, options)
        if settled:
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
        kernel = plan.kernel
        if kernel is None:
            options = numbers(self.ranges, backend, plan.dtype, arrays[0], options)
            kernel = self._checked_kernel(plan, options)
        targets, aligned = self.aligned(plan, targets, masks(backend, options))
        rows, weight = target_rows(plan, arrays[0], targets, aligned, self.shift)
        reduction = Reduction.of(plan, options, weight)
        rows = rows._replace(logits=logits)
        return evaluation(plan, kernel, rows, reduction)

    def _checked_kernel(self, plan: RowPlan, options: Options) -> Any:
        smoothing = validate.smoothing_of(options, plan.classes)
        spread = not plan.has_labels or not is_zero(smoothing.epsilon)
        kernel = self._spread_kernel if spread else self._kernel
        return kernel(plan.dtype, options)

    def aligned(self, plan: RowPlan, targets: Array, options: Options) -> tuple[Array, Options]:
        """Return targets, and options of one number a row, beside the logits that they are of."""
        return targets, options


class NextTokenLoss(RowLoss):
    """Each position's label is the token after it; so are its weight and whether it counts."""

    shift = SHIFT
    plan_type = NextTokenPlan

    def validate(self, arrays: tuple[Array, ...], options: Options) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        logits, tokens = arrays
        if len(logits.shape) < 2:
            raise ValueError(f"logits: got shape {tuple(logits.shape)}, wanted (..., T, V)")
        validate.tokens_of("logits", logits, "tokens", tokens, options)
        plan = super().validate(arrays, options | {"axis": -1})
        plan.reduction = None  # each text has a position that does not count
        return plan

    def aligned(self, plan: RowPlan, tokens: Array, options: Options) -> tuple[Array, Options]:
        """Return what comes after each position."""
        return following(plan, tokens, options)


def _is_plain(plan: RowPlan, options: Options) -> bool:
    """Return whether no option says anything of rows or classes."""
    names = ("weight", "alpha", "sample_weight", "where", "class_where", "normalizer")
    ignored = options.get("ignore_index")
    no_class = ignored is None or not 0 <= ignored < plan.classes
    return plan.knows_rows and no_class and all(options.get(name) is None for name in names)


def softmax_kernel(dtype: Any, options: dict[str, Any]) -> Any:
    """Return cross-entropy's formulas with these options."""
    names = ("z_loss", "softcap", "temperature")
    return Softmax(
        dtype,
        smoothing=validate.smoothing_of(options),
        has_metrics=check.flag("return_stats", options["return_stats"]),
        **{name: options[name] for name in names},
    )
