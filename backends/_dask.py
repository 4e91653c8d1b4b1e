"""Dask: arrays in blocks, which a graph says how to compute; nothing here computes any."""

import operator
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import elemwise

from xp_xent.backends import owner_of
from xp_xent.backends._base import Adapter, Array
from xp_xent.backends._dask_blocks import added_up, aligned, on_blocks, starts
from xp_xent.backends._numbers import LENGTHS, has_unknown


class Dask(Adapter):
    name = "dask"
    packages = ("dask",)
    module = "array_api_compat.dask.array"
    differentiable = False

    def _load(self) -> ModuleType:
        xp: Any = SimpleNamespace(**vars(super()._load()))
        xp.exp = partial(elemwise, partial(_quiet, np.exp))
        xp.expand_dims = _expand_dims
        return xp

    def unsupported_reason(self, array: Array) -> str | None:
        if isinstance(array, da.Array):
            return None
        return f"got a {type(array).__name__}, wanted a dask.array.Array"

    # Facts of an array: a block may be anywhere, and has no value yet.

    def device(self, array: Array) -> None:
        return None

    def devices(self) -> tuple[Any, ...]:
        return (None,)

    def float_dtypes(self) -> tuple[str, ...]:
        return ("float16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        return da.from_array(np.array(host, dtype=dtype))

    def to_numpy(self, array: Array) -> np.ndarray:
        found = array.compute()
        backend: Any = owner_of(found)
        return np.array(found if backend is None else backend.to_numpy(found))

    # Array operations

    def indices(self, x: Array, axis: int | None = None) -> Array:
        axis = self.class_axis if axis is None else axis
        if has_unknown((x.shape[axis],)):
            raise ValueError("chunks: got an axis of unknown length; use compute_chunk_sizes()")
        found = da.arange(x.shape[axis], chunks=(x.chunks[axis],))
        return found[(*(None,) * (x.ndim + axis), slice(None), *(None,) * (-1 - axis))]

    def _placed(self, host: Any, like: Array) -> Array:
        return da.from_array(host)

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        return da.full(shape, value, dtype=dtype)

    def cast(self, x: Array, dtype: Any) -> Array:
        return x if x.dtype == dtype else _as_dtype(x, dtype)

    def _reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        if not has_unknown(shape) or len(shape) <= x.ndim:
            return super()._reshape(x, shape)
        # The last axis is taken apart; how long others are is not known.
        tail, x = shape[x.ndim - 1 :], x.rechunk({x.ndim - 1: -1})
        return x.map_blocks(
            _last_apart, tail, new_axis=list(range(x.ndim, len(shape))), dtype=x.dtype,
            chunks=(*x.chunks[:-1], *((n,) for n in tail)), meta=_last_apart(x._meta, tail),
        )  # fmt: skip

    def total(self, x: Array) -> Array:
        return da.reduction(x, _sum, _sum, dtype=x.dtype)

    def _quotient(self, x: Any, y: Any) -> Array:
        return elemwise(partial(_quiet, np.true_divide), x, y)

    def _entries(self, x: Array, index: Array) -> Array:
        names = tuple(range(index.ndim))
        vector = x.rechunk(-1)
        return da.blockwise(
            np.take, names, vector, (index.ndim,), index, names, concatenate=True, dtype=x.dtype,
            meta=x._meta,
        )  # fmt: skip

    def _refused_later(
        self, label: Array, labels: Array, passed: Array, refusal: Callable[..., Exception]
    ) -> Array:
        names = tuple(range(passed.ndim))
        label, labels = aligned(label, passed), aligned(labels, passed)
        pairs = [y for at in names for y in (starts(passed, at), (at,))]
        return da.blockwise(
            partial(_passed, refusal), names, passed, names, label, names, labels, names, *pairs,
            align_arrays=False, dtype=label.dtype, meta=label._meta,
        )  # fmt: skip

    def _added_up(self, function: Callable[..., Array], *arrays: Array | None) -> Array:
        return added_up(self, function, arrays)

    # Evaluation

    def map_blocks(
        self, function: Any, rows: Array, *operands: Any, whole: bool = False, **_: Any
    ) -> Any:
        return on_blocks(self, function, rows, operands, whole)

    def map_steps(
        self, step: Callable[..., Any], totals: Any, arrays: tuple[Array, ...], size: int
    ) -> Any:
        # The blocks are the steps.
        return step(totals, *arrays)


# In tasks, where NumPy's floating-point warnings are to be silenced again


def _quiet(function: Callable[..., Array], *arrays: Array, **how: Any) -> Array:
    with np.errstate(all="ignore"):
        return function(*arrays, **how)


def _last_apart(x: Array, tail: tuple[int, ...]) -> Array:
    return x.reshape((*x.shape[:-1], *tail))


def _sum(x: Array, axis: Any, keepdims: bool) -> Array:
    return _quiet(np.sum, x, axis=axis, keepdims=keepdims)


def _passed(
    refusal: Callable[..., Exception], passed: Array, label: Array, labels: Array, *first: Array
) -> Array:
    """Return labels that have all passed, or refuse the first that has not."""
    if bool(passed.all()):
        return label
    backend: Any = owner_of(passed)
    place = tuple(np.argwhere(~backend.to_numpy(passed))[0])
    position = tuple(int(i) + int(start[0]) for i, start in zip(place, first, strict=True))
    raise refusal(backend.to_numpy(labels)[place], position)


# Beside what Dask's namespace has


def _as_dtype(x: Array, dtype: Any) -> Array:
    return elemwise(partial(_quiet, operator.methodcaller("astype", dtype)), x, dtype=dtype)


def _expand_dims(x: Array, /, *, axis: int = 0) -> Array:
    # Not by a reshape, which lengths that are not known have none of.
    axis %= x.ndim + 1
    return x[(*(slice(None),) * axis, None)]


def _same_length(one: Any, other: Any) -> bool:
    return bool(one == other or np.isnan(one) or np.isnan(other))


BACKEND = Dask()
LENGTHS[float] = _same_length  # NaN is a length that is not known
