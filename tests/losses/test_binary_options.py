"""Options of binary losses: who counts, by how much, and what weighs the classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _cases import send
from _tools import call, error_of, host, value_and_grad

import xp_xent
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent import sigmoid_focal_loss
from xp_xent.backends import Adapter

LOSSES = [bce, sigmoid_focal_loss, xp_xent.binary_cross_entropy]
RNG = np.random.default_rng(5)
P, Y = RNG.uniform(0.1, 0.9, (3, 4)), RNG.integers(0, 2, (3, 4))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["int64", "uint8", "float64"])
def test_ignore_index(backend: Adapter, loss: Any, kind: str) -> None:
    """An element with that target is as if it were not there, whatever its logit."""
    x, y, ignored = P.copy(), Y.astype(kind), np.zeros(P.shape, dtype=bool)
    ignored[0, 1] = ignored[2, 3] = True
    x[ignored], y[ignored] = np.nan, 255
    how: dict[str, Any] = {"dtype": "float64", "ignore_index": 255}
    value, gradient = value_and_grad(backend, loss, x, y, **how)
    want, kept = value_and_grad(backend, loss, x[~ignored], y[~ignored], dtype="float64")
    np.testing.assert_allclose(value, want, rtol=1e-14)
    np.testing.assert_allclose(gradient[~ignored], kept, rtol=1e-14)
    assert (gradient[ignored] == 0).all()
    same = call(backend, "float64", loss, x, y, where=~ignored)
    np.testing.assert_allclose(value, same, rtol=1e-14)
    if kind == "float64":
        by_target = value_and_grad(backend, loss, x, y, argnums=1, **how)[1]
        assert np.array_equal(by_target == 0, ignored)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_index_that_no_target_can_be(backend: Adapter, loss: Any) -> None:
    plain = call(backend, "float64", loss, P, Y.astype("uint8"))
    for index in (-100, 10**6):
        got = call(backend, "float64", loss, P, Y.astype("uint8"), ignore_index=index)
        assert got == plain
    assert call(backend, "float64", loss, P, Y == 1, ignore_index=7) == plain
    assert "ignore_index" in str(error_of(loss, P, Y, ignore_index=0.5))


@pytest.mark.parametrize("loss", LOSSES)
def test_sample_weight(backend: Adapter, loss: Any) -> None:
    """It multiplies an element's loss and its share of the mean; `weight` the loss alone."""
    once, weight = RNG.uniform(0.5, 2.0, P.shape), RNG.uniform(0.5, 2.0, 4)
    each = call(backend, "float64", loss, P, Y, reduction="none")
    got = call(backend, "float64", loss, P, Y, sample_weight=once, weight=weight)
    np.testing.assert_allclose(got, (each * once * weight).sum() / once.sum(), rtol=1e-13)
    counted = P > 0.4
    got = call(backend, "float64", loss, P, Y, sample_weight=once, where=counted)
    want = (each * once)[counted].sum() / once[counted].sum()
    np.testing.assert_allclose(got, want, rtol=1e-13)
    error = error_of(loss, P, Y, sample_weight=once[0])
    assert all(part in str(error) for part in ("sample_weight", "(4,)", "(3, 4)"))


def test_alpha_of_each_class(backend: Adapter) -> None:
    alpha = np.array([0.25, 0.5, 1.0, 0.0])
    got = call(backend, "float64", sigmoid_focal_loss, P, Y, alpha=alpha, reduction="none")
    for c, one in enumerate(alpha):
        want = call(
            backend, "float64", sigmoid_focal_loss, P, Y, alpha=float(one), reduction="none"
        )
        np.testing.assert_allclose(got[:, c], want[:, c], rtol=1e-14)
    x, y = send(backend, P, "float64"), send(backend, Y, "float64")
    bad = send(backend, np.array([0.25, 0.5, 1.5, 0.0]), "float64")
    if backend.can_read_values(x):
        assert "alpha" in str(error_of(sigmoid_focal_loss, x, y, alpha=bad))
    else:
        losses = host(sigmoid_focal_loss(x, y, alpha=bad, reduction="none"))
        assert np.array_equal(np.isnan(losses), np.tile(np.arange(4) == 2, (3, 1)))


def test_focal_by_its_definition(backend: Adapter) -> None:
    """Smoothing makes y, which α and the focus are of; pos_weight multiplies the positive term."""
    alpha, w, x = np.array([0.25, 0.5, 0.75, 0.1]), np.array([1.0, 2.0, 0.5, 3.0]), 3 * P - 1
    weight, epsilon, gamma = RNG.uniform(0.5, 2.0, P.shape), 0.2, 1.5
    y, p = Y * (1 - epsilon) + epsilon / 2, 1 / (1 + np.exp(-x))
    cross = w * y * -np.log(p) - (1 - y) * np.log(1 - p)
    focus = (y * (1 - p) + (1 - y) * p) ** gamma
    want = weight * (alpha * y + (1 - alpha) * (1 - y)) * focus * cross
    options = {"alpha": alpha, "pos_weight": w, "weight": weight, "label_smoothing": epsilon}
    options |= {"gamma": gamma, "reduction": "none"}
    for targets in (Y, Y.astype(float)):
        got = call(backend, "float64", sigmoid_focal_loss, x, targets, **options)
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_a_little_smoothing(backend: Adapter) -> None:
    """1 − y is ε/2 to its last digit, not what float32 leaves of 1."""
    epsilon, x = 1e-6, np.array([20.0, -20.0])
    how: dict[str, Any] = {"label_smoothing": epsilon, "reduction": "none", "gamma": 1.0}
    small, up = epsilon / 2, np.exp(-20.0)
    u, cross = small + up * (1 - epsilon), up + small * 20
    got, slope = value_and_grad(backend, sigmoid_focal_loss, x, np.array([1, 0]), **how)
    np.testing.assert_allclose(got, u * cross, rtol=3e-6)
    want = small * (u + 0 * up) + cross * -up - u * up
    np.testing.assert_allclose(slope, [want, -want], rtol=3e-6)


def test_smoothing_of_none_is_none(backend: Adapter) -> None:
    loss = partial(sigmoid_focal_loss, gamma=0.0)
    got = call(backend, "float64", loss, P, Y, label_smoothing=0.1, pos_weight=2.0)
    want = call(backend, "float64", bce, P, Y, label_smoothing=0.1, pos_weight=2.0)
    np.testing.assert_allclose(got, want, rtol=1e-14)
