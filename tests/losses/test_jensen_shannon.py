"""The Jensen–Shannon divergence: its digits, derivatives, limits and masks, on every library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _tools import assert_array, assert_within
from _truth import _truth, difference, enclose, floats
from flint import ctx

from xp_xent import (
    backends,
    hessian_diagonal,
    hvp,
    jensen_shannon_divergence,
    value_and_grad,
    value_grad_and_hessian_diagonal,
)
from xp_xent.backends import Adapter

INF = np.inf
NAME = "jensen_shannon_divergence"
RNG = np.random.default_rng(7)
Z = RNG.normal(size=(3, 4)) * 2
FAR, NEAR = RNG.normal(size=(3, 4)) * 2, Z + 1e-3 * RNG.normal(size=(3, 4))
WEIGHT = np.array([0.5, 2.0, 1.25])
MASKED = np.where(np.arange(4) == 1, -INF, Z)


def truth(z: Any, w: Any, dtype: str = "float64", **options: Any) -> Any:
    """Give value, gradient by the first and by the second, which change places, and the errors."""
    beta, found = options.get("beta", 0.5), []
    for pair, share in (((z, w), beta), ((w, z), 1 - beta)):
        case = Case(NAME, pair, options | {"beta": share})
        with ctx.workprec(512):
            given = enclose(case, pair, dtype)
            found.append(_truth(given, given.compute()))
    return found


@pytest.mark.parametrize("beta", [0.5, 0.125])
@pytest.mark.parametrize("options", [{}, {"sample_weight": WEIGHT}, {"reduction": "sum"}])
@pytest.mark.parametrize("other", [FAR, NEAR], ids=["far", "near"])
def test_values_and_gradients(
    backend: Adapter, other: np.ndarray, options: dict[str, Any], beta: float
) -> None:
    """Within the reference's errors, by both logits, in every dtype's own values."""
    dtype = "float32"
    options = options | {"beta": beta}
    case = Case(NAME, (Z, other), options).rounded(backend, dtype)
    first, second = truth(*case.arrays, dtype, **case.options)
    arrays, given = case.on(backend, dtype)
    value, gradients = value_and_grad(jensen_shannon_divergence, (0, 1))(*arrays, **given)
    assert_array(backend, value, dtype, ())
    assert_within(backend.to_numpy(value), first.value, first.value_error, dtype)
    for got, want in zip(gradients, (first, second), strict=True):
        assert_within(backend.to_numpy(got), want.gradients[0], want.gradient_errors[0], dtype)


@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_digits_near_zero(distance: float, temperature: float) -> None:
    """The value, of the order of the distance's square, has a relative error of roundings."""
    w = Z + distance * RNG.normal(size=Z.shape)
    (want, _) = truth(Z / temperature, w / temperature, reduction="none")
    ask = value_and_grad(jensen_shannon_divergence, (0, "temperature"))
    got, (gradient, by_temperature) = ask(Z, w, reduction="none", temperature=temperature)
    np.testing.assert_allclose(got, want.value, rtol=1e-14 if temperature == 1 else 1e-5)
    np.testing.assert_allclose(gradient * temperature, want.gradients[0], rtol=1e-6, atol=1e-25)
    assert np.all(np.abs(by_temperature) <= 10 * got)


