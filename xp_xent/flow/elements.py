"""Binary losses: each element is a row of one logit. How their calls are validated and prepared."""

from typing import Any

import numpy as np

from xp_xent.backends import to_numpy
from xp_xent.flow import checks as check
from xp_xent.flow import validate
from xp_xent.flow.element_plan import ElementPlan
from xp_xent.flow.execute import Evaluation, Reduction
from xp_xent.flow.options import UNIT, Range, is_number, masks, numbers
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.rows import valid_mask
from xp_xent.flow.validate import arrays_of, common_backend, loss_dtype
from xp_xent.kernels.rows import Rows

Array = Any
Options = dict[str, Any]


class ElementLoss(Loss):
    """A loss whose elements stand alone; `ranges` are of the kernel's options."""

    def __init__(
        self,
        kernel: type[Any],
        ranges: dict[str, Range],
        arguments: tuple[str, ...] = ("logits", "targets"),
    ) -> None:
        super().__init__(arguments, ranges, labels="targets")
        self._kernel, self._of_probabilities = kernel, arguments[0] == "probabilities"
        self.bounded = arguments if self._of_probabilities else arguments[1:]

    def validate(self, arrays: tuple[Array, ...], options: Options) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        (x, targets), first = arrays, self.arguments[0]
        given, of = arrays_of(options), f"the {first}'"
        backend = common_backend(**{first: x}, targets=targets, **given)._of_elements()
        check.floating(first, x)
        if check.kind(targets) == "other":
            check.numeric("targets", targets)
        shape = tuple(x.shape)
        check.shape("targets", targets, shape, of)
        for name in given.keys() & {"weight", "pos_weight", "alpha"}:
            check.numeric(name, given[name])
            check.broadcastable(name, given[name], shape, of)
        if "sample_weight" in given:
            check.numeric("sample_weight", given["sample_weight"])
            check.shape("sample_weight", given["sample_weight"], shape, of)
        if "where" in given:
            check.mask("where", given["where"], "the element counts")
            check.shape("where", given["where"], shape, of)
        validate.ignored_label(options)
        validate.reduction(options)
        dtype = loss_dtype(backend.xp, x)
        numbers(self.ranges, backend, dtype, x, options)
        return ElementPlan(backend, len(shape), (*shape, 1), dtype, self.arguments)

    def prepare(self, plan: RowPlan, arrays: tuple[Array, ...], options: Options) -> Evaluation:
        """Return the evaluation of a call, or refuse its values."""
        (x, targets), backend = arrays, plan.backend
        # Refused before targets, as `validate` does.
        options = masks(backend, numbers(self.ranges, backend, plan.dtype, x, options))
        alpha = options.get("alpha")
        if alpha is not None and not is_number(alpha):
            alpha, options = _in_unit(plan, alpha), options | {"alpha": None}
        else:
            alpha = None
        where = options["where"]
        if options["ignore_index"] is not None:
            where = valid_mask(backend, options, targets)
        settings = {name: options[name] for name in self.ranges}
        if self._of_probabilities:
            within = _within(backend, "probabilities", x, where)
            settings["check_probabilities"] = not within
        settings["check_targets"] = not _within(backend, "targets", targets, where)
        row_weight, in_mean = _weights(plan, where, options)
        rows = Rows(
            plan.to_kernel(x),
            valid=None if where is None else plan.to_kernel(where),
            row_weight=row_weight,
            probabilities=plan.to_kernel(targets),
            class_weight=_broadcast(plan, _as_array(plan, options.get("pos_weight"), x)),
            alpha=_broadcast(plan, alpha),
        )
        in_mean = plan.counts(x) if in_mean is None else in_mean
        kernel = self._kernel(plan.dtype, **settings)
        return Evaluation(plan, kernel, rows, Reduction.of(plan, options, in_mean))


def _weights(
    plan: RowPlan, where: Array | None, options: Options
) -> tuple[Array | None, Array | None]:
    """Return what multiplies an element's loss, and what it adds to the mean's denominator."""
    backend, weight = plan.backend, _broadcast(plan, options.get("weight"))
    in_mean = options["sample_weight"]
    if in_mean is None:
        return weight, None if where is None else backend.cast(where, plan.dtype)
    in_mean = backend.cast(in_mean, plan.dtype)
    if where is not None:
        in_mean = backend.xp.where(where, in_mean, 0.0)
    sample_weight = plan.to_kernel(in_mean)
    return sample_weight if weight is None else weight * sample_weight, in_mean


def _in_unit(plan: RowPlan, alpha: Array) -> Array:
    """Refuse numbers of alpha outside [0, 1]; where they cannot be read, they are NaN."""
    backend = plan.backend
    if not backend.can_read_values(alpha):
        alpha = backend.cast(alpha, plan.dtype)
        return backend.xp.where(UNIT.holds(alpha), alpha, backend.xp.nan)
    if not backend.all_between(alpha, 0, 1):
        raise ValueError(
            "alpha: got numbers outside [0, 1], wanted the weight of the positive class"
        )
    return alpha


def _as_array(plan: RowPlan, option: Any, like: Array) -> Array | None:
    """Return an option that may be a number as an array."""
    if not check.is_number(option):
        return option
    option = check.number("pos_weight", option)
    return plan.backend.full((), option, plan.dtype, like=like)


def _broadcast(plan: RowPlan, array: Array | None) -> Array | None:
    """View weights that broadcast against the elements beside them, in the loss's dtype."""
    if array is None:
        return None
    new_axes = (None,) * (len(plan.shape) - 1 - len(array.shape))
    return plan.to_kernel(plan.backend.cast(array, plan.dtype)[(*new_axes, ...)])


def _within(backend: Any, name: str, x: Array, where: Array | None) -> bool:
    """Return whether numbers that count are known to lie in [0, 1]; refuse those known not to."""
    if check.kind(x) == "bool":
        return True
    readable = backend.can_read_values(x)
    if readable and backend.all_between(x, 0, 1):
        return True
    # A mask may be traced where the numbers are not, and the other way round.
    if not readable or not (where is None or backend.can_read_values(where)):
        return False
    outside = (x < 0) | (x > 1)  # not NaN, which the loss shows
    if where is not None:
        outside = outside & where
    if bool(backend.xp.any(outside)):
        message = outside_message if name == "targets" else _no_probability
        raise ValueError(f"{name}: {message(to_numpy(x), to_numpy(outside))}")
    return True


def outside_message(targets: np.ndarray, outside: np.ndarray) -> str:
    """Return a message of which target is the first outside [0, 1], and what to do."""
    return (
        f"{_first(targets, outside)}, wanted 0 … 1: whether the class is "
        "positive, or its probability; divide a mask of 0 and 255 by 255, or ignore such "
        "elements with where="
    )


def _no_probability(x: np.ndarray, outside: np.ndarray) -> str:
    return (
        f"{_first(x, outside)}, wanted probabilities in [0, 1]; logits are for "
        "binary_cross_entropy_with_logits"
    )


def _first(x: np.ndarray, outside: np.ndarray) -> str:
    position = tuple(int(i) for i in np.argwhere(outside)[0])
    return f"got {x[position]} at position {position}"
