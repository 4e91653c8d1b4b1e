"""PyTorch's and JAX's own automatic differentiation through the losses, against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import LOSSES, Case, cases, send
from _tools import arguments_of, assert_agree, assert_within, host, times
from _truth import Array
from hypothesis import given, seed, settings

import xp_xent
from xp_xent import backends, cross_entropy

# PyTorch's own import of its compiler warns of its own deprecated function.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

FRAMEWORKS = [name for name in ("torch", "jax", "mlx") if name in backends.installed()]
EXAMPLES = {"torch": 50, "jax": 2, "mlx": 8}
CONFIDENT = np.array([20.0, 0.0, 0.0])
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0}


def differentiate(name: str, function: Any, arrays: list[Any], cotangent: Any) -> list[Any]:
    """The library's own reverse mode, by every array."""
    if name == "torch":
        import torch

        leaves = [a.requires_grad_() for a in arrays]
        return list(torch.autograd.grad(function(*leaves), leaves, cotangent))
    if name == "mlx":
        import mlx.core as mx

        return list(mx.vjp(function, arrays, [cotangent])[1])
    import jax

    return list(jax.vjp(function, *arrays)[1](cotangent))


def assert_same_gradients(name: str, case: Case) -> None:
    """The library's derivative of the loss, by each argument, against the truth."""
    backend = backends.get(name)
    arrays, options = case.on(backend, "float64")
    argnums, places = arguments_of(case)
    cotangent, truth = send(backend, case.cotangent, "float64"), case.truth()

    def function(*variables: Any) -> Any:
        full, given_options = list(arrays), dict(options)
        for argument, variable in zip(argnums, variables, strict=True):
            (full if isinstance(argument, int) else given_options)[argument] = variable
        return case.function(*full, **given_options)

    if cotangent is None:
        cotangent = backend.asarray(np.ones(truth.value.shape), dtype="float64")
    inputs = [arrays[i] if isinstance(i, int) else options[i] for i in argnums]
    own = differentiate(name, function, inputs, cotangent)
    for index, got in zip(places, own, strict=True):
        assert_within(host(got), truth.gradients[index], truth.gradient_errors[index], "float64")


@times
@pytest.mark.parametrize("name", FRAMEWORKS)
# Of the Jensen–Shannon divergence derivatives by the targets lose digits where the closed form does
# not; test_jensen_shannon has them, to fewer.
@pytest.mark.parametrize("loss", [x for x in LOSSES if x != "jensen_shannon_divergence"])
def test_random_calls(name: str, loss: str, times: int) -> None:
    """Every gradient of every loss under every option, to 1e-12."""

    @seed(5)
    @settings(max_examples=EXAMPLES[name] * times)
    @given(cases(loss, name))
    def check(case: Case) -> None:
        assert_same_gradients(name, case)

    check()


@pytest.mark.parametrize("kind", ["float32", "float64"])
class TestConfidentRow:
    """Logits (20, 0, 0), class 0: 4.1223e-9 and −4.1223e-9, not 0."""

    def expect(self, loss: Any, gradient: Array, kind: str) -> None:
        small = float(np.log1p(2 * np.exp(-20.0)))
        rest = 2 * np.exp(-20.0) / (1 + 2 * np.exp(-20.0))
        assert_agree(loss, small, small, kind)
        want = rest * np.array([-1, 0.5, 0.5])
        assert_agree(gradient, want, want, kind)

    def test_backward(self, kind: str) -> None:
        torch = pytest.importorskip("torch")
        logits = torch.tensor(CONFIDENT, dtype=getattr(torch, kind), requires_grad=True)
        loss = cross_entropy(logits, torch.tensor(0))
        loss.backward()
        self.expect(loss.detach().numpy(), logits.grad.numpy(), kind)

    @pytest.mark.parametrize("jit", [False, True])
    def test_jax_grad(self, kind: str, jit: bool) -> None:
        jax = pytest.importorskip("jax")
        logits = jax.numpy.asarray(CONFIDENT, dtype=kind)
        function = jax.value_and_grad(cross_entropy)
        loss, gradient = (jax.jit(function) if jit else function)(logits, jax.numpy.asarray(0))
        self.expect(loss, np.asarray(gradient), kind)