def test_temperature() -> None:
    """Its derivative is that of the value, by differences; both logits are divided."""
    t, step, ask = 2.0, 1e-5, value_and_grad(jensen_shannon_divergence, "temperature")
    for w in (FAR, NEAR):
        value, slope = ask(Z, w, temperature=t)
        np.testing.assert_allclose(value, jensen_shannon_divergence(Z / t, w / t), rtol=1e-9)
        ends = [jensen_shannon_divergence(Z, w, temperature=t + s) for s in (step, -step)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


@pytest.mark.parametrize("other", [FAR, NEAR, Z], ids=["far", "near", "same"])
def test_curvature(backend: Adapter, other: np.ndarray) -> None:
    """Hessians by differences of the reference's balls."""
    options = {"beta": 0.25, "reduction": "sum"}
    case = Case(NAME, (Z, other), options)
    with ctx.workprec(512):
        columns = [
            floats(
                difference(
                    lambda z: enclose(case, (z, other), "float64").compute().gradient,
                    Z,
                    (slice(None), c),
                )
            ).reshape(Z.shape)
            for c in range(4)
        ]
    hessians = np.stack(columns, axis=-1)
    vector = np.linspace(-1.0, 2.0, Z.size).reshape(Z.shape)
    z, w, v = (send(backend, x, "float64") for x in (Z, other, vector))
    got = backend.to_numpy(hvp(jensen_shannon_divergence)(z, w, v, **options))
    np.testing.assert_allclose(got, np.einsum("nij,nj->ni", hessians, vector), atol=1e-15)
    want = np.einsum("nii->ni", hessians)
    for diagonal in (
        hessian_diagonal(jensen_shannon_divergence)(z, w, **options),
        value_grad_and_hessian_diagonal(jensen_shannon_divergence)(z, w, **options)[2],
    ):
        np.testing.assert_allclose(backend.to_numpy(diagonal), want, atol=1e-15)


def test_masks_tails_and_limits(backend: Adapter) -> None:
    """Classes masked in one or both, probabilities that underflow, betas of 0 and 1, NaN rows."""
    one = np.array([[-INF, 0.0, 0.0], [-INF, -INF, 0.0], [0.0, -1e4, 1.0], [-INF] * 3])
    two = np.array([[0.0, -INF, 0.0], [-INF, -INF, 3.0], [0.0, 1e4, 1.0], [0.0] * 3])
    z, w = (send(backend, x, "float32") for x in (one, two))
    ask = value_and_grad(jensen_shannon_divergence, (0, 1))
    value, gradients = ask(z, w, reduction="none")
    want = [np.log(2) / 2, 0.0, np.log(2), np.nan]
    np.testing.assert_allclose(backend.to_numpy(value), want, rtol=1e-6)
    for got in gradients:
        host = backend.to_numpy(got)
        assert np.isfinite(host[:3]).all()
        assert np.isnan(host[3]).all()
    for beta in (0.0, 1.0):
        value, gradients = ask(z[:3, ...], w[:3, ...], beta=beta)
        assert backend.to_numpy(value) == 0
        for got in gradients:
            np.testing.assert_allclose(backend.to_numpy(got), 0.0, atol=1e-30)


def test_masked_classes_are_left_out(backend: Adapter) -> None:
    """`class_where` is −inf in both, whatever they hold; `where` drops rows; any axis."""
    hidden = np.where(np.isinf(MASKED), np.nan, Z)
    part, rows = ~np.isinf(MASKED), np.array([True, False, True])
    want = value_and_grad(jensen_shannon_divergence)(MASKED[::2], np.where(part, FAR, -INF)[::2])
    options = {"class_where": part, "where": rows}
    case = Case(NAME, (hidden, FAR), options)
    arrays, given = case.on(backend, "float64")
    value, gradient = value_and_grad(jensen_shannon_divergence)(*arrays, **given)
    np.testing.assert_allclose(backend.to_numpy(value), want[0], rtol=1e-14)
    np.testing.assert_allclose(backend.to_numpy(gradient)[::2], want[1], atol=1e-15)
    assert np.all(backend.to_numpy(gradient)[1] == 0)
    turned = jensen_shannon_divergence(
        *(send(backend, x.T.copy(), "float64") for x in (Z, FAR)), axis=0
    )
    plain = jensen_shannon_divergence(Z, FAR)
    np.testing.assert_allclose(backend.to_numpy(turned), plain, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    """Computed in float32; the gradient in the logits' dtype, rounded once."""
    backend = backends.get("torch") if "torch" in backends.installed() else pytest.skip("no torch")
    case = Case(NAME, (Z, NEAR), {}).rounded(backend, dtype)
    (want, _) = truth(*case.arrays, dtype)
    value, gradient = value_and_grad(jensen_shannon_divergence)(*case.on(backend, dtype)[0])
    assert_within(backend.to_numpy(value), want.value, want.value_error, "float32")
    assert_array(backend, gradient, dtype, Z.shape)
    host = np.asarray(backend.to_numpy(gradient)).astype(np.float64)
    assert_within(host, want.gradients[0], want.gradient_errors[0], dtype)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize(
    ("z", "w"),
    [(Z, FAR), (Z, Z), (MASKED, Z), (MASKED, MASKED)],
    ids=["far", "same", "one", "both"],
)
def test_automatic_differentiation(name: str, z: np.ndarray, w: np.ndarray) -> None:
    """Gradients by both and Hessians of the formula are the closed forms; no NaN at a zero."""
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    if name == "jax":
        import jax as module

        jit = module.jit
    else:
        from torch import func as module

        def jit(function: Any) -> Any:
            return function

    z, w = z[:1], w[:1]
    arrays = [send(backends.get(name), x, "float64") for x in (z, w)]

    def derivatives(z: Any, w: Any) -> Any:
        gradients = module.grad(jensen_shannon_divergence, (0, 1))(z, w)
        return *gradients, module.hessian(jensen_shannon_divergence)(z, w)

    *gradients, hessian = (np.asarray(x) for x in jit(derivatives)(*arrays))
    _, want = value_and_grad(jensen_shannon_divergence, (0, 1))(z, w)
    np.testing.assert_allclose(gradients, want, atol=1e-15)
    columns = [hvp(jensen_shannon_divergence)(z, w, row[None])[0] for row in np.eye(z.shape[1])]
    np.testing.assert_allclose(hessian[0, :, 0, :], columns, atol=1e-15)
