"""Cross-entropy behind a linear layer: how its calls are validated and prepared."""

from collections.abc import Callable
from typing import Any

from xp_xent.backends import dtype_name, same_shape
from xp_xent.flow import checks as check
from xp_xent.flow.execute import Reduction
from xp_xent.flow.linear_steps import LinearEvaluation
from xp_xent.flow.next_token import SHIFT, NextTokenPlan, following
from xp_xent.flow.options import Range, masks, numbers
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.rows import target_rows
from xp_xent.flow.validate import (
    common_backend,
    is_labels,
    no_label_to_ignore,
    row_plan,
    smoothing_of,
    tokens_of,
)  # fmt: skip
from xp_xent.kernels.linear_layer import Layer

Array = Any


class LinearLoss(Loss):
    """Cross-entropy behind a linear layer; `kernel` makes the formulas of the logits' loss."""

    def __init__(self, kernel: Callable[[Any, Any], Any], ranges: dict[str, Range]) -> None:
        arguments, variables = ("features", "classifier", "targets"), ("bias",)
        super().__init__(
            arguments, ranges, arguments[:2] + variables, labels="targets", in_steps=True
        )
        self._kernel = kernel

    def validate(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        features, classifier, targets = arrays
        parts = {"features": features, "classifier": classifier}
        if options["bias"] is not None:
            parts["bias"] = options["bias"]
        common_backend(**parts)
        for name, array in parts.items():
            _refuse_float64_beside(name, array, features)
        if len(features.shape) == 0:
            raise ValueError("features: got shape (), wanted (..., D)")
        if len(classifier.shape) != 2 or not same_shape(classifier.shape[1:], features.shape[-1:]):
            raise ValueError(
                f"classifier: got shape {tuple(classifier.shape)}, wanted (K, "
                f"{features.shape[-1]}), a row for each class; is it transposed?"
            )
        check.known_number("features", tuple(features.shape), -1, "features")
        classes = classifier.shape[0]
        if options["bias"] is not None:
            check.shape("bias", options["bias"], (classes,), "one number a class")
            check.known_number("bias", tuple(options["bias"].shape), -1, "classes")
        named = {"features": features, "targets": targets}
        shift = check.flag("shift", options["shift"])
        kind = NextTokenPlan if shift else RowPlan
        if shift:
            if len(features.shape) < 2:
                raise ValueError(f"features: got shape {tuple(features.shape)}, wanted (..., T, D)")
            tokens_of("features", features, "targets", targets, options)
        plan = row_plan(named, options, ("logits", "targets"), classes, kind)
        has_labels = is_labels(plan, targets, -1)
        if not has_labels:
            no_label_to_ignore("targets", options)
        plan.has_labels = has_labels
        self._checked_kernel(plan, self._resolved(plan, features, options))
        return plan

    def _resolved(self, plan: RowPlan, like: Array, options: dict[str, Any]) -> dict[str, Any]:
        found = numbers(self.ranges, plan.backend, plan.dtype, like, options)
        return masks(plan.backend, found)

    def _checked_kernel(self, plan: RowPlan, options: dict[str, Any]) -> Any:
        smoothing_of(options, plan.classes)
        return self._kernel(plan.dtype, options)

    def prepare(
        self, plan: RowPlan, arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> LinearEvaluation:
        """Return the evaluation of a call, or refuse its values."""
        features, classifier, targets = arrays
        backend, options = plan.backend, self._resolved(plan, features, options)
        kernel = self._checked_kernel(plan, options)
        shift = SHIFT if options["shift"] else 0
        if shift:
            targets, options = following(plan, targets, options)
        rows, weight = target_rows(plan, features, targets, options, shift)
        weights = backend.cast(classifier, plan.dtype)
        layer = Layer(backend, features, classifier, options["bias"], weights, plan.dtype)
        reduction = Reduction.of(plan, options, weight)
        return LinearEvaluation(self.arguments, plan, kernel, rows, reduction, layer)


def _refuse_float64_beside(name: str, array: Array, features: Array) -> None:
    check.floating(name, array)
    if (dtype_name(array.dtype) == "float64") != (dtype_name(features.dtype) == "float64"):
        raise TypeError(
            f"{name}: got {dtype_name(array.dtype)} beside features of "
            f"{dtype_name(features.dtype)}; float64 goes with float64 only, for digits would "
            "be lost or made up: convert one explicitly"
        )