class TestTorch:
    """What autograd and torch.func ask of a loss."""

    def logits(self, torch: Any) -> Any:
        return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def test_every_order(self) -> None:
        """pytorch#18945: no double backward. Against finite differences, twice."""
        torch = pytest.importorskip("torch")
        logits, labels = self.logits(torch).requires_grad_(), torch.tensor([0, 3, 1])
        function = lambda z: cross_entropy(z, labels, **OPTIONS)  # noqa: E731
        assert torch.autograd.gradcheck(function, logits)
        assert torch.autograd.gradcheck(function, logits, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, logits)

    def test_hessian(self) -> None:
        torch = pytest.importorskip("torch")
        logits, labels = self.logits(torch), torch.tensor([0, 3, 1])
        full = torch.func.hessian(lambda z: cross_entropy(z, labels, **OPTIONS))(logits)
        vector = torch.ones_like(logits).cumsum(1)
        product = xp_xent.hvp(cross_entropy)(logits, labels, vector, **OPTIONS)
        size = full.abs().sum((2, 3)) * 4
        assert_agree(product, torch.einsum("aibj,bj->ai", full, vector), size)
        diagonal = xp_xent.hessian_diagonal(cross_entropy)(logits, labels, **OPTIONS)
        assert_agree(diagonal, torch.einsum("aiai->ai", full), size)

    def test_vmap_of_grad(self) -> None:
        """pytorch#138422: per-sample gradients are the rows of reduction="none"."""
        torch = pytest.importorskip("torch")
        logits, labels = self.logits(torch), torch.tensor([0, 3, 1])
        rows = torch.func.vmap(torch.func.grad(cross_entropy))(logits, labels)
        _, want = xp_xent.value_and_grad(cross_entropy)(logits, labels, reduction="none")
        assert_agree(rows, want, np.ones((3, 4)))

    def test_forward_mode(self) -> None:
        """pytorch#187284, optax#1762: a tangent dropped, or NaN beside a masked class."""
        torch = pytest.importorskip("torch")
        logits, labels = self.logits(torch), torch.tensor([0, 3, 1])
        logits[0, 1] = -np.inf
        tangent = torch.ones_like(logits).cumsum(1)
        function = lambda z: cross_entropy(z, labels)  # noqa: E731
        _, slope = torch.func.jvp(function, (logits,), (tangent,))
        _, gradient = xp_xent.value_and_grad(cross_entropy)(logits, labels)
        assert_agree(slope, (gradient * tangent).sum(), 4.0)

    def test_compile(self) -> None:
        """transformers#34615: a graph break in the dispatch; fullgraph=True would raise."""
        torch = pytest.importorskip("torch")
        logits, labels = self.logits(torch).requires_grad_(), torch.tensor([0, -100, 1])
        function = lambda z, y: cross_entropy(z, y, weight=torch.arange(1.0, 5.0), **OPTIONS)  # noqa: E731
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        want = torch.autograd.grad(function(logits, labels), logits)[0]
        got = torch.autograd.grad(compiled(logits, labels), logits)[0]
        assert_agree(got, want, np.ones((3, 4)))


class TestJax:
    """What jax's transformations ask of a loss."""

    def test_hessian(self) -> None:
        jax = pytest.importorskip("jax")
        logits = jax.numpy.asarray(np.random.default_rng(0).normal(size=(2, 3)))
        labels = jax.numpy.asarray([2, 0])
        hessian = jax.jit(jax.hessian(lambda z: cross_entropy(z, labels, **OPTIONS)))
        full = np.asarray(hessian(logits))
        diagonal = xp_xent.hessian_diagonal(cross_entropy)(logits, labels, **OPTIONS)
        assert_agree(diagonal, np.einsum("aiai->ai", full), np.abs(full).sum((2, 3)))

    @pytest.mark.parametrize("loss", ["labels", "probabilities", "kl"])
    def test_masked_class(self, loss: str) -> None:
        """optax#896, #1762, jax#23842: value, VJP and JVP beside −inf."""
        jax = pytest.importorskip("jax")
        logits = jax.numpy.asarray([[1.0, -np.inf, 2.0]])
        targets = jax.numpy.asarray([[0.25, 0.0, 0.75]])
        function = {
            "labels": lambda z: cross_entropy(z, jax.numpy.asarray([2])),
            "probabilities": lambda z: cross_entropy(z, targets),
            "kl": lambda z: xp_xent.kl_divergence(z, targets),
        }[loss]
        gradient = jax.jit(jax.grad(function))(logits)
        tangent = jax.numpy.full_like(logits, 3.0)
        _, slope = jax.jit(lambda z, v: jax.jvp(function, (z,), (v,)))(logits, tangent)
        e = 1 / (1 + np.exp(-1.0))
        want = np.array([[1 - e, 0, e]]) - (np.eye(3)[[2]] if loss == "labels" else targets)
        assert_agree(gradient, want, np.ones((1, 3)))
        assert_agree(slope, 0.0, 10.0)

    def test_vmap(self) -> None:
        jax = pytest.importorskip("jax")
        logits = jax.numpy.asarray(np.random.default_rng(0).normal(size=(5, 2, 3)))
        labels = jax.numpy.asarray(np.random.default_rng(1).integers(0, 3, (5, 2)))
        assert_agree(
            jax.jit(jax.vmap(cross_entropy))(logits, labels),
            cross_entropy(logits, labels, reduction="none").mean(axis=1),
            np.ones(5),
        )


