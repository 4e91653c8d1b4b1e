"""The protocol between the mathematics and an array library: one small class a library.

A backend answers *how* a library runs a loss, never *what* the loss is: which arrays are its own,
where they live, whether their values may be looked at, how a block is walked, how a value is
kept out of a derivative. Every method here has a default that fits a library which follows the
array API standard; an adapter overrides what its library does differently, and says why.
"""

import copy
import importlib
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

Array = Any

HALF = ("float16", "bfloat16")

# A part up to here leaves the rest of a whole its digits, but for two bits.
MOST = 0.75

# Types of real numbers that a compiler has not settled on; an adapter adds its library's.
SYMBOLIC: set[type] = set()


def is_symbolic(number: Any) -> bool:
    """Tell a compiler's number from Python's: `float` would settle it, and compile for each."""
    return type(number) in SYMBOLIC


# How to tell if lengths of an axis are equal that a compiler may not know yet: by their type.
LENGTHS: dict[type, Callable[[Any, Any], bool]] = {}


def same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Tell if shapes are equal; a length that a compiler does not know is required to be."""
    if not LENGTHS or len(a) != len(b):
        return a == b
    for one, other in zip(a, b, strict=True):
        same = LENGTHS.get(type(one)) or LENGTHS.get(type(other)) or operator.eq
        if not same(one, other):
            return False
    return True


# NumPy's own way to a dtype's name takes longer than a small loss, and gives none to a dtype whose
# bytes are in the other order.
_NATIVE = {
    np.dtype(name): name
    for name in (
        "bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64",
    )
}  # fmt: skip
_NUMPY_NAMES = _NATIVE | {dtype.newbyteorder(): name for dtype, name in _NATIVE.items()}


def dtype_name(dtype: Any) -> str:
    """Give the standard's name of any library's dtype: ``"float32"`` for ``torch.float32``."""
    name = _NUMPY_NAMES.get(dtype) if isinstance(dtype, np.dtype) else None
    return str(dtype).rpartition(".")[-1] if name is None else name


class Backend:
    """What xp_xent needs to know of one array library.

    Third parties subclass it and register the class in the entry-point group
    ``xp_xent.backends``.

    Attributes
    ----------
    name : str
        The library's name, also the name of the entry point.
    roots : tuple of str
        Top-level packages that define the library's array types.
    module : str
        The namespace to import when one of its arrays shows up.
    differentiable : bool
        Whether the library may differentiate what the losses compute.
    looks : bool
        Whether a kernel may look at its numbers and compute some rows again; see `mended_`.
    axis : int
        Where kernels find the classes, counted from the end. The shapes below are written as if
        they came last.
    """

    name: ClassVar[str]
    roots: ClassVar[tuple[str, ...]]
    module: ClassVar[str]
    differentiable: ClassVar[bool] = True
    looks: ClassVar[bool] = False
    axis: int = -1

    def __init__(self) -> None:
        self.xp: ModuleType = self.load()

    def load(self) -> ModuleType:
        """Import the namespace; raises ImportError where the library is not usable."""
        return importlib.import_module(self.module)

    def refuses(self, array: Array) -> str | None:
        """Say why an array of this library cannot be taken, or None."""
        return None

    # Where an array lives, and whether Python may look at its values

    def device(self, array: Array) -> Any:
        """Give the device, or None where the question has no answer (under tracing)."""
        return array.device

    def devices(self) -> tuple[Any, ...]:
        """List the devices that `asarray` can place an array on."""
        return tuple(self.xp.__array_namespace_info__().devices())

    def is_readable(self, array: Array) -> bool:
        """Tell if the values are in host memory and known now: not on a device, not traced."""
        return False

    def holds(self, condition: Array) -> bool:
        """Tell if a condition that is readable is true everywhere."""
        return bool(self.xp.all(condition))

    def spans(self, x: Array, low: float, high: float) -> bool:
        """Tell if readable numbers all lie in [low, high], none of them NaN."""
        return self.holds((x >= low) & (x <= high))

    def synchronize(self, array: Array) -> None:
        """Wait until the array has been computed."""

    # To and from host memory: explicit, for users, tests and messages; no loss calls these

    def float_dtypes(self) -> tuple[str, ...]:
        """Name the real floating dtypes that work here."""
        return ("float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        """Copy a NumPy array to this library, as the dtype of that name."""
        # Converted on the host first: a device need not have the host array's dtype.
        return self.xp.asarray(np.array(host, dtype=dtype), device=device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy an array to NumPy."""
        return np.array(np.from_dlpack(array))

    # How a loss is evaluated; an adapter may lend its arrays' memory to a faster library

    def value(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Array:
        """Build the evaluation of a loss and compute it, so that the library can differentiate."""
        return build(*arrays, **options).value()

    def closed_form(
        self,
        build: Callable[..., Any],
        ask: Callable[..., Any],
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        """Build the evaluation of a loss and ask it for a closed form: a gradient, curvature.

        `more` is what is asked for beside the evaluation: a cotangent, a vector.
        """
        return ask(build(*arrays, **options), *more)

    # How the mathematics runs

    def along(self, axis: int) -> "Backend":
        """Give the adapter for classes along an axis, counted from the end.

        This one, if they are to be brought to the end; otherwise a copy `at` that axis, for a
        library that would move elements for it.
        """
        return self

    def at(self, axis: int) -> "Backend":
        """Give this adapter, or a copy, for kernels that find the classes along that axis."""
        if axis == self.axis:
            return self
        other = copy.copy(self)
        other.axis = axis
        return other

    def places(self, x: Array) -> Array:
        """Give the class indices 0 … K − 1 of rows x (..., K), broadcastable to them."""
        shape = [1] * len(x.shape)
        shape[self.axis] = x.shape[self.axis]
        return self.xp.reshape(self.arange(x.shape[self.axis], like=x), tuple(shape))

    def arange(self, stop: int, like: Array) -> Array:
        """Give 0 … stop − 1 in the library's index dtype, beside `like`."""
        return self.xp.arange(stop, device=self.device(like))

    def index_dtype(self, like: Array) -> Any:
        """Give the library's index dtype, that of `arange`."""
        return self.arange(1, like=like).dtype

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        """Give an array of one value, beside `like`."""
        return self.xp.full(shape, value, dtype=dtype, device=self.device(like))

    def cast(self, x: Array, dtype: Any) -> Array:
        """Give the same values in a dtype: x itself where it has that dtype."""
        return self.xp.astype(x, dtype, copy=False)

    def arranged(self, x: Array, dtype: Any) -> Array:
        """Give rows (..., K) in a dtype, laid out in memory for a kernel's operations."""
        return self.cast(x, dtype)

    def pick(self, x: Array, index: Any) -> Array:
        """Give each row's entry at its index: (..., K) and (..., 1) to (..., 1)."""
        return self.xp.take_along_axis(x, index, axis=self.axis)

    def row_sum(self, x: Array) -> Array:
        """Sum over the classes: (..., K) to (..., 1)."""
        return self.xp.sum(x, axis=self.axis, keepdims=True)

    def gathered(self, x: Array) -> Array:
        """Give an array as one piece, for an operation that the library has for no other."""
        return x

    def total(self, x: Array) -> Array:
        """Sum all numbers of an array."""
        return self.xp.sum(x)

    def over(self, x: Array | float, denominator: Array | float) -> Array:
        """Divide the sum of all losses, or a cotangent, by the mean's denominator."""
        return x / denominator

    def stop_gradient(self, array: Array) -> Array:
        """Give the same values, constant to the library's automatic differentiation."""
        return array

    def derived(
        self, value: Callable[..., Any], formula: Callable[..., Any], *arrays: Array
    ) -> Any:
        """Evaluate a function that is to be differentiated by another formula for the same.

        `value` is the shorter one, for where nothing is differentiated.
        """
        return (formula if self.differentiable else value)(*arrays)

    def with_slopes(self, function: Any, *rows: Any) -> Array:
        """Evaluate a function of numbers of a row that states its derivatives (`AnchorTerm`).

        The rows are arrays (..., 1) or numbers. An adapter that can hand derivatives to its library
        computes ``function.value`` and hands ``function.slopes``; others differentiate
        ``function.smooth`` as it is.
        """
        return (function.smooth if self.differentiable else function.value)(*rows)

    def quiet(self) -> AbstractContextManager[Any]:
        """Silence floating-point warnings: infinities and NaN are stated results here."""
        return nullcontext()

    def masked(self, array: Array, counted: Array) -> Array:
        """Blank the rows of an input (..., K) that do not count, `counted` (..., 1) being False.

        It keeps their NaN out of automatic differentiation; what kernels return is blanked again.
        """
        return self.xp.where(counted, array, 0.0) if self.differentiable else array

    # A loss of labels alone, walked over in whole rows. The walks are these two; what is between
    # them are numbers of a row. For libraries that run operations one by one on a device.

    def streams(self, rows: Array) -> bool:
        """Tell if a loss of labels is evaluated by `sums` and `gradient`, not by `blockwise`."""
        return False

    def sums(self, z: Array, label: Array, dtype: Any) -> tuple[Array, Array, Array]:
        """Give each row's maximum, Σ exp(z − maximum) without its label, and z at the label.

        All are (..., 1) and of that dtype, which z (..., K) may be narrower than.
        """

        def on_block(z: Array, label: Array) -> tuple[Array, Array, Array]:
            top = self.xp.max(z, axis=self.axis, keepdims=True)
            top = self.cast(top, dtype)
            _, rest, own = self.anchored(z, top, label)
            return top, rest, self.cast(own, dtype)

        return self.blockwise(on_block, z, label)

    def gradient(
        self,
        z: Array,
        shift: Array,
        factor: Array,
        label: Array,
        entry: Array,
        counted: Array | None,
    ) -> Array:
        """Give exp(z − shift)·factor with an entry at each row's label, 0 in rows not counted.

        It has the dtype of z, and is rounded once.
        """

        def on_block(
            z: Array, shift: Array, factor: Array, label: Array, entry: Array, counted: Any
        ) -> Array:
            e = self.multiply_(self.exp_shifted(z, shift), factor)
            e = self.put_(e, label, entry)
            e = e if counted is None else self.blank_(e, counted)
            return self.cast(e, z.dtype)

        return self.blockwise(on_block, z, shift, factor, label, entry, counted)

    # On temporaries: x is an array that a kernel made itself and needs no more, so that a
    # library whose arrays can be written to may write the result into it.

    def exp_shifted(self, x: Array, shift: Array) -> Array:
        """Give exp(x − shift) as such a temporary; x itself is kept."""
        return self.xp.exp(x - shift)

    def anchored(self, z: Array, shift: Array, anchor: Array) -> tuple[Array, Array, Array]:
        """Give such exponentials with 0 at each row's anchor, their sum, and z at the anchor."""
        e = self.put_(self.exp_shifted(z, shift), anchor, 0.0)
        return e, self.row_sum(e), self.pick(z, anchor)

    def anchored_sums(
        self, z: Array, shift: Array, anchor: Array, counted: Array | None
    ) -> tuple[Array, Array, Array] | None:
        """Give the shift and, of z less the shift, the two sums of `anchored`; or None.

        They are all that a loss, not its gradient, asks of elements. So its derivatives by the
        logits pass through here, and an adapter may state them where its library finds longer
        ones. Further derivatives are to be those of `centred`. The shift (..., 1) is constant to
        the first; like z it is not blanked yet, and what is returned is, in rows that do not count.
        """
        return None

    def centred(self, z: Array, shift: Array) -> tuple[Array, Array]:
        """Give z − shift and the shift, the row's maximum, for a library that differentiates.

        Where a class holds more than half of the probability, the shift carries the derivative of
        its logit, and its own difference none. So none of the row's further derivatives is
        1 − p for a p near 1, whatever the anchor is.
        """
        xp = self.xp
        below = z - shift
        sure = self.row_sum(xp.exp(self.stop_gradient(below))) < 2
        largest = xp.argmax(z, axis=self.axis, keepdims=True)
        shift = xp.where(sure, self.pick(z, largest), shift)
        at_centre = sure & (self.places(z) == largest)
        return xp.where(at_centre, 0.0, z - shift), shift

    def multiply_(self, x: Array, factor: Array) -> Array:
        """Give x · factor, where the factor broadcasts to x."""
        return x * factor

    def put_(self, x: Array, index: Array, value: Array) -> Array:
        """Give rows x (..., K) with the entry at each row's index (..., 1) replaced by a value."""
        return self.xp.where(self.places(x) == index, value, x)

    def others_(self, p: Array, own: Array | float, whole: Array | float = 1.0) -> Array:
        """Give, for each class of rows p (..., K) ≥ 0, the sum of the others and `own` (..., 1).

        `whole` is the sum of all, of which nothing accurate is left where p is most of it.
        """
        large = p > MOST * whole
        summed = self.row_sum(self.xp.where(large, 0.0, p)) + own
        return self.xp.where(large, summed, whole - p)

    def blank_(self, x: Array, counted: Array) -> Array:
        """Give x with 0 in the rows that do not count."""
        return self.xp.where(counted, x, 0.0)

    def add_product_(self, total: Array, a: Array, b: Array) -> Array:
        """Give total + aᵀb of a (n, K), b (n, D) and a total (K, D) that is needed no more."""
        return total + self.xp.matmul(self.xp.matrix_transpose(a), b)

    def scan(
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

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        """Apply a function that treats each row alone to rows (..., K) and what belongs to them.

        The operands broadcast against the rows, are numbers or None. The function returns an array
        or a tuple of arrays of shape (..., 1) or (..., K). A backend may cut the rows into blocks.
        """
        return function(rows, *operands)

    def blockwise_(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        """Do as `blockwise`; a result may be written over the rows, which are needed no more."""
        return self.blockwise(function, rows, *operands)

    def unshifted(self, z: Array, label: Array) -> tuple[Array, Any, Array, Array]:
        """Give exp(z) with 0 at each row's label, the place, the row's sum, and what was there.

        Asked of a backend that `looks`.
        """
        raise NotImplementedError

    def mended_(
        self, function: Callable[..., Any], results: Any, good: Array, *operands: Array | None
    ) -> Any:
        """Compute the rows again that are not good (..., 1), where the backend `looks`.

        The operands and results are those of `blockwise`.
        """
        raise NotImplementedError
