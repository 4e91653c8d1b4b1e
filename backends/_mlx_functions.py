"""What stands in place of MLX's functions: to the last digits, in every transform."""

import math
from types import ModuleType
from typing import Any

import mlx.core as mx

Array = Any

# ln 2 in two parts, the first of few enough bits that its multiples by an exponent are exact.
LN2 = (0.693359375, -2.1219444005469058e-4)
# So many numbers are added one by one.
PART = 32


def namespace() -> ModuleType:
    """Return MLX's functions, with those of this file in place of its own.

    Raises
    ------
    ImportError
        MLX is installed, but does not compute.
    """
    try:
        mx.eval(mx.zeros(1) + 1)
    except RuntimeError as error:
        raise ImportError(f"MLX is installed, but has no device: {error}") from error
    own = {f.__name__.rstrip("_"): f for f in (argmax, astype, full, sum_, take_along_axis, where)}
    found = ModuleType("mlx")
    vars(found).update(vars(mx) | own | {"exp": exp, "expm1": expm1})
    return found


@mx.custom_function
def exp(x: Array) -> Array:
    """Return exp(x): MLX's on a CPU is |x| ULP off, and in float64 no better than in float32."""
    power = mx.clip(mx.round(x * (1 / math.log(2))), -1100, 1100)
    small = mx.expm1(x - power * LN2[0] - power * LN2[1])
    return 2 * (1 + small) * mx.power(2.0, power - 1)


@mx.custom_function
def expm1(x: Array) -> Array:
    """Return exp(x) − 1, whose derivative in MLX's forward mode would be MLX's exp."""
    return mx.expm1(x)


for _function in (exp, expm1):
    _function.vjp(lambda x, cotangent, _: cotangent * exp(x))
    _function.jvp(lambda x, along: along * exp(x))
    # By default it would map over the operations, and forget the derivatives above.
    _function.vmap(lambda x, axis, function=_function: (function(x), axis))


@mx.custom_function
def kept(where: Array, x: Array) -> Array:
    """Return x, and 0 elsewhere: MLX's derivative is multiplied by 0 there, infinite or not."""
    return mx.where(where, x, 0.0)


@kept.vjp
def _kept_vjp(arrays: tuple[Array, Array], cotangent: Array, _: Array) -> tuple[Array, Array]:
    return mx.zeros_like(arrays[0]), kept(arrays[0], cotangent)


@kept.jvp
def _kept_jvp(arrays: tuple[Array, Array], along: tuple[Array | None, Array | None]) -> Array:
    return mx.zeros_like(arrays[1]) if along[1] is None else kept(arrays[0], along[1])


@kept.vmap
def _kept_vmap(arrays: tuple[Array, Array], axes: tuple[int | None, ...]) -> tuple[Array, int]:
    pairs = zip(arrays, axes, strict=True)
    mapped = [x[None] if axis is None else mx.moveaxis(x, axis, 0) for x, axis in pairs]
    return kept(*mx.broadcast_arrays(*mapped)), 0


def where(condition: Array, x: Array | float, y: Array | float) -> Array:
    """Choose; where numbers are blanked by 0, their derivatives are, too."""
    if isinstance(x, mx.array) and isinstance(y, float) and y == 0:
        return kept(*mx.broadcast_arrays(condition, x))
    return mx.where(condition, x, y)


def sum_(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """Add up in a tree: MLX adds in lanes, each one by one, 1000 ULP off for 100 000 numbers."""
    if isinstance(axis, tuple):
        for one in sorted((one % x.ndim for one in axis), reverse=True):
            x = sum_(x, one, keepdims)
        return x
    x, axis = (mx.reshape(x, (-1,)), 0) if axis is None else (x, axis % x.ndim)
    if x.size == 0:
        return _nothing(x, axis, keepdims, mx.sum(mx.zeros(1, dtype=x.dtype)).dtype)
    while (groups := x.shape[axis] // PART) > 1:
        x, rest = mx.split(x, [groups * PART], axis=axis)
        x = mx.sum(mx.unflatten(x, axis, (groups, PART)), axis=axis + 1)
        x = mx.concat([x, rest], axis=axis)
    return mx.sum(x, axis=axis, keepdims=keepdims)


def _nothing(x: Array, axis: int, keepdims: bool, dtype: Any) -> Array:
    """Return zeros: over no entries, MLX's loops may not end, or read what is not theirs."""
    shape = list(x.shape)
    shape[axis % x.ndim : axis % x.ndim + 1] = [1] if keepdims else []
    return mx.zeros(shape, dtype=dtype)


def argmax(x: Array, axis: int, keepdims: bool) -> Array:
    """Return the place of the largest, of no rows too, which MLX refuses."""
    if x.size == 0:
        return _nothing(x, axis, keepdims, mx.uint32)
    return mx.argmax(x, axis=axis, keepdims=keepdims)


def take_along_axis(x: Array, index: Array, axis: int) -> Array:
    """Pick numbers: MLX refuses to differentiate by what an index was computed from."""
    return mx.take_along_axis(x, mx.stop_gradient(index), axis=axis)


def astype(x: Array, dtype: Any, *, copy: bool = False) -> Array:
    """Return the same numbers in a dtype; an array is never written to, so none is a copy."""
    return x.astype(dtype)


def full(shape: tuple[int, ...], value: float, *, dtype: Any, device: None = None) -> Array:
    """Return an array of one number, of no device."""
    return mx.full(shape, value, dtype=dtype)


def beside(x: Array, *others: Array) -> Array:
    """Return x, mapped over by `mx.vmap` if one of the others is.

    ``vmap(lambda x: x & y)`` and ``vmap(lambda x: y != x)`` are wrong in MLX, as y is not.
    """
    nothing: Any = sum(mx.sum(mx.pad(mx.flatten(other)[:0], 1)) for other in others)
    return mx.where(mx.stop_gradient(nothing == 0), x, x)
