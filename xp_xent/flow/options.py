"""A call's options as the formulas want them: numbers within range, masks of booleans."""

import math
from typing import Any, NamedTuple

import numpy as np

from xp_xent.backends._numbers import is_symbolic
from xp_xent.flow import checks as check

Array = Any
Options = dict[str, Any]

# What may have to be placed beside the logits.
SEQUENCES = frozenset((list, tuple))
FOREIGN = SEQUENCES | {np.ndarray}
WEIGHTS = ("weight", "pos_weight", "sample_weight", "alpha", "b")
MASKS = ("where", "class_where")
SMOOTHINGS = ("uniform", "others")
# What a message adds where logits have one class.
BINARY = "; one logit a row, with targets 0 or 1, is for binary_cross_entropy_with_logits"


class Range(NamedTuple):
    """What values a number may have."""

    low: float = -math.inf
    high: float = math.inf
    wanted: str = ""  # in place of `low`, where that is not among them
    or_none: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Return the number, or refuse it."""
        number = check.number(name, value, self.low, self.high)
        if self.wanted and number == self.low:
            raise ValueError(f"{name}: got 0, wanted {self.wanted}")
        return number

    def holds(self, x: Array) -> Array:
        """Return whether the value of an array () is one of them: an array as well."""
        above = x > self.low if self.wanted else x >= self.low
        # No infinite number is among them.
        return above & (x <= self.high if self.high < math.inf else x < self.high)


UNIT, AT_LEAST_0 = Range(0.0, 1.0), Range(0.0)
SOFTCAP = Range(0.0, wanted="a positive number, or None for no cap", or_none=True)
TEMPERATURE = Range(0.0, wanted="a positive number")


def is_number(option: Any) -> bool:
    """Return whether an option is one number: Python's, NumPy's, a compiler's or an array ()."""
    shape = getattr(option, "shape", None)
    return check.is_number(option) if shape is None else tuple(shape) == ()


def numbers(
    ranges: dict[str, Range], backend: Any, dtype: Any, like: Array, options: Options
) -> Options:
    """Return options whose numbers are Python's, or arrays () of the loss's dtype, or refuse them.

    An array that cannot be read without waiting for a device is NaN where it is out of range.
    """
    found = dict(options)
    for name, within in ranges.items():
        value = options[name]
        if type(value) is float and within.low < value < within.high:
            continue  # nearly every number
        if type(value) is float and value == within.low == 0 and not within.wanted:
            continue
        of_classes = name == "alpha" and hasattr(value, "dtype") and not is_number(value)
        if not (of_classes or (value is None and within.or_none)):
            found[name] = _number(name, value, within, backend, dtype, like)
    return found


def _number(name: str, value: Any, within: Range, backend: Any, dtype: Any, like: Array) -> Any:
    if is_symbolic(value):
        # As an array, for a formula might settle on it, and be compiled for each value; by a
        # product, which the compiler follows.
        value = within.check(name, value)
        return 0.0 if value == 0 else backend.full((), 1.0, dtype, like=like) * value
    if check.is_number(value) or not hasattr(value, "dtype"):
        return within.check(name, value)
    check.numeric(name, value, "")
    check.shape(name, value, (), "one number")
    if backend.can_read_values(value):
        known = within.check(name, float(backend.stop_gradient(value)))
        return backend.cast(value, dtype) if backend.differentiable else known
    value = backend.cast(value, dtype)
    # A factor, not a choice: the derivative by a number out of range is NaN, too.
    one = backend.full((), 1.0, dtype, like=like)
    return value * backend.xp.where(within.holds(value), one, backend.xp.nan)


def masks(backend: Any, options: Options, hint: str = check.SAMPLE_WEIGHTS) -> Options:
    """Return options whose masks are booleans, or refuse integers other than 0 and 1."""
    for name in MASKS:
        mask = options.get(name)
        if mask is not None and check.kind(mask) == "integer":
            if backend.can_read_values(mask) and not backend.all_between(mask, 0, 1):
                raise ValueError(f"{name}: got integers other than 0 and 1, wanted a mask{hint}")
            options = options | {name: mask != 0}
    return options
