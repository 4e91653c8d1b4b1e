"""Binary losses: each element is a row of one logit. How their calls are validated and prepared."""

from typing import Any

import numpy as np

from xp_xent.backends import to_numpy
from xp_xent.flow import checks as check
from xp_xent.flow import validate
from xp_xent.flow.execute import Evaluation, Reduction
from xp_xent.flow.options import Range, masks, numbers
from xp_xent.flow.plan import Loss, RowPlan
from xp_xent.flow.validate import arrays_of, common_backend, loss_dtype
from xp_xent.kernels.rows import Rows

Array = Any
Options = dict[str, Any]


class ElementPlan(RowPlan):
    """A plan whose rows have one class, along an axis that the user's arrays do not have."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.moves_axis = True

    def to_kernel(self, array: Array) -> Array:
        """View an array of elements as (..., 1)."""
        return self.backend.xp.expand_dims(array, axis=-1)

    def to_user(self, array: Array) -> Array:
        """Undo `to_kernel`."""
        return self.backend.xp.squeeze(array, axis=-1)

    def counts(self, like: Array) -> Array | None:
        """Return 1 for each element where how many is not known yet."""
        known = None not in self.rows_shape
        return None if known else self.backend.xp.ones_like(like, dtype=self.dtype)


class ElementLoss(Loss):
    """A loss whose elements stand alone; `ranges` are of the kernel's options."""

    bounded = ("targets",)

    def __init__(
        self,
        kernel: type[Any],
        ranges: dict[str, Range],
    ) -> None:
        super().__init__(("logits", "targets"), ranges, labels="targets")
        self._kernel = kernel

    def validate(self, arrays: tuple[Array, ...], options: Options) -> RowPlan:
        """Return the plan of a call, or refuse it."""
        logits, targets = arrays
        given = arrays_of(options)
        backend = common_backend(logits=logits, targets=targets, **given)
        check.floating("logits", logits)
        if check.kind(targets) == "other":
            check.numeric("targets", targets)
        shape = tuple(logits.shape)
        check.shape("targets", targets, shape, "the logits'")
        for name in given.keys() & {"weight", "pos_weight"}:
            check.numeric(name, given[name])
            check.broadcastable(name, given[name], shape)
        if "where" in given:
            check.mask("where", given["where"], "the element counts")
            check.shape("where", given["where"], shape, "the logits'")
        validate.reduction(options)
        dtype = loss_dtype(backend.xp, logits)
        numbers(self.ranges, backend, dtype, logits, options)
        return ElementPlan(backend, len(shape), (*shape, 1), dtype, self.arguments)

    def prepare(self, plan: RowPlan, arrays: tuple[Array, ...], options: Options) -> Evaluation:
        """Return the evaluation of a call, or refuse its values."""
        (logits, targets), backend = arrays, plan.backend
        # Refused before targets, as `validate` does.
        options = masks(backend, numbers(self.ranges, backend, plan.dtype, logits, options))
        where = options["where"]
        check_targets = not _within(backend, targets, where)
        settings = {name: options[name] for name in self.ranges}
        kernel = self._kernel(plan.dtype, check_targets=check_targets, **settings)
        rows = Rows(
            plan.to_kernel(logits),
            valid=None if where is None else plan.to_kernel(where),
            row_weight=_broadcast(plan, options.get("weight")),
            probabilities=plan.to_kernel(targets),
            class_weight=_broadcast(plan, _as_array(plan, options.get("pos_weight"), logits)),
        )
        in_mean = plan.counts(logits) if where is None else backend.cast(where, plan.dtype)
        return Evaluation(plan, kernel, rows, Reduction.of(plan, options, in_mean))


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


def _within(backend: Any, targets: Array, where: Array | None) -> bool:
    """Return whether targets that count are known to lie in [0, 1]; refuse those known not to."""
    if check.kind(targets) == "bool":
        return True
    readable = backend.can_read_values(targets)
    if readable and backend.all_between(targets, 0, 1):
        return True
    # A mask may be traced where targets are not, and the other way round.
    if not readable or not (where is None or backend.can_read_values(where)):
        return False
    outside = (targets < 0) | (targets > 1)  # not NaN, which the loss shows
    if where is not None:
        outside = outside & where
    if bool(backend.xp.any(outside)):
        host = to_numpy(targets), to_numpy(outside)
        raise ValueError(f"targets: {outside_message(*host)}")
    return True


def outside_message(targets: np.ndarray, outside: np.ndarray) -> str:
    """Return a message of which target is the first outside [0, 1], and what to do."""
    position = tuple(int(i) for i in np.argwhere(outside)[0])
    return (
        f"got {targets[position]} at position {position}, wanted 0 … 1: whether the class is "
        "positive, or its probability; divide a mask of 0 and 255 by 255, or ignore such "
        "elements with where="
    )
