"""NumPy: what its arrays are, and operations on them; rows are walked in `_numpy_walk`."""

from typing import Any

import numpy as np

from xp_xent.backends import _blocks
from xp_xent.backends._base import MOST, Array
from xp_xent.backends._numpy_layout import Located, few, located, memory
from xp_xent.backends._numpy_walk import Walked


class NumPy(Walked):
    name = "numpy"
    packages = ("numpy",)
    module = "numpy"
    differentiable = False

    def unsupported_reason(self, array: Array) -> str | None:
        if type(array) is np.ndarray:
            return None
        if isinstance(array, np.ma.MaskedArray):
            return "got a numpy.ma.MaskedArray, whose mask would be lost; pass its data and where="
        if isinstance(array, np.matrix):
            return "got a numpy.matrix, wanted a numpy.ndarray; use numpy.asarray"
        return None

    def _not_writable(self, out: Array, others: tuple[Array, ...]) -> str | None:
        if not out.flags.writeable:
            return "got a read-only array, wanted one to write into"
        if not out.dtype.isnative:
            return f"got dtype {out.dtype.str}, wanted the machine's byte order"
        if _blocks.folded(out.shape, out.strides):
            return _blocks.FOLDED
        return _blocks.SHARED if any(_share(out, x) for x in others) else None

    def device(self, array: Array) -> str:
        return "cpu"

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

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        # NumPy cannot add to a product; some classes at a time, the product stays small.
        step = max(1, (1 << 20) // max(1, b.shape[-1]))
        for start in range(0, len(total), step):
            part = slice(start, start + step)
            total[part] += a[:, part].T @ b
        return total

    def scale_rows(self, x: Array, factor: Any = 1.0, valid: Array | None = None) -> Array:
        if not (isinstance(factor, float) and factor == 1):
            x = np.multiply(x, factor, out=x)
        if valid is not None:
            np.copyto(x, 0, where=~valid)
        return x

    def take_label(self, x: Array, index: Any) -> Array:
        place = index if isinstance(index, Located) else located(x, index)
        if place is None:
            return np.take_along_axis(x, index, axis=-1)
        return place.line.take(place.at).reshape(place.shape)

    def set_at_label(self, x: Array, index: Any, value: Any) -> Array:
        place = index if isinstance(index, Located) else located(x, index)
        if place is None:
            np.put_along_axis(x, index, value, axis=-1)
        else:
            place.line[place.at] = value.reshape(-1) if isinstance(value, np.ndarray) else value
        return x

    def other_sums(self, p: Array, at_reference: Any, whole: Any = 1.0) -> Array:
        numbers = isinstance(at_reference, np.ndarray) and isinstance(whole, float)
        if not (p.flags.c_contiguous and numbers):
            return super().other_sums(p, at_reference, whole)
        # Few are large, and found in one walk; to reduce rows of a few classes takes longer.
        large, classes = few(p > MOST * whole), p.shape[-1]
        if not large.size:
            return np.subtract(whole, p, out=p)
        line, rows = p.reshape(-1), large // classes  # one in a row at most
        line[large] = 0
        summed = self.row_sum(line.reshape(-1, classes)[rows]) + at_reference.reshape(-1, 1)[rows]
        np.subtract(whole, p, out=p)
        line[large] = summed[:, 0]
        return p


def _share(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=1000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


BACKEND = NumPy()
