"""MLX: the formula through its transforms; arrays of no device, evaluated when they are read."""

from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from xp_xent.backends._base import Adapter, Array
from xp_xent.backends._mlx_functions import beside, namespace


class Mlx(Adapter):
    name = "mlx"
    packages = ("mlx",)
    module = "mlx.core"
    _load = staticmethod(namespace)
    stop_gradient: Any = staticmethod(mx.stop_gradient)
    synchronize: Any = staticmethod(mx.eval)

    def device(self, array: Array) -> None:
        return None  # memory is every device's

    def devices(self) -> tuple[Any, ...]:
        return (mx.default_device(),)

    def can_read_values(self, array: Array) -> bool:
        if mx.default_device() != mx.cpu:  # no loss waits for a GPU
            return False
        try:
            mx.eval(array)
        except ValueError:  # within vmap or compile, which nothing else tells
            return False
        return True

    def float_dtypes(self) -> tuple[str, ...]:
        double = ("float64",) if mx.default_device() == mx.cpu else ()
        return ("float16", "bfloat16", "float32", *double)

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        host = np.array(host, dtype=host.dtype.newbyteorder("="))  # it takes no other order
        name = (dtype or host.dtype.name).replace("bool", "bool_")
        return mx.array(host, dtype=getattr(mx, name))  # or float64 would be float32

    def _placed(self, host: np.ndarray, like: Array) -> Array:
        return self.asarray(host)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)

    def _together(self, operands: Any) -> Any:
        arrays = [x for _, x in tree_flatten(operands) if isinstance(x, mx.array)]
        traced = [x for x in arrays if not self.can_read_values(x)]
        one = lambda x: beside(x, *traced) if isinstance(x, mx.array) else x  # noqa: E731
        return tree_map(one, operands) if traced else operands

    def evaluate(self, loss: Any, ask: Any, *trees: Any) -> Any:
        return loss.evaluate(ask, *self._together(trees))

    def _arange(self, stop: int, like: Array) -> Array:
        return beside(mx.arange(stop, dtype=mx.int64), like)  # its own int32 would wrap labels


BACKEND = Mlx()
