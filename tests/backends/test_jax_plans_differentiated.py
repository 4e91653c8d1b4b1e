"""JAX outside `jit`: programs that are kept are differentiated and mapped as ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import cross_entropy, value_and_grad

jax = pytest.importorskip("jax")
from _jax_calls import HOST, given, same  # noqa: E402

jnp = jax.numpy
pytestmark = pytest.mark.usefixtures("no_jax_plans")

TRANSFORMED: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "grad": jax.grad,
    "jacfwd": jax.jacfwd,
    "hessian": jax.hessian,
    "third": lambda f: jax.jacfwd(lambda z, y: jax.jacrev(jax.grad(f))(z, y)[0, 0, 0, 1]),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f)),
    "grad of vmap": lambda f: jax.grad(lambda z, y: jax.vmap(f)(z, y).sum()),
    "linearize": lambda f: lambda z, y: jax.linearize(lambda z: f(z, y), z)[1](z),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "jit": lambda f: jax.jit(jax.grad(f)),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformed(name: str) -> None:
    """Against the same derivative of what JAX compiles as a whole."""
    z, y = given(dtype="float64")
    z, y = (z[:2, :3], y[:2] % 3) if "vmap" not in name else (z[:, None], y[:, None])
    function = partial(cross_entropy, label_smoothing=0.1)
    got = TRANSFORMED[name](function)(z, y)
    for _ in range(2):  # found anew, and kept
        same(got, jax.jit(TRANSFORMED[name](function))(z, y))
        got = TRANSFORMED[name](function)(z, y)


def test_closed_forms_are_differentiated() -> None:
    z, y = given(dtype="float64")
    slope = jax.grad(lambda z: value_and_grad(cross_entropy)(z, y)[1].sum())(z)
    same(slope, np.zeros_like(HOST))
    squares = jax.grad(lambda z: (value_and_grad(cross_entropy)(z, y)[1] ** 2).sum())(z)
    gradient = value_and_grad(cross_entropy)(z, y)[1]
    same(squares, xp_xent.hvp(cross_entropy)(z, y, 2 * gradient))
