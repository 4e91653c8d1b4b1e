"""The way of a call: validate → prepare → execute → reduce, and what of it is kept between calls.

`Loss.validate` refuses what does not fit and makes a plan, which depends on the call's signature
alone: types, dtypes, shapes, and options that are no numbers of the formula. `Loss.prepare` looks
at values, and makes of plan and arrays an `Evaluation`, which is executed and reduced.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import compress
from operator import is_not
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xp_xent.backends import _split
from xp_xent.flow.options import FOREIGN, SEQUENCES
from xp_xent.kernels.loss_stats import LossStats

Array = Any
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class RowPlan:
    """What holds for every call of a signature: no array is in it."""

    backend: Any
    axis: int  # of the classes, in the user's arrays, counted from 0
    shape: tuple[int, ...]  # of the logits, as the user has them
    dtype: Any  # what the loss is computed and returned in
    names: tuple[str, ...]  # what the user's arrays are called
    index_dtype: Any = None
    has_labels: bool = False
    kernel: Any = None  # where options that are numbers have their defaults
    # Where there are labels and nothing else: no array among the options, no class to ignore.
    reduction: Any = None

    def __post_init__(self) -> None:
        axis = self.backend.class_axis
        self.classes_here = self.shape[self.axis]
        self.classes = self.backend._class_count(self.classes_here)
        self.moves_axis = self.axis - len(self.shape) != axis
        self.rows_shape = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        self.column = (..., None, *(slice(None),) * (-1 - axis))

    def to_kernel(self, array: Array) -> Array:
        """View an array of the logits' shape as (..., K)."""
        if not self.moves_axis:
            return array
        # Not moveaxis, for which torch.vmap has no rule.
        others = [axis for axis in range(len(array.shape)) if axis != self.axis]
        return self.backend.xp.permute_dims(array, (*others, self.axis))

    def to_user(self, array: Array) -> Array:
        """Undo `to_kernel`."""
        if not self.moves_axis:
            return array
        axes = list(range(len(array.shape) - 1))
        axes.insert(self.axis, len(axes))
        return self.backend.xp.permute_dims(array, tuple(axes))

    def to_column(self, array: Array | None) -> Array | None:
        """View one number a row as (..., 1)."""
        return None if array is None else array[self.column]

    def from_column(self, losses: Array) -> Array:
        """Undo `to_column`."""
        return self.backend.xp.squeeze(losses, axis=self.backend.class_axis)

    def cotangent_to_column(self, cotangent: Array) -> Array:
        """View cotangents of the losses that the user sees as (..., 1)."""
        return self.backend.xp.expand_dims(cotangent, axis=self.backend.class_axis)

    def losses_shape(self) -> tuple[int, ...]:
        """Return the shape in which the user sees the losses."""
        return self.rows_shape

    @property
    def knows_rows(self) -> bool:
        """Whether it is known how many rows there are."""
        return (count := self.backend._row_count(self.rows_shape)) == count  # NaN is not known

    def counts(self, like: Array) -> Array | None:
        """Return 1 for each row of an array (..., K, ...) where how many is not known yet."""
        if self.knows_rows:
            return None
        rows = like[(*(slice(None),) * self.axis, 0, ...)]
        return self.backend.xp.ones_like(rows, dtype=self.dtype)

    def one_row(self) -> tuple[int, ...]:
        """Return the shape (1, …, K)."""
        shape = [1] * len(self.shape)
        shape[self.backend.class_axis] = self.classes_here
        return tuple(shape)

    def class_row(self, weight: Array | None) -> Array | None:
        """View class weights as (1, …, K), in the loss's dtype."""
        if weight is None:
            return None
        backend = self.backend
        weight = backend._classes_here(backend.cast(weight, self.dtype), self.classes_here)
        return backend.xp.reshape(weight, self.one_row())

    def is_class(self, like: Array) -> Array | None:
        """Return which columns are classes and not padding, (1, …, K); None: all."""
        if not (backend := self.backend)._is_padded:
            return None
        row = backend.full(self.one_row(), True, backend.xp.bool, like=like)
        return backend.indices(row) < backend.num_classes

    def class_mask(self, mask: Array | None, like: Array) -> Array | None:
        """View which classes take part as (..., K), 1 for axes along which it is the same."""
        is_class = self.is_class(like)
        if mask is None:
            return is_class
        ndim = len(self.shape)
        mask = mask[(*(None,) * (ndim - len(mask.shape)), ...)]
        if mask.shape[self.axis] != self.classes_here:  # 1
            shape = [1] * ndim
            shape[self.axis] = self.classes_here
            mask = mask & self.backend.full(tuple(shape), True, mask.dtype, like=like)
        mask = self.to_kernel(mask)
        return mask if is_class is None else mask & is_class


class Ask(NamedTuple):
    """What an evaluation is asked for: a method and its first arguments, equal where these are."""

    method: str
    arguments: tuple[Any, ...] = ()

    def __call__(self, evaluation: Any, *more: Any) -> Any:
        """Call the method; `more` are its further arguments."""
        return getattr(evaluation, self.method)(*self.arguments, *more)


MOST = 512  # plans of one loss, the oldest of which makes room


