"""NumPy: rows walked in cache-sized blocks, on threads; no maximum where none is needed.

A row of logits is first summed up with its exponentials as they are:

    reference_exp = exp(z_y)        other_sum = Σ exp(z_j) over the other classes

−log p_y = log1p(other_sum / reference_exp) and p_j = exp(z_j) / (other_sum + reference_exp) are as
accurate as with a maximum subtracted, with two passes over the elements less, where no exponential
overflows or loses digits. That shows afterwards, row by row; rows where it does not hold are
computed again. Where mass lies on several classes −log p of each is wanted, and logits with a
common offset would cancel: then a maximum is taken.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xp_xent.backends import _blocks, _threads
from xp_xent.backends._base import Adapter, Array
from xp_xent.backends._numpy_layout import (
    Located,
    alike,
    empty_like,
    laid_out,
    like_rows,
    located,
    room_of,
    row_sums,
    rows_of,
    settled,
)  # fmt: skip
from xp_xent.backends._row_sums import ExpSums

# Elements of a block: few enough for a second-level cache, enough that threads seldom wait for the
# interpreter (with a quarter of it two threads take longer than one).
BLOCK = 1 << 19

# Between these, quotients of exponentials do not overflow in float32, nor does a gradient's factor
# of at most 1e29; one of at least LEAST_FACTOR keeps its digits when a total divides it.
LEAST_REFERENCE, LEAST_TOTAL, MOST = 2.0**-60, 2.0**-30, 2.0**50
LEAST_FACTOR = 2.0**-76

# Exponentials that differ by this much of them are of logits that differ, whatever their errors.
NEAR = 2.0**-16


class _Walk(threading.local):
    """What a thread's walk over a block needs to know beside its arguments."""

    room: np.ndarray | None = None  # where the block's gradient will be, for its exponentials
    inaccurate: Any = None  # rows to be computed again, (..., 1); None where there are none
    with_max: bool = False  # they are, now


