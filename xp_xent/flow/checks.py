"""Refusals: each names the argument, what it got, what was wanted, and the likely mistake."""

import math
from collections.abc import Callable
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
SAMPLE_WEIGHTS = "; weights are passed as sample_weight="
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


def mask(name: str, array: Array, true: str = "the row counts", hint: str = SAMPLE_WEIGHTS) -> None:
    """Refuse anything but booleans, and integers, which are to be 0 and 1."""
    if kind(array) not in ("bool", "integer"):
        raise TypeError(
            f"{name}: got dtype {dtype_name(array.dtype)}, wanted bool (True: {true}){hint}"
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


def broadcastable(
    name: str, array: Array, wanted: tuple[int, ...], of: str = "the logits'"
) -> None:
    """Refuse a shape that does not broadcast to the one wanted."""
    got = tuple(array.shape)
    aligned = wanted[max(len(wanted) - len(got), 0) :]
    # A length that a compiler does not know yet is the other's, not 1.
    shape = tuple(b if known(a, 1) else a for a, b in zip(got, aligned, strict=False))
    if len(got) > len(wanted) or not same_shape(shape, aligned):
        raise ValueError(f"{name}: got shape {got}, wanted one that broadcasts to {of} {wanted}")


def broadcast(name: str, array: Array, other: tuple[int, ...], of: str) -> tuple[int, ...]:
    """Return the shape that an array and one of another shape broadcast to, or refuse it."""
    got = tuple(array.shape)
    ndim = max(len(got), len(other))
    one, two = ((1,) * (ndim - len(shape)) + shape for shape in (got, other))
    shape = tuple(b if known(a, 1) else a for a, b in zip(one, two, strict=True))
    if not same_shape(
        shape, tuple(a if known(b, 1) else b for a, b in zip(shape, two, strict=True))
    ):
        raise ValueError(f"{name}: got shape {got}, wanted one that broadcasts with {of} {other}")
    return shape


def labels(name: str, array: Array) -> None:
    """Refuse labels that are not integers."""
    if kind(array) != "integer":
        hint = CAST_LABELS if kind(array) == "floating" else ""
        raise TypeError(f"{name}: got dtype {dtype_name(array.dtype)}, wanted integers{hint}")


def axis(
    value: Any,
    shape: tuple[int, ...],
    name: str = "logits",
    of: tuple[str, str] = CLASSES,
    count: Callable[[int], Any] = int,
) -> int:
    """Return an axis counted from 0; it must exist and not be empty. `of`: what is along it.

    Of an array that is a part, `count` gives the length of the whole.
    """
    one, many = of
    value = integer("axis", value, "one integer")
    if len(shape) == 0:
        raise ValueError(
            f"axis: got {value} for {name} of shape (), wanted an array with a {one} axis"
        )
    found = _counted_from_0(value, shape, name)
    known_number(name, shape, found, many)
    if known(shape[found], 0) and known(count(0), 0):
        raise ValueError(
            f"{name}: got no {many} (shape {shape}, axis={value}), wanted at least one"
        )
    return found


def axes(value: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return the axes that an integer, a tuple of integers or None (all) names, from 0 upwards."""
    if value is None:
        return tuple(range(len(shape)))
    wanted = "an integer, a tuple of integers, or None for all axes"
    given = value if isinstance(value, tuple) else (value,)
    found = [_counted_from_0(integer("axis", one, wanted), shape, name) for one in given]
    if len(set(found)) < len(found):
        raise ValueError(f"axis: got {value}, wanted each axis once for {name} of shape {shape}")
    return tuple(sorted(found))


def _counted_from_0(axis: int, shape: tuple[int, ...], name: str) -> int:
    ndim = len(shape)
    if ndim == 0:
        raise ValueError(
            f"axis: got {axis} for {name} of shape (), wanted an array with a class axis, or None"
        )
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"axis: got {axis}, wanted −{ndim} … {ndim - 1} for {name} of shape {shape}"
        )
    return axis % ndim


def known_number(name: str, shape: tuple[int, ...], axis: int, many: str) -> None:
    """Refuse a length that a model leaves open where the formula has it as a number."""
    if shape[axis] is None:
        raise ValueError(
            f"{name}: got an unknown number of {many} (shape {shape}, axis={axis}), wanted one "
            "that is known; other axes may have symbolic lengths"
        )


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


def no_stats() -> ValueError:
    """Return the refusal of statistics beside curvature."""
    return ValueError(
        "return_stats: got True, but statistics come with a loss and with value_and_grad alone"
    )


def flag(name: str, value: Any) -> bool:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, wanted True or False")
    return value


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


def no_matrix(why: str) -> TypeError:
    """Return the error of a loss that is asked for a row's Hessian."""
    return TypeError(
        f"loss: got one {why}, wanted one of rows of logits, each of which has its own Hessian; "
        "hessian_diagonal gives the diagonal, hvp products with vectors"
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
