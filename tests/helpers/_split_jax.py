"""Functions on halves of the classes, of two devices, and arrays to call them with."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from _programs import compiled
from jax.sharding import AxisType, PartitionSpec

from xp_xent import split

P = PartitionSpec
OF_LOGITS, ALL = P(None, "model"), P()
BOTH = (OF_LOGITS, ALL), (ALL, OF_LOGITS)
ONE_DEVICE = pytest.mark.skipif(
    jax.device_count() < 2, reason="JAX has one device: XLA_FLAGS was set without a second"
)
RNG = np.random.default_rng(8)
# Seven classes in eight columns.
FILLED = np.pad(RNG.normal(size=(5, 7)) * 3, ((0, 0), (0, 1)), constant_values=2.5)
LABELS = np.asarray([0, 6, 3, 2, 6])
WEIGHT = RNG.random(7) + 0.5
FEATURES, CLASSIFIER = RNG.normal(size=(5, 3)), RNG.normal(size=(7, 3))
FILLED_CLASSIFIER = np.pad(CLASSIFIER, ((0, 1), (0, 0)), constant_values=9.0)


def mesh_of(kind: str = "Auto") -> Any:
    return jax.make_mesh((2,), ("model",), axis_types=(AxisType[kind],))


def over_classes(function: Any, in_specs: Any, out_specs: Any, **more: Any) -> Any:
    """The function on each half of the classes."""

    def local(*arrays: Any) -> Any:
        with split(classes="model", **more):
            return function(*arrays)

    over = {"mesh": mesh_of(), "in_specs": in_specs, "out_specs": out_specs}
    return compiled(jax.shard_map(local, **over))