class Loss:
    """A loss of this package: how its calls are validated and prepared.

    Parameters
    ----------
    arguments : tuple of str
        The positional arrays: what derivatives are asked by.
    ranges : dict of str to Range
        Options that are numbers in the formula, and the values that they may have: a plan holds
        for all of these.
    labels : str, optional
        The argument that may be labels, or targets that nothing differentiates by.
    variables : tuple of str, optional
        What `value_and_grads` differentiates by in the walk that computes the value.
    in_steps : bool
        Whether it is computed in steps, each of which would be taken again for a derivative.
    """

    bounded: tuple[str, ...] = ()  # arguments whose values have limits, though they are no labels

    def __init__(
        self,
        arguments: tuple[str, ...],
        ranges: dict[str, Any] | None = None,
        variables: tuple[str, ...] | None = None,
        *,
        labels: str | None = None,
        in_steps: bool = False,
    ) -> None:
        self.arguments, self.labels, self.in_steps = arguments, labels, in_steps
        self.ranges = ranges or {}
        self.numbers = frozenset((*self.ranges, "normalizer"))
        self.variables = frozenset(arguments[:1] if variables is None else variables)
        self.function: Any = None
        self.defaults: dict[Any, Any] = {}
        self._plans: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def validate(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> Any:
        """Return the plan of a call, or refuse it."""
        raise NotImplementedError

    def prepare(self, plan: Any, arrays: tuple[Array, ...], options: dict[str, Any]) -> Any:
        """Return the `Evaluation` of a call, or refuse its values."""
        raise NotImplementedError

    def evaluation(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> Any:
        """Validate and prepare a call."""
        return self.prepare(self.validate(arrays, options), arrays, options)

    def evaluate(
        self, ask: Any, arrays: tuple[Array, ...], options: dict[str, Any], *more: Any
    ) -> Any:
        """Ask the evaluation of a call for something, None for the loss; keep no plan."""
        found = self.evaluation(arrays, options)
        return found.value() if ask is None else ask(found, *more)

    def placed(
        self, arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> tuple[tuple[Array, ...], dict[str, Any]]:
        """Return a call whose labels, weights and masks are of the library of its first array."""
        foreign = SEQUENCES if type(arrays[0]) is np.ndarray else FOREIGN
        if foreign.isdisjoint(map(type, (*arrays, *options.values()))):
            return arrays, options
        from xp_xent.flow.placement import placed  # few calls need it

        return placed(self.labels, self.arguments, arrays, options)

    def run(self, ask: Any, arrays: tuple[Array, ...], options: dict[str, Any], *more: Any) -> Any:
        """Do as `evaluate` by a plan that is kept."""
        with np.errstate(all="ignore"):  # infinities and NaN are stated results here
            plan = self._plans.get(key := self._signature(arrays, options))
            if plan is None:
                arrays, options = self.placed(arrays, options)
                key = self._signature(arrays, options)
                plan = self._plans.get(key) or self.validate(arrays, options)
                if key is not None:
                    self._keep(key, plan)
            found = self.prepare(plan, arrays, options)
            return found.value() if ask is None else ask(found, *more)

    def _signature(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> Any:
        """Return the key of a call's plan; None for what has none."""
        key: list[Any] = [_split.current.get()]
        try:
            # Most options have their defaults, in whose order they come.
            changed = map(is_not, options.values(), self.defaults.values())
            given = compress(options.items(), changed)
            for name, x in (*enumerate(arrays), *given):
                kind = type(x)
                if kind in _PLAIN or isinstance(x, np.generic):
                    number = name in self.numbers and kind not in (bool, str, type(None))
                    # Of an axis, or a label to ignore, what it says is settled.
                    key += (name, kind, bool(x == 0) if number else x)
                else:
                    # The device by its name, for it may not be hashable.
                    device = x.device
                    device = device if type(device) is str else str(device)
                    key += (name, kind, x.dtype, x.shape, device)
        except (AttributeError, TypeError):  # `validate` refuses what is no array
            return None
        return tuple(key)

    def _keep(self, key: Any, plan: Any) -> None:
        with self._lock:
            if len(self._plans) >= MOST:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan

    def with_stats(self, loss: Array, *stats: Array) -> tuple[Array, LossStats]:
        """Return what ``return_stats=True`` does, of its arrays."""
        return loss, LossStats(*stats)

    def settled(self, options: dict[str, Any]) -> bool:
        """Return whether all options that are numbers of the kernel have their defaults."""
        names = self.numbers - {"normalizer"}
        return all(options[name] is self.defaults[name] for name in names)

    def with_defaults(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> dict[str, Any]:
        """Return all options of a call; raise TypeError as the function would."""
        if len(arrays) != len(self.arguments) or not options.keys() <= self.defaults.keys():
            signature(self.function).bind(*arrays, **options)
        return self.defaults | options


_PLAIN = frozenset((int, float, bool, str, type(None)))


def no_warnings(backend: Any) -> AbstractContextManager[Any]:
    """Silence NumPy's floating-point warnings, where no compiler reads this."""
    return nullcontext() if backend.differentiable else np.errstate(all="ignore")


def public(loss: Loss) -> Callable[[Function], Function]:
    """Tie a public function, which declares arguments and options, to its loss."""

    def tie(function: Function) -> Function:
        loss.function, loss.defaults = function, dict(function.__kwdefaults__ or {})
        function.loss = loss  # type: ignore[attr-defined]
        return function

    return tie


def loss_of(function: Any) -> tuple[Loss, tuple[Array, ...], dict[str, Any]]:
    """Take a public loss, a loss object, or a partial of one, apart: loss, arrays and options."""
    if isinstance(function, partial):
        loss, arrays, options = loss_of(function.func)
        return loss, (*arrays, *function.args), options | function.keywords
    found = getattr(function, "loss", None)
    if isinstance(found, partial):
        return loss_of(found)
    if not isinstance(found, Loss):
        raise TypeError(
            f"loss: got {function!r}, wanted a loss of xp_xent, for example "
            "xp_xent.cross_entropy; other functions need their library's automatic differentiation"
        )
    return found, (), {}
