"""Losses of distributions, of one or of one from another: how their calls are prepared."""

from collections.abc import Callable
from typing import Any

from xp_xent.backends._numbers import is_one
from xp_xent.flow import checks as check
from xp_xent.flow.execute import Evaluation, Reduction
from xp_xent.flow.options import TEMPERATURE, Range, masks, numbers
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.rows import probability_rows
from xp_xent.flow.validate import row_plan

Array = Any


class DistributionLoss(Loss):
    """A loss of distributions; `kernel` makes its formulas for a dtype and the options."""

    def __init__(
        self,
        kernel: Callable[[Any, dict[str, Any]], Any],
        arguments: tuple[str, ...],
        **ranges: Range,
    ) -> None:
        super().__init__(arguments, {"temperature": TEMPERATURE, **ranges})
        self._kernel = kernel

    def validate(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        named = dict(zip(self.arguments, arrays, strict=True))
        plan = row_plan(named, options, self.arguments)
        for name, targets in list(named.items())[1:]:
            check.floating(name, targets)
            check.shape(name, targets, tuple(arrays[0].shape), "the logits'")
            check.known_number(name, tuple(targets.shape), plan.axis, "classes")
        for name in ("log_targets", "normalized"):
            check.flag(name, options.get(name, False))
        if options.get("normalized") and not is_one(options["temperature"]):
            raise ValueError(
                f"temperature: got {options['temperature']!r} with normalized=True, but "
                "log-probabilities over a temperature are not normalised; wanted 1.0, or logits "
                "and normalized=False"
            )
        numbers(self.ranges, plan.backend, plan.dtype, arrays[0], options)
        return plan

    def prepare(
        self, plan: RowPlan, arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Evaluation:
        """Return the evaluation of a call, or refuse its values."""
        logits, targets = arrays[0], arrays[1] if len(arrays) > 1 else None
        options = numbers(self.ranges, plan.backend, plan.dtype, logits, options)
        kernel = self._kernel(plan.dtype, options)
        rows, weight = probability_rows(plan, logits, targets, masks(plan.backend, options))
        rows = rows._replace(logits=plan.to_kernel(logits))
        return Evaluation(plan, kernel, rows, Reduction.of(plan, options, weight))