class Walked(Adapter):
    """The part of NumPy's adapter that a loss goes through: its rows and their exponentials."""

    def __init__(self) -> None:
        super().__init__()
        self._walk = _Walk()

    def can_read_values(self, array: Array) -> bool:
        return True

    def all_between(self, x: Array, low: float, high: float) -> bool:
        # Quicker than conditions of all numbers; a NaN is least, and compares with nothing. Where
        # rows do not lie together, the places would be found in two slow walks.
        if x.size == 0:
            return True
        if not x.flags.c_contiguous:
            return bool(x.min() >= low and x.max() <= high)
        return bool(x.item(x.argmin()) >= low and x.item(x.argmax()) <= high)

    def cast(self, x: Array, dtype: Any) -> Array:
        # Native bytes whatever is asked for: all that is computed with and returned comes by here.
        if x.dtype == dtype and x.dtype.isnative:
            return x
        return x.astype(np.dtype(dtype).type)

    def kernel_layout(self, x: Array, dtype: Any) -> Array:
        return laid_out(self.cast(x, dtype))

    def row_sum(self, x: Array) -> Array:
        return row_sums(x)[0]

    def total(self, x: Array) -> Array:
        return np.add.reduce(x.reshape(-1))  # in one order, whatever the memory layout

    # Exponentials of a block

    def exp_sums(
        self,
        z: Array,
        reference: Array | None,
        dtype: Any,
        *,
        valid: Array | None = None,
        need: str = "exps",
        multipliers: tuple[Any, ...] | None = None,
    ) -> ExpSums:
        if reference is None or multipliers is None or self._walk.with_max:
            return super().exp_sums(z, reference, dtype, valid=valid, need=need)
        # Where they lie, if rows or classes lie together: nothing here runs along few classes.
        z = z if z.dtype == dtype and z.dtype.isnative else self.cast(z, dtype)
        z = z if z.flags.c_contiguous else laid_out(z)
        exps = np.exp(z, out=self._room(z))
        place = located(exps, reference)  # once, for three uses
        if place is None:
            place = reference
            reference_exp = self.take_label(exps, place)
            other_sum, laid = row_sums(self.set_at_label(exps, place, 0.0))
        else:
            reference_exp = place.line.take(place.at).reshape(place.shape)
            place.line[place.at] = 0.0
            other_sum, laid = row_sums(exps)
        total = other_sum + reference_exp
        sums = ExpSums(
            z, reference, None, 0.0, other_sum, None, reference_exp, exps, place, total, laid
        )
        if not (_all_accurate(sums) and (not multipliers or _all_carry(multipliers))):
            accurate = _accurate_rows(sums)
            for multiplier in multipliers:
                accurate = accurate & ((abs(multiplier) >= LEAST_FACTOR) | (multiplier == 0))
            self._walk.inaccurate = ~accurate if valid is None else ~accurate & valid
        return sums

    def exp_gradient(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        place, gradient = sums.place, sums.exps
        if not isinstance(place, Located):
            return super().exp_gradient(sums, factor, entry, valid, dtype)
        np.multiply(gradient, factor, out=gradient)
        place.line[place.at] = entry.reshape(-1)
        if valid is not None:
            np.copyto(gradient, 0, where=~valid)
        return gradient if gradient.dtype == dtype else self.cast(gradient, dtype)

    def _at_largest(self, sums: ExpSums) -> Array:
        if sums.row_max is not None:
            return super()._at_largest(sums)
        # By exponentials, which are in cache; of the logits only where these are nearly as large.
        largest = np.maximum.reduce(sums.laid, axis=-1, keepdims=True)
        ratio = sums.reference_exp / largest
        larger, near = ratio > 1 + NEAR, ratio >= 1 - NEAR
        if larger.tobytes() != near.tobytes():  # the quickest comparison of a few
            near = (near & ~larger)[..., 0]
            z, reference = sums.z[near], sums.reference[near]
            row_max = np.maximum.reduce(z, axis=-1, keepdims=True)
            larger[near] = np.take_along_axis(z, reference, axis=-1) >= row_max
        return larger

    def _exp(self, z: Array, level: Array | float) -> Array:
        room = self._room(z)
        return np.exp(np.subtract(z, level, out=room), out=room)

    def _room(self, x: Array) -> Array:
        """Return memory for exponentials of x: where its gradient will be, if laid out alike."""
        walk = self._walk
        room = walk.room
        if room is not None:
            walk.room = None
            if room.dtype == x.dtype and alike(room, x):
                return room
        return empty_like(x, x.dtype)

    # The walk

    def map_blocks(
        self,
        function: Callable[..., Any],
        rows: Array,
        *operands: Any,
        overwrite: bool = False,
        out: Array | None = None,
        **_: bool,
    ) -> Any:
        walk = self._walk
        if rows.size <= BLOCK and _EXACT.issuperset(map(type, operands)) and type(rows) in _EXACT:
            walk.inaccurate = None  # an exception may have left some
            results = function(rows, *operands)
            if walk.inaccurate is None:
                return settled(rows, results)
            return settled(rows, self._again(function, results, (rows, *operands)))
        # No subclass: results would be of it, or not, as the blocks are cut.
        given = [np.asarray(x) if isinstance(x, np.ndarray) else x for x in (rows, *operands)]
        rows = given[0]
        blocks = [(Ellipsis,)] if rows.size <= BLOCK else list(_blocks.cut(rows.shape, BLOCK))
        if len(blocks) == 1:
            return settled(rows, self._computed(function, given))
        shape, outputs = rows.shape, list[np.ndarray]()
        # With one class, losses would have that shape as well.
        over = rows if overwrite and shape[-1] > 1 else None
        target = None if out is None else np.asarray(out)
        room_in = [] if target is None else [target]
        single, lock = True, threading.Lock()

        def work(index: tuple[Any, ...]) -> None:
            nonlocal single
            parts = [_blocks.part(x, index, shape) for x in given]
            # Not over the rows: a kernel may read them again after their exponentials are made.
            found = room_in or outputs
            room = self._walk.room = room_of(found, index, shape) if over is None else None
            try:
                results = self._computed(function, parts)
            finally:
                self._walk.room = None  # a kernel need not have used it
            single = not isinstance(results, tuple)
            results = (results,) if single else results
            with lock:
                if not outputs:
                    new = results if target is None else results[:-1]
                    outputs.extend(like_rows(rows, part, over) for part in new)
                    outputs.extend(room_in)
            for output, part in zip(outputs, results, strict=True):
                if part is not room:
                    output[index] = part

        _threads.each(work, blocks, len(blocks))
        if out is not None:
            outputs[-1] = out  # of its own type
        return outputs[0] if single else tuple(outputs)

    def _computed(self, function: Callable[..., Any], operands: Sequence[Any]) -> Any:
        """Apply a function to rows, and again to those that were inaccurate."""
        self._walk.inaccurate = None
        return self._again(function, function(*operands), operands)

    def _again(self, function: Callable[..., Any], results: Any, operands: Sequence[Any]) -> Any:
        """Compute rows again, with maxima, that were inaccurate without."""
        walk = self._walk
        bad, walk.inaccurate = walk.inaccurate, None
        if bad is None or not bad.any():
            return results
        chosen, shape = bad[..., 0], bad.shape[:-1]
        walk.with_max = True
        try:
            found = function(*(rows_of(x, shape, chosen) for x in operands))
        finally:
            walk.with_max = False
        pairs = [(results, found)]
        if isinstance(found, tuple):
            pairs = list(zip(results, found, strict=True))
        for result, part in pairs:
            result[chosen] = part
        return results


_EXACT = frozenset((np.ndarray, float, int, bool, type(None)))


def _all_accurate(sums: ExpSums) -> bool:
    """Return whether every row is: a row's own exponential is never above its total."""
    reference_exp, total = sums.reference_exp, sums.total
    if reference_exp.size == 0:
        return True
    # A NaN is least, and compares with nothing.
    if not (
        reference_exp.item(reference_exp.argmin()) >= LEAST_REFERENCE
        and reference_exp.item(reference_exp.argmax()) <= MOST
    ):
        return False
    least = total.item(total.argmin())
    if not (least >= LEAST_TOTAL and total.item(total.argmax()) <= MOST):
        return False
    return bool(least >= 0.5 or (sums.z.min() >= _least(sums.z) and sums.z.max() <= MOST))


def _all_carry(multipliers: tuple[Any, ...]) -> bool:
    for multiplier in multipliers:
        kept = abs(multiplier) >= LEAST_FACTOR
        if not (kept if isinstance(kept, bool) else kept.all()):
            return False
    return True


def _accurate_rows(sums: ExpSums) -> Array:
    """Return which rows' numbers are accurate, (..., 1).

    With a total of 0.5 or more, an exponential that underflows is of a p that does; with less, none
    may.
    """
    total, reference_exp = sums.total, sums.reference_exp
    least = np.min(sums.z, axis=-1, keepdims=True)
    none_underflows = (total >= LEAST_TOTAL) & (least >= _least(sums.z))
    return (reference_exp >= LEAST_REFERENCE) & (total <= MOST) & ((total >= 0.5) | none_underflows)


def _least(z: Array) -> float:
    """Return the logarithm of the smallest number with all its digits."""
    return math.log(float(np.finfo(z.dtype).smallest_normal))
