"""Focal and poly losses of rows whose mass lies on several classes: probabilities, smoothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _curvature import assert_close
from _tools import assert_agree, assert_case, call, error_of, host, value_and_grad
from _truth import Array, row_hessians

import xp_xent
from xp_xent import backends, poly_cross_entropy, softmax_focal_loss
from xp_xent.backends import Adapter

LOSSES = [softmax_focal_loss, poly_cross_entropy]
RNG = np.random.default_rng(4)
LOGITS, LABELS = RNG.normal(size=(6, 4)) * 3, np.array([0, 3, 1, 2, 2, 0])
WEIGHT, ALPHA = np.array([0.5, 2.0, 1.25, 0.25]), np.array([1.0, 0.5, 3.0, 0.25])
# What leads by how much; the mass is on all classes, nearly all on the leader, and none of it.
LEADS = [[20.0, 0.0, 0.5], [55.0, -1.0, 0.0], [0.0, 60.0, 1.0], [0.5, 0.0, 40.0]]
MASSES = [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [2.0**-30, 1.0, 2.0**-60], [0.25, 0.5, 0.0]]
GAMMAS: list[dict[str, Any]] = [{"gamma": 0.25}, {"gamma": 1.0}, {"gamma": 2.0}]
OPTIONS = [(softmax_focal_loss, more) for more in GAMMAS] + [(poly_cross_entropy, {})]


def one_hot(labels: Array, classes: int) -> Array:
    return np.eye(classes)[labels]


@pytest.mark.parametrize("loss", LOSSES)
def test_one_hot_is_the_label(backend: Adapter, loss: Any) -> None:
    """Also where its probability is 1 to the last digit."""
    logits = np.asarray([[30.0, 0, 1], [0, 90, 2], [1, 2, 3], [-40, 0, 5]])
    labels = np.array([0, 1, 0, 0])
    for dtype in ("float32", "float64"):
        how = {"dtype": dtype, "reduction": "none", "weight": WEIGHT[:3]}
        found = value_and_grad(backend, loss, logits, one_hot(labels, 3), **how)
        wanted = value_and_grad(backend, loss, logits, labels, **how)
        for got, want in zip(found, wanted, strict=True):
            assert_agree(got, want, want, dtype)


@pytest.mark.parametrize("kind", ["uniform", "others"])
@pytest.mark.parametrize("loss", LOSSES)
def test_smoothing_comes_first(backend: Adapter, loss: Any, kind: str) -> None:
    """Of labels it makes probabilities; then each class's term has its own weight."""
    given, epsilon = np.full((6, 4), 0.2 / 4), 0.2
    if kind == "others":
        given = 0.2 / 3 * (1 - one_hot(LABELS, 4))
    smooth = (1 - epsilon) * one_hot(LABELS, 4) + given
    how: dict[str, Any] = {"reduction": "sum", "weight": WEIGHT}
    if loss is softmax_focal_loss:
        how["alpha"] = ALPHA
    eased = {"label_smoothing": epsilon, "smoothing": kind}
    want = call(backend, "float64", loss, LOGITS, smooth, **how)
    for targets in (LABELS, one_hot(LABELS, 4)):
        got = call(backend, "float64", loss, LOGITS, targets, **how, **eased)
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_the_definition(backend: Adapter) -> None:
    """With weights, alpha and where; the denominator has the labels' weights, without alpha."""
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    terms = (1 - p) ** 1.5 * -np.log(p) * WEIGHT * ALPHA
    how: dict[str, Any] = {"gamma": 1.5, "weight": WEIGHT, "alpha": ALPHA}
    got = call(backend, "float64", softmax_focal_loss, LOGITS, LABELS, **how)
    rows = np.arange(6), LABELS
    np.testing.assert_allclose(got, terms[rows].sum() / WEIGHT[LABELS].sum(), rtol=1e-13)
    q, where = RNG.dirichlet(np.ones(4), size=6), np.array([True] * 4 + [False] * 2)
    got = call(backend, "float64", softmax_focal_loss, LOGITS, q, where=where, **how)
    np.testing.assert_allclose(got, (q * terms)[:4].sum() / 4, rtol=1e-13)
    got = call(backend, "float64", poly_cross_entropy, LOGITS, q, epsilon=0.5, reduction="none")
    np.testing.assert_allclose(got, (q * (0.5 * (1 - p) - np.log(p))).sum(axis=1), rtol=1e-13)


