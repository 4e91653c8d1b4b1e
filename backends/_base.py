"""The protocol between the mathematics and an array library: one small class a library.

A backend answers *how* a library runs a loss, never *what* the loss is. Every method has a default
that fits a library which follows the array API standard; an adapter overrides what its library does
differently, and says why.
"""

import copy
import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

from xp_xent.backends._deferred import Deferred
from xp_xent.backends._host import HostAccess
from xp_xent.backends._row_sums import RowSums
from xp_xent.backends._split import Split

Array = Any

# A part up to here leaves the rest of a whole its digits, but for two bits.
MOST = 0.75


class Backend(RowSums, Deferred):
    """What xp_xent needs to know of one array library.

    Third parties subclass it and register the class in the entry-point group
    ``xp_xent.backends``. Shapes are written as if the classes came last; a kernel finds them along
    `class_axis`.

    Attributes
    ----------
    name : str
        The library's name, also the name of the entry point.
    packages : tuple of str
        Top-level packages that define the library's array types.
    module : str
        The namespace to import when one of its arrays shows up.
    xp : module
        That namespace.
    differentiable : bool
        Whether the library may differentiate what the losses compute.
    class_axis : int
        Where kernels find the classes, counted from the end.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    module: ClassVar[str]
    xp: Any

    # What the library is

    differentiable: ClassVar[bool] = True

    def __init__(self) -> None:
        self.xp = self._load()

    def _load(self) -> ModuleType:
        """Import the namespace; raise ImportError where the library is not usable."""
        return importlib.import_module(self.module)

    # Facts of an array

    def unsupported_reason(self, array: Array) -> str | None:
        """Return why an array of this library cannot be taken, or None."""
        return None

    def device(self, array: Array) -> Any:
        """Return the device, or None where the question has no answer (under tracing)."""
        return array.device

    def can_read_values(self, array: Array) -> bool:
        """Return whether values are in host memory and known now: not on a device, not traced."""
        return False

    def _not_writable(self, out: Array, others: tuple[Array, ...]) -> str | None:
        """Return why results cannot be written into an array while others are read, or None."""
        return f"got an array of {self.name}, into which no results are written; leave out= away"

    def all_between(self, x: Array, low: float, high: float) -> bool:
        """Return whether readable numbers all lie in [low, high], none of them NaN."""
        return bool(self.xp.all((x >= low) & (x <= high)))

    # Array operations

    def indices(self, x: Array, axis: int | None = None) -> Array:
        """Return 0 … n − 1 along an axis of x, counted from the end, broadcastable to x.

        None is the class axis: there they are the class indices.
        """
        axis = self.class_axis if axis is None else axis
        shape = [1] * len(x.shape)
        shape[axis] = x.shape[axis]
        return self.xp.reshape(self._arange(shape[axis], x), tuple(shape))

    def _arange(self, stop: int, like: Array) -> Array:
        return self.xp.arange(stop, device=self.device(like))

    def _together(self, operands: Any) -> Any:
        """Return a call's arrays, all mapped over where one is and the library needs that."""
        return operands

    def _placed(self, host: Any, like: Array) -> Array:
        """Return a NumPy array of labels, weights or a mask, beside `like`."""
        return self.xp.asarray(host, device=self.device(like))

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        """Return an array of one value, beside `like`."""
        return self.xp.full(shape, value, dtype=dtype, device=self.device(like))

    def cast(self, x: Array, dtype: Any) -> Array:
        """Return the same values in a dtype: x itself where it has that dtype."""
        return self.xp.astype(x, dtype, copy=False)

    def _reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return the same values in another shape, several axes merged into one or back."""
        return self.xp.reshape(x, shape)

    def kernel_layout(self, x: Array, dtype: Any) -> Array:
        """Return rows (..., K) in a dtype, laid out in memory for a kernel's operations."""
        return self.cast(x, dtype)

    def take_label(self, x: Array, index: Any) -> Array:
        """Return each row's entry at its index: (..., K) and (..., 1) to (..., 1)."""
        return self.xp.take_along_axis(x, index, axis=self.class_axis)

    def row_sum(self, x: Array) -> Array:
        """Sum over the classes: (..., K) to (..., 1)."""
        return self.xp.sum(x, axis=self.class_axis, keepdims=True)

    def total(self, x: Array) -> Array:
        """Sum all numbers of an array that has one number a row."""
        return self.xp.sum(x)

    # Where rows or classes lie in several places, an array holds a part of them, and what follows,
    # `indices`, `row_sum`, `total`, `take_label` and `exp_sums` speak of the whole.
    def _of_part(self, split: Split) -> Any:
        """Return the adapter for parts of arrays, or refuse them."""
        raise TypeError(
            f"split: got arrays of {self.name}, which are never parts of larger ones; wanted those "
            "of a library that computes on several devices or in several processes"
        )

    def _row_max(self, x: Array) -> Array:
        """Return the maximum over the classes: (..., K) to (..., 1)."""
        return self.xp.max(x, axis=self.class_axis, keepdims=True)

    def _row_argmax(self, x: Array) -> Array:
        """Return the index of the first maximum over the classes: (..., K) to (..., 1)."""
        return self.xp.argmax(x, axis=self.class_axis, keepdims=True)

    _rows: Any = None  # how parts of the rows reach each other; None where all are here
    _is_padded: bool = False  # whether columns that are no classes fill the last part up

    def _class_count(self, here: int) -> int:
        """Count the classes of all parts, of which so many are in this one."""
        return here

    def _has_whole_rows(self, here: int) -> bool:
        """Return whether this part, of so many columns, has all classes and nothing but these."""
        return True

    def _classes_here(self, x: Array, here: int) -> Array:
        """Return those of one number a class, (K,), that belong to the classes in this part."""
        return x

    def _over_classes(self, *arrays: Array) -> tuple[Array, ...]:
        """Add up what each part of the classes gives, several arrays in one exchange."""
        return arrays

    def _over_rows(self, *arrays: Array) -> tuple[Array, ...]:
        """Add up what each part of the rows gives, likewise."""
        return arrays

    def _of_elements(self) -> Any:
        """Return the adapter for elements that stand alone, without classes, or refuse them."""
        return self

    def _sum_elsewhere(self, x: Array) -> Array | float:
        """Sum over the classes that are in other parts: (..., K) to (..., 1), or 0.0."""
        return 0.0

    def _row_count(self, shape: tuple[int, ...]) -> float:
        """Count the rows of a shape; NaN where that is not known, so that `total` has to."""
        return math.nan if None in shape else math.prod(shape) * 1.0

    def stop_gradient(self, array: Array) -> Array:
        """Return the same values, constant to the library's automatic differentiation."""
        return array

    # Those that follow may write over x, an array that a kernel made and needs no more.
    def set_at_label(self, x: Array, index: Any, value: Any) -> Array:
        """Return rows x (..., K) with the entry at each row's index (..., 1) replaced."""
        return self.xp.where(self.indices(x) == index, value, x)

    def scale_rows(self, x: Array, factor: Any = 1.0, valid: Array | None = None) -> Array:
        """Return x times a factor that broadcasts to it, and 0 in the rows that are not valid."""
        x = x if isinstance(factor, float) and factor == 1 else x * factor
        return x if valid is None else self.xp.where(valid, x, 0.0)

    def other_sums(self, p: Array, at_reference: Any, whole: Any = 1.0) -> Array:
        """Return, for each class of rows p (..., K) ≥ 0, the sum of the others and one number more.

        `whole` is the sum of all, of which nothing accurate is left where p is most of it.
        """
        large = p > MOST * whole
        summed = self.row_sum(self.xp.where(large, 0.0, p)) + at_reference
        return self.xp.where(large, summed, whole - p)

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        """Return total + aᵀb of a (n, K), b (n, D) and a total (K, D) that is needed no more."""
        return total + self.xp.matmul(self.xp.matrix_transpose(a), b)

    # Evaluation

    class_axis: int = -1

    def with_class_axis(self, axis: int) -> "Backend":
        """Return the adapter for classes along an axis, counted from the end.

        This one, if they are brought to the end; a copy with that `class_axis` where they stay.
        """
        return self

    def _at_axis(self, axis: int) -> "Backend":
        """Return this adapter, or a copy, for kernels that find the classes along that axis."""
        if axis == self.class_axis:
            return self
        other = copy.copy(self)
        other.class_axis = axis
        return other

    # An adapter that evaluates losses in its library's own way, for automatic differentiation or a
    # compiler, has a method ``evaluate(loss, ask, arrays, options, *more)`` here. It returns
    # ``loss.evaluate(ask, arrays, options, *more)``; `ask` is None for the loss itself.
    evaluate: Callable[..., Any] | None = None

    # How maps are applied to types of arrays that several places have parts of:
    # ``f(x, axis, options, call)``, where ``call(part, options)`` is the map of a part.
    _mapped: dict[type, Callable[..., Any]] = {}  # noqa: RUF012

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **_: Any
    ) -> Any:
        """Apply a function that treats each row alone to rows (..., K) and what belongs to them.

        The operands broadcast against the rows, are numbers or None. The function returns an array
        or a tuple of arrays of shape (..., 1) or (..., K). A backend may cut the rows into blocks.
        With ``overwrite=True`` it may write a result over the rows. ``whole=True`` says that the
        function makes nothing of the rows' shape but by `exp_sums` and `exp_gradient`. Into `out`,
        an array of the rows' shape, the last result may be written, and `out` returned for it.
        """
        return function(rows, *operands)

    def map_steps(
        self,
        step: Callable[..., tuple[Any, tuple[Array, ...]]],
        totals: Any,
        arrays: tuple[Array, ...],
        size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Take steps over groups of `size` rows.

        The arrays are (n, ...), or (1, ...) to be the same in every step, or None; n is that of
        the first. ``step(totals, *parts)`` returns new totals and a tuple of arrays, whose rows
        are put together again.
        """
        count, found = arrays[0].shape[0], []
        for start in range(0, max(count, 1), size):
            stop = min(start + size, count)
            parts = (
                x[start:stop, ...] if x is not None and x.shape[0] == count else x for x in arrays
            )
            totals, results = step(totals, *parts)
            found.append(results)
        if len(found) == 1:
            return totals, found[0]
        return totals, tuple(self.xp.concat(parts, axis=0) for parts in zip(*found, strict=True))

    def custom_derivative(
        self,
        function: Callable[..., Any],
        differentiable_form: Callable[..., Any],
        *arrays: Any,
        partials: Callable[..., tuple[Any, ...]] | None = None,
    ) -> Any:
        """Evaluate a function that is to be differentiated by another formula for the same.

        `function` is the shorter one, for where nothing is differentiated. `partials` returns the
        derivatives by the arrays, which are then (..., 1), or numbers, for an adapter that can
        hand these over.
        """
        return (differentiable_form if self.differentiable else function)(*arrays)


class Adapter(HostAccess, Backend):
    """A backend of a library that is to be tested and measured, as the built-in ones are."""
