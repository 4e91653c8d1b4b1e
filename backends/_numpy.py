"""NumPy: rows walked in cache-sized, contiguous blocks, on threads."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

import numpy as np

from xp_xent.backends import _blocks, _threads
from xp_xent.backends._base import MOST, Array, Backend
from xp_xent.backends._numpy_layout import FEW, PAIRS, Located, alike, few, laid_out, located

# Elements of a block: few enough for a second-level cache, enough that threads seldom wait for the
# interpreter (with a quarter of it two threads take longer than one).
BLOCK = 1 << 19

# Makes the arrays of results: in NumPy's memory, or in that of a library which lends its arrays.
memory: ContextVar[Callable[[tuple[int, ...], Any], np.ndarray]] = ContextVar(
    "xp_xent_memory", default=np.empty
)


class _Room(threading.local):
    view: np.ndarray | None = None


class NumPy(Backend):
    name = "numpy"
    roots = ("numpy",)
    module = "numpy"
    differentiable = False
    looks = True

    def __init__(self) -> None:
        super().__init__()
        self._room = _Room()

    def refuses(self, array: Array) -> str | None:
        if type(array) is np.ndarray:
            return None
        if isinstance(array, np.ma.MaskedArray):
            return "got a numpy.ma.MaskedArray, whose mask would be lost; pass its data and where="
        if isinstance(array, np.matrix):
            return "got a numpy.matrix, wanted a numpy.ndarray; use numpy.asarray"
        return None

    def device(self, array: Array) -> str:
        return "cpu"

    def is_readable(self, array: Array) -> bool:
        return True

    def holds(self, condition: Array) -> bool:
        return bool(condition.all())

    def spans(self, x: Array, low: float, high: float) -> bool:
        # Quicker than conditions of all numbers; a NaN is least, and compares with nothing. Where
        # rows do not lie together, the places would be found in two slow walks.
        if x.size == 0:
            return True
        if not x.flags.c_contiguous:
            return bool(x.min() >= low and x.max() <= high)
        return bool(x.item(x.argmin()) >= low and x.item(x.argmax()) <= high)

    def index_dtype(self, like: Array) -> Any:
        return np.intp

    def full(self, shape: tuple[int, ...], value: float, dtype: Any, like: Array) -> Array:
        made = memory.get()(shape, dtype)
        made.fill(value)
        return made

    def float_dtypes(self) -> tuple[str, ...]:
        try:
            import ml_dtypes  # noqa: F401  (NumPy's bfloat16, where it is installed)
        except ImportError:
            return ("float16", "float32", "float64")
        return ("float16", "bfloat16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        if dtype == "bfloat16":
            import ml_dtypes

            return np.array(host, dtype=ml_dtypes.bfloat16)
        return np.array(host, dtype=dtype)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def quiet(self) -> AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    def add_product_(self, total: Array, a: Array, b: Array) -> Array:
        # NumPy cannot add to a product; some classes at a time, the product stays small.
        step = max(1, (1 << 20) // max(1, b.shape[-1]))
        for start in range(0, len(total), step):
            part = slice(start, start + step)
            total[part] += a[:, part].T @ b
        return total

    def cast(self, x: Array, dtype: Any) -> Array:
        # Native bytes whatever is asked for: all that is computed with and returned comes by here.
        if x.dtype == dtype and x.dtype.isnative:
            return x
        with self.quiet():
            return x.astype(np.dtype(dtype).type)

    def arranged(self, x: Array, dtype: Any) -> Array:
        return laid_out(self.cast(x, dtype))

    def row_sum(self, x: Array) -> Array:
        if PAIRS <= x.shape[-1] < FEW and x.size == x.shape[-1]:
            # One row lies together, whatever its layout; among others it is summed class by class.
            return np.add.accumulate(x, axis=-1)[..., -1:]
        return np.add.reduce(laid_out(x), axis=-1, keepdims=True)

    def total(self, x: Array) -> Array:
        return np.add.reduce(x.reshape(-1))  # in one order, whatever the memory layout

    def exp_shifted(self, x: Array, shift: Array) -> Array:
        room = self._room_for(x)
        return np.exp(np.subtract(x, shift, out=room), out=room)

    def _room_for(self, x: Array) -> Array:
        """Give memory for the exponentials of x: where its gradient will be, if laid out alike."""
        room, self._room.view = self._room.view, None
        fits = room is not None and room.dtype == x.dtype and alike(room, x)
        return room if fits else _empty_like(x, x.dtype)

    def multiply_(self, x: Array, factor: Array) -> Array:
        return np.multiply(x, factor, out=x)

    def unshifted(self, z: Array, label: Array) -> tuple[Array, Any, Array, Array]:
        # Where they lie, if rows or classes lie together: nothing here runs along few classes.
        z = z if z.flags.c_contiguous else laid_out(z)
        e = np.exp(z, out=self._room_for(z))
        found = located(e, label)  # once, for the three uses
        place = label if found is None else found
        own = self.pick(e, place)
        e = self.put_(e, place, 0.0)
        return e, place, self.row_sum(e), own

    def pick(self, x: Array, index: Any) -> Array:
        place = index if isinstance(index, Located) else located(x, index)
        if place is None:
            return np.take_along_axis(x, index, axis=-1)
        return place.line.take(place.at).reshape(place.shape)

    def put_(self, x: Array, index: Any, value: Array) -> Array:
        place = index if isinstance(index, Located) else located(x, index)
        if place is None:
            np.put_along_axis(x, index, value, axis=-1)
        else:
            place.line[place.at] = value.reshape(-1) if isinstance(value, np.ndarray) else value
        return x

    def others_(self, p: Array, own: Array | float, whole: Array | float = 1.0) -> Array:
        if not (p.flags.c_contiguous and isinstance(own, np.ndarray) and isinstance(whole, float)):
            return super().others_(p, own, whole)
        # Few are large, and found in one walk; to reduce rows of a few classes takes longer.
        large, classes = few(p > MOST * whole), p.shape[-1]
        if not large.size:
            return np.subtract(whole, p, out=p)
        line, rows = p.reshape(-1), large // classes  # one in a row at most
        line[large] = 0
        summed = self.row_sum(line.reshape(-1, classes)[rows]) + own.reshape(-1, 1)[rows]
        np.subtract(whole, p, out=p)
        line[large] = summed[:, 0]
        return p

    def blank_(self, x: Array, counted: Array) -> Array:
        np.copyto(x, 0, where=~counted)
        return x

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return self._walk(function, rows, operands, None)

    def blockwise_(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        # With one class, losses would have that shape as well.
        return self._walk(function, rows, operands, rows if rows.shape[-1] > 1 else None)

    def _walk(
        self,
        function: Callable[..., Any],
        rows: Array,
        operands: tuple[Array | None, ...],
        over: Array | None,
    ) -> Any:
        shape = rows.shape
        # No subclass: results would be of it, or not, as the blocks are cut.
        given = [np.asarray(x) if isinstance(x, np.ndarray) else x for x in (rows, *operands)]
        blocks = [(Ellipsis,)] if rows.size <= BLOCK else list(_blocks.cut(shape, BLOCK))
        if len(blocks) == 1:
            results = function(*given)
            if not isinstance(results, tuple):
                return _settled(rows, results)
            return tuple([_settled(rows, part) for part in results])
        outputs: list[np.ndarray] = []
        single, lock = True, threading.Lock()

        def work(index: tuple[Any, ...]) -> None:
            nonlocal single
            parts = (_blocks.part(x, index, shape) for x in given)
            # Not over the rows: a kernel may read them again after their exponentials are made.
            room = self._room.view = _room(outputs, index, shape) if over is None else None
            try:
                results = function(*parts)
            finally:
                self._room.view = None  # a kernel need not have used it
            single = not isinstance(results, tuple)
            results = (results,) if single else results
            with lock:
                if not outputs:
                    outputs.extend(_like(rows, part, over) for part in results)
            for output, part in zip(outputs, results, strict=True):
                if part is not room:
                    output[index] = part

        _threads.each(work, blocks, len(blocks))
        return outputs[0] if single else tuple(outputs)

    def mended_(
        self, function: Callable[..., Any], results: Any, good: Array, *operands: Array | None
    ) -> Any:
        if self.holds(good):
            return results
        bad, shape = ~good[..., 0], good.shape[:-1]

        def chosen(x: Any) -> Any:
            if not isinstance(x, np.ndarray):
                return x
            return np.broadcast_to(x, (*shape, x.shape[-1]))[bad]

        found = function(*map(chosen, operands))
        pairs = (
            zip(results, found, strict=True) if isinstance(found, tuple) else ((results, found),)
        )
        for result, part in pairs:
            result[bad] = part
        return results


def _room(
    outputs: list[np.ndarray], index: tuple[Any, ...], shape: tuple[int, ...]
) -> np.ndarray | None:
    """View a block of the gradient, for its exponentials: of the one result of the rows' shape."""
    if shape[-1] == 1:  # losses have that shape as well
        return None
    return next((output[index] for output in outputs if output.shape == shape), None)


def _settled(rows: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Give a result of all rows as `_like` lays it out."""
    whole = part.shape[:-1] == rows.shape[:-1]
    if whole and (part.shape[-1] == 1 or part.strides == rows.strides):
        return part
    output = _like(rows, part, None)
    output[...] = part
    return output


def _like(rows: np.ndarray, part: np.ndarray, over: np.ndarray | None) -> np.ndarray:
    """Allocate a result, as the rows lie in memory where it has their shape; or write over them."""
    shape = (*rows.shape[:-1], part.shape[-1])
    if over is not None and (shape, part.dtype) == (over.shape, over.dtype):
        return over
    if shape == rows.shape:
        return _empty_like(rows, part.dtype)
    return memory.get()(shape, part.dtype)


def _empty_like(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Allocate an array of the shape of x, its axes in the same order in memory."""
    make = memory.get()
    if make is np.empty:
        return np.empty_like(x, dtype=dtype, subok=False)
    if x.flags.c_contiguous:
        return make(x.shape, dtype)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    made = make(tuple([x.shape[axis] for axis in order]), dtype)
    return made.transpose(np.argsort(order))


BACKEND = NumPy()
