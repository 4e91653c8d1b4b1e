"""Between a library and the host: what tests, commands and messages need, and no loss does."""

from typing import Any

import numpy as np

Array = Any


class HostAccess:
    """Copies to and from NumPy, and what there is to place an array on.

    A library that is to be tested and measured has one. The defaults fit a library that follows the
    array API standard.
    """

    xp: Any

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        """Copy a NumPy array to this library, as the dtype of that name."""
        # Converted on the host first: a device need not have the host array's dtype.
        return self.xp.asarray(np.array(host, dtype=dtype), device=device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy an array to NumPy."""
        return np.array(np.from_dlpack(array))

    def devices(self) -> tuple[Any, ...]:
        """List the devices that `asarray` can place an array on."""
        return tuple(self.xp.__array_namespace_info__().devices())

    def float_dtypes(self) -> tuple[str, ...]:
        """Name the real floating dtypes that work here."""
        return ("float32", "float64")

    def synchronize(self, array: Array) -> None:
        """Wait until the array has been computed."""
