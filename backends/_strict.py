"""array-api-strict: the standard and nothing more; a guard for the mathematics."""

import numpy as np

from xp_xent.backends._base import Adapter, Array


class Strict(Adapter):
    name = "array_api_strict"
    packages = ("array_api_strict",)
    module = "array_api_strict"
    differentiable = False

    def can_read_values(self, array: Array) -> bool:
        # Its other devices mimic accelerators.
        return array.device == self.xp.Device("CPU_DEVICE")

    def to_numpy(self, array: Array) -> np.ndarray:
        host = self.xp.asarray(array, device=self.xp.Device("CPU_DEVICE"))
        return np.array(np.from_dlpack(host))


BACKEND = Strict()
