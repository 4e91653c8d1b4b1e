"""Small calls on JAX, with a compiled loss and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HOST = np.random.default_rng(3).normal(size=(6, 5))
LABELS = np.array([0, 4, 1, 2, 3, 3])
OUTSIDE = np.array([0, 5, 1, 2, 3, 3])


def given(labels: np.ndarray = LABELS, dtype: str = "float32") -> tuple[Any, Any]:
    """Logits and labels as JAX's arrays."""
    return jnp.asarray(HOST, dtype=dtype), jnp.asarray(labels)


def same(got: Any, want: Any) -> None:
    """Compare results of one program with another's: a few roundings apart."""
    bound = 1e-12 if jnp.asarray(want).dtype == jnp.float64 else 2e-6
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=bound, atol=bound)


def operation_by_operation(call: Callable[..., Any], *arrays: Any) -> Any:
    """Evaluate without a compiled loss."""
    with jax.disable_jit():
        return call(*arrays)