@pytest.mark.parametrize(("loss", "more"), OPTIONS)
def test_sure_rows(backend: Adapter, dtype: str, loss: Any, more: dict[str, Any]) -> None:
    """Value and gradient against the certified truth, by logits and by targets."""
    for lead, mass in zip(LEADS, MASSES, strict=True):
        arrays = np.asarray([lead]), np.asarray([mass])
        assert_case(backend, dtype, Case(loss.__name__, arrays, more))
        label = np.array([int(np.argmax(lead))])
        smoothed = {"label_smoothing": 2.0**-10, "smoothing": "others", **more}
        assert_case(backend, dtype, Case(loss.__name__, (arrays[0], label), smoothed))


@pytest.mark.parametrize(("loss", "more"), OPTIONS)
def test_curvature_of_sure_rows(backend: Adapter, loss: Any, more: dict[str, Any]) -> None:
    vector = np.array([[0.5, -1.0, 2.0]])
    for lead, mass in zip(LEADS, MASSES, strict=True):
        case = Case(loss.__name__, (np.asarray([lead]), np.asarray([mass])), more)
        hessian = row_hessians(case)[0]
        arrays, options = case.on(backend, "float64")
        got = host(xp_xent.hessian_diagonal(loss)(*arrays, **options))[0]
        assert_close(got, np.diag(hessian), np.abs(np.diag(hessian)))
        got = host(xp_xent.hvp(loss)(*arrays, send(backend, vector, "float64"), **options))[0]
        assert_close(got, hessian @ vector[0], np.abs(hessian) @ np.abs(vector[0]))


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize(("loss", "more"), OPTIONS)
def test_automatic_differentiation(name: str, loss: Any, more: dict[str, Any]) -> None:
    """First and second order agree with the closed forms, where a class is sure too."""
    pytest.importorskip(name)
    backend = backends.get(name)
    z, q = (send(backend, np.asarray(x), "float64") for x in (LEADS, MASSES))
    if name == "jax":
        import jax as module
    else:
        from torch import func as module

    def total(z: Any, q: Any) -> Any:
        return loss(z, q, reduction="sum", label_smoothing=2.0**-10, **more)

    how = {"reduction": "sum", "label_smoothing": 2.0**-10, **more}
    first = module.grad(total, argnums=(0, 1))(z, q)
    for got, want in zip(first, xp_xent.value_and_grad(loss, (0, 1))(z, q, **how)[1], strict=True):
        assert_agree(got, want, want)
    along = send(backend, np.tile([0.5, -1.0, 2.0], (4, 1)), "float64")
    slope = module.grad(lambda z: (module.grad(total)(z, q) * along).sum())(z)
    want = host(xp_xent.hvp(loss)(z, q, along, **how))
    assert_agree(slope, want, np.abs(want).max(axis=1, keepdims=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_masked_classes(backend: Adapter, loss: Any) -> None:
    """Without mass a class may be masked, by −∞ or by class_where; with mass the loss is ∞."""
    z, q = np.array([[1.0, -np.inf, 0.5]]), np.array([[0.25, 0.0, 0.75]])
    for n in (0, 1):
        value, slope = value_and_grad(backend, loss, z, q, dtype="float64", argnums=n)
        want, short = value_and_grad(
            backend, loss, z[:, [0, 2]], q[:, [0, 2]], dtype="float64", argnums=n
        )
        np.testing.assert_allclose(value, want, rtol=1e-14)
        np.testing.assert_allclose(slope[:, [0, 2]], short, rtol=1e-13)
        assert slope[0, 1] == 0
    part = np.array([True, False, True])
    z[0, 1] = np.nan
    how: dict[str, Any] = {"dtype": "float64", "label_smoothing": 0.1}
    value, by_z = value_and_grad(backend, loss, z, q, class_where=part, **how)
    want, short = value_and_grad(backend, loss, z[:, [0, 2]], q[:, [0, 2]], **how)
    np.testing.assert_allclose(value, want, rtol=1e-14)
    np.testing.assert_allclose(by_z[:, [0, 2]], short, rtol=1e-13)
    assert by_z[0, 1] == 0
    z[0, 1], q[0, 1] = -np.inf, 0.5
    assert call(backend, "float64", loss, z, q) == np.inf


@pytest.mark.parametrize("loss", LOSSES)
def test_no_upper_bound(loss: Any) -> None:
    newton = xp_xent.value_grad_and_hessian_diagonal(loss, "upper_bound")
    for targets, more in ((one_hot(LABELS, 4), {}), (LABELS, {"label_smoothing": 0.1})):
        assert "several classes" in str(error_of(newton, LOGITS, targets, **more))
    newton(LOGITS, LABELS)
