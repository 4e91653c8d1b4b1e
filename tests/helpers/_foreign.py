"""An array library made up for the tests: NumPy underneath, with the manners of a GPU library.

Its arrays never become NumPy arrays by themselves, and Python may not look at their values.
"""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any

import numpy as np

OPERATORS = (
    "add sub mul truediv pow pos neg and_ or_ invert lt le gt ge eq ne getitem setitem"
).split()


class Device:
    """A device, and a block of code that makes it the current one."""

    entered = 0

    def __init__(self, number: int | None = None) -> None:
        self.number = number or 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]  # as CuPy's has none

    def __repr__(self) -> str:
        return f"<Device {self.number}>"

    def __enter__(self) -> None:
        Device.entered += 1

    def __exit__(self, *error: object) -> None:
        Device.entered -= 1


class ForeignArray:
    """What the arrays of any such library have in common."""

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "ndim", "size"):
            return getattr(self._host, name)
        raise AttributeError(name)

    @property
    def device(self) -> Device:
        return Device()

    def get(self) -> Any:
        return self._host.copy()

    def _refuse(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("implicit conversion to a host array or a Python number")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __iter__ = __len__ = _refuse


def _down(value: Any) -> Any:
    if isinstance(value, ForeignArray):
        return value._host
    if isinstance(value, tuple | list):
        return type(value)(_down(v) for v in value)
    return value


class Namespace(ModuleType):
    """NumPy's functions, on arrays of type `ndarray` only; NumPy's own are refused."""

    ndarray: type[ForeignArray]

    def up(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self.up(v) for v in value)
        return self.ndarray(value) if isinstance(value, np.ndarray | np.generic) else value

    def asarray(self, host: Any, dtype: Any = None, device: Any = None) -> Any:
        del device
        return host if isinstance(host, ForeignArray) else self.ndarray(np.array(host, dtype=dtype))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array_namespace_info__":
            raise AttributeError(name)
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found) or name.startswith("__"):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            given = [*arguments, *options.values()]
            if any(isinstance(a, np.ndarray) for a in given):
                raise TypeError(f"{name}: a NumPy array among the library's own")
            options.pop("device", None)
            with np.errstate(all="ignore"):
                return self.up(
                    found(*_down(arguments), **{k: _down(v) for k, v in options.items()})
                )

        return call


def library(name: str) -> Namespace:
    """Make up the library of that name."""
    module = Namespace(name)
    module.ndarray = type("ndarray", (ForeignArray,), {"__module__": name})

    def forward(symbol: str) -> None:
        function = getattr(operator, symbol)

        def call(self: Any, *others: Any) -> Any:
            with np.errstate(all="ignore"):
                return module.up(function(self._host, *(_down(o) for o in others)))

        def reflected(self: Any, other: Any) -> Any:
            with np.errstate(all="ignore"):
                return module.up(function(other, self._host))

        bare = symbol.strip("_")
        setattr(module.ndarray, f"__{bare}__", call)
        setattr(module.ndarray, f"__r{bare}__", reflected)

    for symbol in OPERATORS:
        forward(symbol)
    return module
