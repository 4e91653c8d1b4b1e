"""Refusals: each names the argument, what it got, what was wanted, and the likely mistake."""

import math
from numbers import Integral, Real
from typing import Any

from xp_xent.backends._numbers import (
    dtype_kind,
    dtype_name,
    float_names,
    is_symbolic,
    same_shape,
)  # fmt: skip

Array = Any

CLASSES, SAMPLES = ("class", "classes"), ("sample", "samples")
# Labels are floating where they come from a table of numbers, as those of boosting libraries do.
CAST_LABELS = "; convert labels that are whole numbers to an integer dtype, int64 for example"


def kind(array: Array) -> str:
    """Return "floating", "integer", "bool" or "other" of an array's dtype."""
    return dtype_kind(array.dtype)


def floating(name: str, array: Array) -> None:
    """Refuse anything but float16, bfloat16, float32 and float64."""
    if kind(array) != "floating":
        hint = "; are the arguments swapped?" if kind(array) == "integer" else ""
        raise TypeError(
            f"{name}: got dtype {dtype_name(array.dtype)}, wanted one of {', '.join(float_names)}; "
            f"nothing is converted silently{hint}"
        )


def numeric(name: str, array: Array, of_mask: str = "; a mask is passed as where=") -> None:
    """Refuse complex, boolean and exotic dtypes; `of_mask` is the hint for booleans."""
    if kind(array) not in ("floating", "integer"):
        hint = of_mask if kind(array) == "bool" else ""
        raise TypeError(
            f"{name}: got dtype {dtype_name(array.dtype)}, wanted real floating or integer{hint}"
        )


def mask(name: str, array: Array, true: str = "the row counts") -> None:
    """Refuse anything but booleans, and integers, which are to be 0 and 1."""
    if kind(array) not in ("bool", "integer"):
        raise TypeError(
            f"{name}: got dtype {dtype_name(array.dtype)}, wanted bool (True: {true}); "
            "weights are passed as sample_weight="
        )


def known(length: Any, number: int) -> bool:
    """Return whether a length is this number; a compiler is not asked, which may not know it."""
    return isinstance(length, int) and length == number


def shape(name: str, array: Array, wanted: tuple[int, ...], of: str) -> None:
    """Refuse any shape but the one wanted."""
    if not same_shape(tuple(array.shape), tuple(wanted)):
        raise ValueError(
            f"{name}: got shape {tuple(array.shape)}, wanted {tuple(wanted)}, {of}; "
            "nothing is broadcast silently"
        )


def broadcastable(name: str, array: Array, wanted: tuple[int, ...]) -> None:
    """Refuse a shape that does not broadcast to the one wanted."""
    got = tuple(array.shape)
    aligned = wanted[max(len(wanted) - len(got), 0) :]
    # A length that a compiler does not know yet is the other's, not 1.
    shape = tuple(b if known(a, 1) else a for a, b in zip(got, aligned, strict=False))
    if len(got) > len(wanted) or not same_shape(shape, aligned):
        raise ValueError(
            f"{name}: got shape {got}, wanted one that broadcasts to the logits' {wanted}"
        )


def labels(name: str, array: Array) -> None:
    """Refuse labels that are not integers."""
    if kind(array) != "integer":
        hint = CAST_LABELS if kind(array) == "floating" else ""
        raise TypeError(f"{name}: got dtype {dtype_name(array.dtype)}, wanted integers{hint}")


def axis(
    value: Any, shape: tuple[int, ...], name: str = "logits", of: tuple[str, str] = CLASSES
) -> int:
    """Return an axis counted from 0; it must exist and not be empty. `of`: what is along it."""
    ndim, (one, many) = len(shape), of
    value = integer("axis", value, "one integer")
    if ndim == 0:
        raise ValueError(
            f"axis: got {value} for {name} of shape (), wanted an array with a {one} axis"
        )
    if not -ndim <= value < ndim:
        raise ValueError(
            f"axis: got {value}, wanted −{ndim} … {ndim - 1} for {name} of shape {shape}"
        )
    if known(shape[value], 0):
        raise ValueError(
            f"{name}: got no {many} (shape {shape}, axis={value}), wanted at least one"
        )
    return value % ndim


def integer(name: str, value: Any, wanted: str = "an integer") -> int:
    """Refuse anything but an integer: Python's or NumPy's."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise TypeError(f"{name}: got {value!r}, wanted {wanted}")
    return int(value)


def is_number(value: Any) -> bool:
    """Tell a real number, Python's or NumPy's or a compiler's, from arrays and all else."""
    return isinstance(value, Real) or is_symbolic(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Refuse anything but a real number in [low, high]."""
    if type(value) is not float and (isinstance(value, bool) or not is_number(value)):
        raise TypeError(f"{name}: got {type(value).__name__}, wanted a Python number")
    # A compiler that settled on the number would compile again for the next one.
    number = value if is_symbolic(value) else float(value)
    if not (low <= number <= high and -math.inf < number < math.inf):
        opening, closing = "(["[low > -math.inf], ")]"[high < math.inf]
        raise ValueError(
            f"{name}: got {value!r}, wanted a number in {opening}{low:g}, {high:g}{closing}"
        )
    return number


def flag(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, wanted True or False")


def choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}, wanted one of {', '.join(map(repr, choices))}")


def no_row_sums(why: str) -> ValueError:
    """Return the error of a loss that is asked for the magnitudes in a row of its Hessian."""
    return ValueError(
        f"curvature: got 'upper_bound', but {why}, and the sum of the magnitudes in its rows has "
        "no closed form of a number a class; wanted 'diagonal'"
    )


def fits_another_axis(
    logits_shape: tuple[int, ...], targets_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Find the class axes that labels of this shape would fit."""
    return tuple(
        axis
        for axis in range(len(logits_shape))
        if same_shape(logits_shape[:axis] + logits_shape[axis + 1 :], targets_shape)
    )
