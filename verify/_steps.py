"""Steps that change logits before the loss, forward and backward, and the roundings to a format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Back = Callable[[Floats], Floats]

# Bits of the significand, smallest and largest exponent; TensorFloat-32 has float32's exponents.
_FORMATS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "tf32": (11, -126, 127),
    "float32": (24, -126, 127),
}
NARROW = ("float16", "bfloat16", "tf32")


def round_to(x: Floats, dtype: str) -> Floats:
    """Round to nearest, ties to even, in a narrow format; float64 is left as it is."""
    if dtype == "float64":
        return x
    bits, lowest, highest = _FORMATS[dtype]
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(x)[1] - 1, lowest) - (bits - 1)
        rounded = np.ldexp(np.rint(np.ldexp(x, -exponent)), exponent)
        beyond = np.abs(rounded) >= 2.0 ** (highest + 1)
        return np.where(np.isfinite(x), np.where(beyond, np.copysign(np.inf, x), rounded), x)


def spacing(x: Floats, dtype: str) -> Floats:
    """Give the distance between neighbours of a format at x."""
    if dtype == "float64":
        return np.spacing(np.abs(x))
    bits, lowest, _ = _FORMATS[dtype]
    exponent = np.maximum(np.frexp(np.where(np.isfinite(x), x, 0.0))[1] - 1, lowest)
    return np.ldexp(1.0, exponent - (bits - 1))


def softmax(z: Floats) -> Floats:
    """Give the probabilities of rows."""
    with np.errstate(all="ignore"):
        e = np.exp(z - np.max(z, axis=-1, keepdims=True))
        return np.asarray(e / np.sum(e, axis=-1, keepdims=True))


def _rounded(z: Floats, dtype: str) -> tuple[Floats, Back]:
    return round_to(z, dtype), lambda g: g


def _softmax(z: Floats, _: Any) -> tuple[Floats, Back]:
    p = softmax(z)
    return p, lambda g: p * (g - np.sum(p * g, axis=-1, keepdims=True))


def _temperature(z: Floats, t: float) -> tuple[Floats, Back]:
    return z / t, lambda g: g / t


def _softcap(z: Floats, cap: float) -> tuple[Floats, Back]:
    tanh = np.tanh(z / cap)
    return cap * tanh, lambda g: g * (1.0 - tanh) * (1.0 + tanh)


_STEPS: dict[str, Callable[[Floats, Any], tuple[Floats, Back]]] = {
    "rounded": _rounded,
    "softmax": _softmax,
    "temperature": _temperature,
    "softcap": _softcap,
}


def apply(z: Floats, steps: tuple[tuple[str, Any], ...]) -> tuple[Floats, Back]:
    """Take the steps one after the other; give their result and the way back for a gradient."""
    backs: list[Back] = []
    for name, value in steps:
        z, back = _STEPS[name](z, value)
        backs.append(back)

    def way_back(g: Floats) -> Floats:
        for back in reversed(backs):
            g = back(g)
        return g

    return z, way_back
