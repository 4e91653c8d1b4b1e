"""The KL divergence of log-probabilities, as targets and as they are; its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _tools import assert_within
from _truth import _truth, enclose
from flint import ctx

from xp_xent import backends, hessian_diagonal, hvp, kl_divergence, value_and_grad
from xp_xent.backends import Adapter

INF = np.inf
RNG = np.random.default_rng(3)
Z = RNG.normal(size=(3, 5)) * 2
WEIGHT = np.array([0.5, 2.0, 1.25])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


LOG_P, LOG_Q = log_softmax(Z), log_softmax(RNG.normal(size=Z.shape))
CLOSE = log_softmax(LOG_P + 1e-4 * RNG.normal(size=Z.shape))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("log_targets", [False, True])
@pytest.mark.parametrize("other", [LOG_Q, CLOSE], ids=["far", "near"])
@pytest.mark.parametrize("more", [{}, {"sample_weight": WEIGHT}, {"normalizer": 7.0}])
def test_values_and_gradients(
    backend: Adapter, other: np.ndarray, log_targets: bool, normalized: bool, more: dict[str, Any]
) -> None:
    """Within the reference's errors; by targets, log q − log p + 1, times q by their logarithms."""
    options = {"log_targets": log_targets, "normalized": normalized, **more}
    targets = other if log_targets else np.exp(other)
    case = Case("kl_divergence", (LOG_P, targets), options).rounded(backend, "float32")
    with ctx.workprec(512):
        given = enclose(case, case.arrays, "float32")
        want = _truth(given, given.compute())
    arrays, sent = case.on(backend, "float32")
    value, (gradient, by_targets) = value_and_grad(kl_divergence, (0, 1))(*arrays, **sent)
    assert_within(backend.to_numpy(value), want.value, want.value_error, "float32")
    got = backend.to_numpy(gradient)
    assert_within(got, want.gradients[0], want.gradient_errors[0], "float32")
    weight = case.options.get("sample_weight", np.ones(3))
    weight = weight[:, None] / (more.get("normalizer") or weight.sum())
    slope = weight * (other - LOG_P + 1) * (np.exp(other) if log_targets else 1.0)
    np.testing.assert_allclose(backend.to_numpy(by_targets), slope, rtol=1e-4, atol=2e-6)


def test_the_sum_cancels_without_its_roundings() -> None:
    """Of log-probabilities that are given, near each other: errors of the distance's size."""
    x, y = LOG_P.astype(np.float32), CLOSE.astype(np.float32)
    options = {"log_targets": True, "normalized": True, "reduction": "none"}
    q = np.exp(y.astype(np.longdouble))
    want = (q * (y.astype(np.longdouble) - x.astype(np.longdouble))).sum(-1)
    got = kl_divergence(x, y, **options)
    np.testing.assert_allclose(got, want.astype(np.float64), rtol=0, atol=8 * 6e-8 * 1e-4 * 3)


def test_infinities(backend: Adapter) -> None:
    """−inf is a probability of 0: nothing as a target, infinite where the target has mass."""
    x = np.array([[-INF, -0.5, -1.0], [-INF, -0.5, -1.0], [-0.5, -1.5, -2.0]])
    log_q = np.array([[-INF, -0.5, -1.0], [-1.0, -0.5, -1.0], [-INF, -INF, 0.0]])
    q, want = np.exp(log_q), [0.0, INF, 2.0]
    for targets, log_targets in ((log_q, True), (q, False)):
        arrays = [send(backend, a, "float32") for a in (x, targets)]
        options = {"log_targets": log_targets, "normalized": True, "reduction": "none"}
        value, (by_x, by_targets) = value_and_grad(kl_divergence, (0, 1))(*arrays, **options)
        np.testing.assert_allclose(backend.to_numpy(value), want, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(backend.to_numpy(by_x), -q, rtol=1e-6)
        assert np.isfinite(backend.to_numpy(by_targets)[::2]).all()
        zero = hessian_diagonal(kl_divergence)(*arrays, **options)
        assert np.all(backend.to_numpy(zero) == 0)
        zero = hvp(kl_divergence)(*arrays, send(backend, np.ones((3, 3)), "float32"), **options)
        assert np.all(backend.to_numpy(zero) == 0)
    options = {"log_targets": True, "reduction": "none"}
    _, by_targets = value_and_grad(kl_divergence, 1)(
        *(send(backend, a, "float32") for a in (x, log_q)), **options
    )
    assert np.isfinite(backend.to_numpy(by_targets)[::2]).all()


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("log_targets", [False, True])
def test_automatic_differentiation(name: str, log_targets: bool, normalized: bool) -> None:
    """Gradients by both are the closed forms; by log p the second derivative is 0."""
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    if name == "jax":
        import jax as module

        jit = module.jit
    else:
        from torch import func as module

        def jit(function: Any) -> Any:
            return function

    options = {"log_targets": log_targets, "normalized": normalized}
    x = np.where(np.arange(5) == 2, -INF, LOG_P)
    y = np.where(np.arange(5) == 2, -INF, LOG_Q)
    y = y if log_targets else np.exp(y)
    arrays = [send(backends.get(name), a, "float64") for a in (x, y)]

    def loss(x: Any, y: Any) -> Any:
        return kl_divergence(x, y, **options)

    def derivatives(x: Any, y: Any) -> Any:
        gradient = module.grad(loss)
        ones = (y * 0 + 1) if not log_targets else (x - x.max() > -1e9) * 1.0
        return *module.grad(loss, (0, 1))(x, y), module.jvp(
            lambda x: gradient(x, y), (x,), (ones,)
        )[1]

    got = [np.asarray(a) for a in jit(derivatives)(*arrays)]
    _, want = value_and_grad(kl_divergence, (0, 1))(x, y, **options)
    np.testing.assert_allclose(got[:2], want, atol=1e-14)
    np.testing.assert_allclose(got[2], 0.0, atol=1e-14)
