"""Defects that were mended and belong to no other file; CONTRIBUTING.md lists the latest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import linear_cross_entropy

Z = np.array([[1.0, -np.inf, 0.5], [0.0, 2.0, -np.inf]])
Q = np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])


def test_linear_loss_of_meta_tensors() -> None:
    """A device that knows no autocast: shapes and gradients all the same."""
    torch = pytest.importorskip("torch")
    x, c = (torch.zeros(n, 3, device="meta", requires_grad=True) for n in (4, 5))
    loss = linear_cross_entropy(x, c, torch.zeros(4, dtype=torch.int64, device="meta"))
    loss.backward()
    assert loss.shape == ()
    assert (x.grad.shape, c.grad.shape) == (x.shape, c.shape)


@pytest.mark.parametrize("loss", [xp_xent.cross_entropy, xp_xent.kl_divergence])
def test_slope_by_a_target_of_0_on_a_masked_class(loss: Any) -> None:
    """The formula's is 0 there, as the closed form's."""
    torch = pytest.importorskip("torch")
    z, q = torch.tensor(Z), torch.tensor(Q)
    slope = torch.func.grad(lambda q: loss(z, q, reduction="sum"))(q)
    assert (slope[0, 1], slope[1, 2]) == (0, 0)
    _, wanted = xp_xent.value_and_grad(loss, 1)(Z, Q, reduction="sum")
    np.testing.assert_allclose(slope.numpy(), wanted, rtol=1e-12)


def test_second_derivative_of_focal_with_a_small_gamma() -> None:
    """(1 − p)^γ has none in float32 where p rounds to 1; its product with −log p has."""
    torch = pytest.importorskip("torch")
    logits, labels = np.array([[x, 0.0, 0.0] for x in (17.0, 30.0, 60.0)]), np.zeros(3, int)
    options: dict[str, Any] = {"gamma": 0.05, "reduction": "sum"}
    z = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    value = xp_xent.softmax_focal_loss(z, torch.tensor(labels), **options)
    (slope,) = torch.autograd.grad(value, z, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), z)
    exact = xp_xent.hessian_diagonal(xp_xent.softmax_focal_loss)(logits, labels, **options)
    np.testing.assert_allclose(bend[:, 0], exact[:, 0], rtol=1e-4)


def test_nothing_is_promoted_to_more_axes() -> None:
    """JAX can be asked to refuse it."""
    jax = pytest.importorskip("jax")
    x, c, b = (jax.numpy.ones(shape) for shape in ((4, 3), (5, 3), (5,)))
    y = jax.numpy.zeros(4, int)
    with jax.numpy_rank_promotion("raise"):
        assert np.isfinite(linear_cross_entropy(x, c, y, bias=b))
        along = xp_xent.cross_entropy(
            jax.numpy.ones((2, 3, 4)), jax.numpy.zeros((2, 4), int), axis=1
        )
    assert abs(along - np.log(3)) < 1e-12


@pytest.mark.parametrize("kind", ["uint32", "uint64"])
def test_an_ignored_label_beyond_int32(kind: str) -> None:
    """JAX takes no number beyond its widest signed integer, and without 64 bits that is int32."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(kind == "uint64"):
        largest = int(np.iinfo(kind).max)
        labels = jax.numpy.asarray(np.array([1, largest], dtype=kind))
        logits = jax.numpy.zeros((2, 3), jax.numpy.float32)
        loss = xp_xent.cross_entropy(logits, labels, ignore_index=largest)
    assert abs(float(loss) - np.log(3)) < 1e-6