@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
def test_focal_at_an_infinite_loss(name: str) -> None:
    """Labels on masked classes, logits at infinity: the limit of the slope, never NaN."""
    if name not in FRAMEWORKS:
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    for loss, logits, targets in (
        (xp_xent.softmax_focal_loss, [[0.0, -np.inf], [1.0, 2.0]], [1, 0]),
        (xp_xent.sigmoid_focal_loss, [np.inf, -np.inf, 1.0], [0, 1, 1]),
        (xp_xent.sigmoid_focal_loss, [np.inf, -np.inf, 1.0], [0.5, 0.25, 0.5]),
    ):
        z, y = backend.asarray(np.asarray(logits)), backend.asarray(np.asarray(targets))
        _, wanted = xp_xent.value_and_grad(loss)(z, y, reduction="sum")
        one = backend.asarray(np.asarray(1.0))
        (got,) = differentiate(
            name, lambda z, loss=loss, y=y: loss(z, y, reduction="sum"), [z], one
        )
        assert_agree(got, wanted, np.ones(1))


@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
@pytest.mark.parametrize("loss", [xp_xent.cross_entropy, xp_xent.kl_divergence])
def test_by_a_target_of_0_on_a_masked_class(name: str, loss: Any) -> None:
    """It is 0 there, by the closed form and by the formula."""
    if name not in FRAMEWORKS:
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    z = backend.asarray(np.array([[1.0, -np.inf, 0.5], [0.0, 2.0, -np.inf]]))
    q = backend.asarray(np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]))
    _, wanted = xp_xent.value_and_grad(loss, 1)(z, q, reduction="sum")
    one = backend.asarray(np.asarray(1.0))
    (got,) = differentiate(name, lambda q: loss(z, q, reduction="sum"), [q], one)
    assert_agree(got, wanted, np.ones(1))
    assert float(backend.to_numpy(got)[0, 1]) == 0


@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
@pytest.mark.parametrize("gamma", [0.05, 0.25, 0.5, 0.9])
def test_curvature_of_a_confident_row_with_a_small_gamma(name: str, gamma: float) -> None:
    """(1 − p)^γ has no second derivative in float32 there; its product with ℓ has."""
    if name not in FRAMEWORKS:
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    logits = np.zeros((5, 3))
    logits[:, 0] = [1, 15, 17, 30, 60]  # on both sides of where the form changes
    z = backend.asarray(logits, dtype="float32")
    y = backend.asarray(np.zeros(5, dtype=np.int32))

    def total(z: Any) -> Any:
        return xp_xent.softmax_focal_loss(z, y, gamma=gamma, reduction="sum")

    if name == "torch":
        import torch

        z.requires_grad_()
        (slope,) = torch.autograd.grad(total(z), z, create_graph=True)
        got = torch.autograd.grad(slope[:, 0].sum(), z)[0].numpy()[:, 0]
    elif name == "mlx":
        import mlx.core as mx

        got = np.array(mx.grad(lambda z: mx.grad(total)(z)[:, 0].sum())(z))[:, 0]
    else:
        import jax

        got = np.asarray(jax.grad(lambda z: jax.grad(total)(z)[:, 0].sum())(z))[:, 0]
    exact = xp_xent.hessian_diagonal(xp_xent.softmax_focal_loss)(
        logits, np.zeros(5, int), gamma=gamma, reduction="sum"
    )[:, 0]
    # JAX on a CPU takes numbers below the smallest normal one for 0.
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=2e-38)
