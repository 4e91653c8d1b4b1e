"""Names of dtypes, and numbers and lengths that a compiler has not settled on."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

HALF = ("float16", "bfloat16")

# Types of real numbers that a compiler has not settled on; an adapter adds its library's.
SYMBOLIC: set[type] = set()


def is_symbolic(number: Any) -> bool:
    """Tell a compiler's number from Python's: `float` would settle it, and compile for each."""
    return type(number) in SYMBOLIC


def has_unknown(shape: tuple[Any, ...]) -> bool:
    """Tell if a length is not known until it is computed: None in a model, NaN in a graph."""
    return any(length is None or type(length) is float for length in shape)


def is_zero(number: Any) -> bool:
    """Return whether an option is Python's number 0; an array is not, whatever it holds."""
    return isinstance(number, (int, float)) and number == 0


def is_one(number: Any) -> bool:
    """Return whether an option is Python's number 1."""
    return isinstance(number, (int, float)) and number == 1


# Adapters of types of arrays that need no search, None where losses are evaluated as they are; an
# adapter adds its library's.
known_types: dict[type, Any] = {np.ndarray: None}

# How to tell if lengths of an axis are equal that a compiler may not know yet: by their type.
LENGTHS: dict[type, Callable[[Any, Any], bool]] = {}


def same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Return whether shapes are equal; a length that a compiler does not know is required to be."""
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
    """Return the standard's name of any library's dtype: ``"float32"`` for ``torch.float32``."""
    name = _NUMPY_NAMES.get(dtype) if isinstance(dtype, np.dtype) else None
    return str(dtype).rpartition(".")[-1] if name is None else name


float_names = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_KINDS = (
    dict.fromkeys(float_names, "floating")
    | dict.fromkeys(INTEGERS, "integer")
    | dict.fromkeys(("bool", "bool_"), "bool")
)


def dtype_kind(dtype: Any) -> str:
    """Return "floating", "integer", "bool" or "other"."""
    return _KINDS.get(dtype_name(dtype), "other")
