"""`binary_cross_entropy`: of probabilities, none of which is clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _curvature import assert_close
from _tools import assert_case, call, error_of, host, value_and_grad

import xp_xent
from xp_xent import backends, binary_cross_entropy, binary_cross_entropy_with_logits
from xp_xent.backends import Adapter

INF = np.inf
TINY = [2.0**-60, 2.0**-24, 0.25, 0.5, 1 - 2.0**-5, 1 - 2.0**-7]


def test_limits(backend: Adapter, dtype: str) -> None:
    """A sure hit has loss 0, a sure miss ∞, and 0 · ∞ is 0."""
    p, y = np.array([0.0, 1, 0, 1, 0, 1]), np.array([0.0, 1, 1, 0, 0.5, 0.5])
    how: dict[str, Any] = {"dtype": dtype, "reduction": "none"}
    value, slope = value_and_grad(backend, binary_cross_entropy, p, y, **how)
    assert np.array_equal(value, [0, 0, INF, INF, INF, INF])
    assert np.array_equal(np.asarray(slope, np.float64), [1, -1, -INF, INF, -INF, INF])
    by_target = value_and_grad(backend, binary_cross_entropy, p, y, argnums=1, **how)[1]
    assert np.array_equal(np.asarray(by_target, np.float64), [INF, -INF] * 3)
    bend = xp_xent.hessian_diagonal(binary_cross_entropy)
    found = np.asarray(call(backend, dtype, bend, p, y, reduction="sum"), np.float64)
    assert np.array_equal(found, [1, 1, INF, INF, INF, INF])


def test_digits(backend: Adapter, dtype: str) -> None:
    """Against the certified truth, from next to 0 to next to 1, in half precision too."""
    p = np.asarray(TINY if dtype != "float16" else [2.0**-14, 2.0**-12, *TINY[2:]])
    for y in (np.zeros(6, int), np.ones(6, int), np.linspace(0.125, 0.875, 6)):
        for more in ({}, {"label_smoothing": 0.25}, {"reduction": "sum"}):
            assert_case(backend, dtype, Case("binary_cross_entropy", (p, y), more))


def test_curvature(backend: Adapter) -> None:
    p, y, v = np.asarray(TINY), np.linspace(0.0, 1.0, 6), np.linspace(-1.0, 2.0, 6)
    want = y / p**2 + (1 - y) / (1 - p) ** 2
    how: dict[str, Any] = {"reduction": "sum"}
    got = call(backend, "float64", xp_xent.hessian_diagonal(binary_cross_entropy), p, y, **how)
    assert_close(got, want, want)
    got = call(backend, "float64", xp_xent.hvp(binary_cross_entropy), p, y, v, **how)
    assert_close(got, want * v, want * np.abs(v))
    newton = xp_xent.value_grad_and_hessian_diagonal(binary_cross_entropy, "upper_bound")
    assert_close(call(backend, "float64", newton, p, y, **how)[2], want, want)


def test_of_logits(backend: Adapter) -> None:
    z = np.linspace(-4.0, 4.0, 12).reshape(3, 4)
    y, p = (z > 1).astype(int), 1 / (1 + np.exp(-z))
    how: dict[str, Any] = {"weight": np.arange(1.0, 5.0), "label_smoothing": 0.1}
    got = call(backend, "float64", binary_cross_entropy, p, y, **how)
    want = call(backend, "float64", binary_cross_entropy_with_logits, z, y, **how)
    np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("bad", [1.5, -0.25, INF])
def test_outside(backend: Adapter, bad: float) -> None:
    """Refused where numbers can be read, NaN elsewhere; what does not count may be anything."""
    p, y, counted = np.array([0.5, bad, 0.25]), np.array([1, 1, 0]), np.array([True, False, True])
    want = call(backend, "float64", binary_cross_entropy, p[counted], y[counted])
    got = call(backend, "float64", binary_cross_entropy, p, y, where=counted)
    np.testing.assert_allclose(got, want, rtol=1e-15)
    sent = send(backend, p, "float64"), send(backend, y, "float64")
    if backend.can_read_values(sent[0]):
        for ask in (binary_cross_entropy, xp_xent.value_and_grad(binary_cross_entropy)):
            parts = ("probabilities", str(bad), "(1,)", "[0, 1]", "with_logits")
            assert all(part in str(error_of(ask, *sent)) for part in parts)
        return
    value, slope = xp_xent.value_and_grad(binary_cross_entropy)(*sent, reduction="none")
    assert np.array_equal(np.isnan(host(value)), [False, True, False])
    assert np.array_equal(np.isnan(host(slope)), [False, True, False])


def test_nan_is_seen(backend: Adapter) -> None:
    p, y = np.array([np.nan, 0.5, 0.5]), np.array([0.0, np.nan, 1.0])
    value = call(backend, "float64", binary_cross_entropy, p, y, reduction="none")
    assert np.array_equal(np.isnan(value), [True, True, False])


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_automatic_differentiation(name: str) -> None:
    """At the ends too: slopes by p and y, and the curvature, are those of the closed forms."""
    pytest.importorskip(name)
    backend = backends.get(name)
    p = send(backend, np.array([0.0, 1.0, 0.25, 0.0, 1.0]), "float64")
    y = send(backend, np.array([0.0, 1.0, 0.5, 1.0, 0.0]), "float64")
    if name == "jax":
        import jax as module
    else:
        from torch import func as module

    def total(p: Any, y: Any) -> Any:
        return binary_cross_entropy(p, y, reduction="sum")

    how = {"reduction": "sum"}
    for n in (0, 1):
        got = host(module.grad(total, argnums=n)(p, y))
        want = host(xp_xent.value_and_grad(binary_cross_entropy, n)(p, y, **how)[1])
        np.testing.assert_allclose(got, want, rtol=1e-14)
    got = host(module.grad(lambda p: module.grad(total)(p, y)[:3].sum())(p))[:3]
    want = host(xp_xent.hessian_diagonal(binary_cross_entropy)(p, y, **how))[:3]
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_swapped_for_logits(backend: Adapter) -> None:
    z = send(backend, np.array([1, 2]), "float64")
    assert "probabilities" in str(error_of(binary_cross_entropy, z, z))
