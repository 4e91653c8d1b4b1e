"""The Kullback–Leibler divergence where targets are near the softmax: small, and not below 0."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _tools import call
from flint import arb, ctx

from xp_xent import backends, cross_entropy, kl_divergence
from xp_xent.backends import Adapter

INF = np.inf


def truth(z: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Σ q (log q − log p) of each row, of the numbers as they are."""
    found = []
    with ctx.workprec(200):
        for row, target in zip(z.tolist(), q.tolist(), strict=True):
            lse = sum((arb(x).exp() for x in row), arb(0)).log()
            terms = (arb(t) * (arb(t).log() + lse - x) for x, t in zip(row, target, strict=True))
            found.append(float(sum(terms, arb(0)).mid()))
    return np.asarray(found)


def rows(dtype: str, count: int, classes: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets that are the softmax of others at a distance, rounded."""
    rng = np.random.default_rng(classes)
    z = (2 * rng.normal(size=(count, classes))).astype(dtype)
    e = np.exp(z.astype(np.float64) + distance * rng.normal(size=z.shape))
    return z, (e / e.sum(-1, keepdims=True)).astype(dtype)


def each(backend: Adapter, dtype: str, z: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Every row's divergence; compiled as a whole on JAX, for op by op takes ten times as long."""
    loss = partial(kl_divergence, reduction="none")
    if backend.name == "jax":
        import jax

        return call(backend, dtype, jax.jit(loss), z, q)
    return call(backend, dtype, loss, z, q)


@pytest.mark.parametrize(
    ("width", "count", "classes"),
    [("float32", 60, 3), ("float32", 4, 1000), ("float64", 60, 3)],
)
def test_small_values(backend: Adapter, width: str, count: int, classes: int) -> None:
    """The error is far below a rounding of 1, and the sign is right: targets are what they are."""
    eps, distances = float(np.finfo(width).eps), (0.0, 1e-4, 1e-2)
    found = [rows(width, count, classes, distance) for distance in distances]
    z, q = (np.concatenate(parts) for parts in zip(*found, strict=True))
    want, got = truth(z, q), each(backend, width, z, q)
    assert np.all((got >= 0) | (want < 0))
    # Of Σq − 1 only what is below a grid of 4 is rounded; p's errors meet p − q.
    slack = eps * (4 * np.repeat(distances, count) + 64 * eps + (classes > 3) * 2e-5)
    assert np.all(np.abs(got - want) <= slack)


def test_extremes(backend: Adapter) -> None:
    """Masked classes, targets that do not add up to 1, probabilities that underflow; NaN rows."""
    z = [[0.0, 1.0, -INF], [0.0, 1.0, -INF], [0.0, -200.0, 1.0], [3.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    q = [[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0, 0.0, 0.0], [5.0, 3.0, 1.0]]
    z += [[INF, 0.0, 1.0], [np.nan, 0.0, 1.0], [-INF, -INF, -INF]]
    z, q = np.asarray(z), np.asarray(q + [[0.5, 0.25, 0.25]] * 3)
    with np.errstate(invalid="ignore"):
        lse = np.logaddexp.reduce(z, axis=-1, keepdims=True)
        want = np.where(q == 0, 0.0, q * (np.log(np.where(q == 0, 1, q)) + lse - z)).sum(-1)
    want[5:] = np.nan
    got = each(backend, "float32", z, q)
    assert got[3] == 0
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_derivatives_are_cross_entropys(name: str) -> None:
    """By the logits to the second order, and by the targets log q − log p + 1."""
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    if name == "jax":
        import jax as module

        jit = module.jit
    else:
        from torch import func as module

        def jit(function: Any) -> Any:
            return function

    z, q = rows("float32", 3, 5, 1e-3)
    z, q = backend.asarray(z), backend.asarray(q)

    def derivatives(z: Any, q: Any) -> Any:
        return [
            (
                module.grad(loss)(z, q),
                module.jvp(module.grad(loss), (z, q), (q, z)),
                module.grad(loss, 1)(z, q),
            )
            for loss in (kl_divergence, cross_entropy)
        ]

    divergence, cross = jit(derivatives)(z, q)
    for got, want in zip((divergence[0], *divergence[1]), (cross[0], *cross[1]), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-8)
    own = (np.log(np.asarray(q)) + 1) / 3
    np.testing.assert_allclose(np.asarray(divergence[2]), np.asarray(cross[2]) + own, atol=1e-6)
