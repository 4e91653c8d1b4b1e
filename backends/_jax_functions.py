"""JAX's namespace with the one function that XLA computes less accurately than it can."""

from types import ModuleType
from typing import Any

import jax.numpy as jnp

from xp_xent.backends._base import Array


def namespace() -> ModuleType:
    """Return jax.numpy with another log1p."""
    found = ModuleType("jax.numpy")
    vars(found).update(vars(jnp) | {"log1p": log1p})
    return found


def log1p(x: Array) -> Array:
    """Return log(1 + x): XLA's on a CPU is 130 ULP off about −0.4 in float64, 1.6 in float32."""
    if x.dtype != jnp.float64:
        return jnp.log1p(x)
    within: Any = (x > -0.5) & (x < -0.25)
    return jnp.where(within, jnp.log(1 + jnp.where(within, x, 0.0)), jnp.log1p(x))
