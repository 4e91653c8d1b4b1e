"""PyTorch's eager path: NumPy's kernels on shared memory, else PyTorch's own operations."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import backends, cross_entropy

torch = pytest.importorskip("torch")
LOGITS, LABELS = np.random.default_rng(0).normal(size=(6, 5)), np.array([0, 4, -100, 2, 1, 3])
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01}


def leaves(dtype: str = "float64") -> tuple[Any, Any]:
    backend = backends.get("torch")
    return backend.asarray(LOGITS, dtype=dtype).requires_grad_(), backend.asarray(LABELS)


@pytest.fixture(params=["shared", "device"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With NumPy's view of the tensors, and without, as on a device."""
    if request.param == "device":
        from xp_xent.backends import _torch_memory

        monkeypatch.setattr(_torch_memory, "on_host", lambda tensor: None)
    return str(request.param)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_is_the_closed_form(memory: str, dtype: str, reduction: str) -> None:
    z, y = leaves(dtype)
    loss = cross_entropy(z, y, reduction=reduction, **OPTIONS)
    by = torch.linspace(0.5, 2.0, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    loss.backward(by)
    value, gradient = xp_xent.value_and_grad(cross_entropy)(
        z.detach(), y, reduction=reduction, cotangent=by, **OPTIONS
    )
    assert loss.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert torch.equal(loss.detach(), value)
    eps = torch.finfo(z.dtype).eps
    assert torch.allclose(z.grad, gradient, rtol=2 * eps, atol=0)


def test_bits_are_numpys(memory: str) -> None:
    z, y = leaves()
    value, gradient = xp_xent.value_and_grad(cross_entropy)(z.detach(), y, **OPTIONS)
    want, its = xp_xent.value_and_grad(cross_entropy)(LOGITS, LABELS, **OPTIONS)
    if memory == "shared":
        assert value.numpy() == want
        assert np.array_equal(gradient.numpy(), its)
    else:
        assert np.allclose(gradient.numpy(), its, rtol=1e-13, atol=1e-16)


def test_half_precision_under_a_scale(memory: str) -> None:
    """A gradient that underflows alone survives the scale that GradScaler puts on the loss."""
    z = torch.zeros(3, 4, dtype=torch.float16, requires_grad=True)
    y = torch.zeros(3, dtype=torch.int64)
    (cross_entropy(z, y, normalizer=1e7) * 2.0**16).backward()
    assert (z.grad != 0).all()


def test_backward_again(memory: str) -> None:
    z, y = leaves()
    loss = cross_entropy(z, y)
    (first,) = torch.autograd.grad(loss, z, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, z, torch.tensor(3.0, dtype=z.dtype), retain_graph=True)
    assert torch.equal(first, kept)  # what was handed out is not written to
    assert torch.allclose(second, 3 * first, rtol=1e-15, atol=0)
    (again,) = torch.autograd.grad(loss, z)
    assert torch.equal(again, first)


def test_no_work_for_no_gradient() -> None:
    z, y = leaves()
    assert not cross_entropy(z.detach(), y).requires_grad
    with torch.no_grad():
        assert not cross_entropy(z, y).requires_grad
    with torch.inference_mode():
        assert cross_entropy(z, y).is_inference()


def test_a_write_between_is_refused() -> None:
    z, y = leaves()
    inner = z * 2
    loss = cross_entropy(inner, y)
    inner.mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        loss.backward()


def test_what_else_has_a_gradient_goes_through_the_formula() -> None:
    z, y = leaves()
    weight = torch.ones(5, dtype=z.dtype, requires_grad=True)
    cross_entropy(z, y, weight=weight, reduction="sum").backward()
    assert weight.grad is not None
    assert z.grad is not None


def test_another_librarys_probabilities_are_refused() -> None:
    z, _ = leaves()
    with pytest.raises(TypeError, match=r"targets.*numpy"):
        cross_entropy(z, np.ones(z.shape))


def test_views() -> None:
    """Memory in any order, not contiguous, negative and conjugate views excluded."""
    base = torch.from_numpy(LOGITS.copy())
    for z in (base.T.contiguous().T, base[::2], base.expand(2, 6, 5)[0], base.clone()[:, 1:]):
        y = torch.zeros(len(z), dtype=torch.int64)
        want = cross_entropy(z.clone().contiguous(), y)
        assert torch.allclose(cross_entropy(z, y), want, rtol=1e-15, atol=0)
    imaginary = torch.complex(base, base).conj().imag  # a negated view
    y = torch.zeros(6, dtype=torch.int64)
    assert torch.allclose(cross_entropy(imaginary, y), cross_entropy(-base, y), rtol=1e-14, atol=0)


def negated(x: np.ndarray) -> Any:
    """View numbers whose sign is a bit of the view, which NumPy cannot share."""
    return torch.complex(torch.zeros(x.shape, dtype=torch.float64), -torch.tensor(x)).conj().imag


def test_no_cotangent_is_dropped() -> None:
    z, y = leaves()
    by = np.linspace(0.5, 2.0, 6)
    how: dict[str, Any] = {"reduction": "none", **OPTIONS}
    _, want = xp_xent.value_and_grad(cross_entropy)(LOGITS, LABELS, cotangent=by, **how)
    _, got = xp_xent.value_and_grad(cross_entropy)(z.detach(), y, cotangent=negated(by), **how)
    assert np.array_equal(got.numpy(), want)
    cross_entropy(z, y, **how).backward(negated(by))
    assert np.array_equal(z.grad.numpy(), want)
    along = xp_xent.hvp(cross_entropy)(z.detach(), y, negated(LOGITS), **OPTIONS)
    assert np.array_equal(
        along.numpy(), xp_xent.hvp(cross_entropy)(LOGITS, LABELS, LOGITS, **OPTIONS)
    )


def test_no_cotangent_is_dropped_for_its_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy has no bfloat16 of its own."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    z, y = leaves("float32")
    by = torch.tensor([0.5, 1, 1.5, 2, 2.5, 3], dtype=torch.bfloat16)
    ask = xp_xent.value_and_grad(cross_entropy)
    _, got = ask(z.detach(), y, cotangent=by, reduction="none")
    _, want = ask(z.detach(), y, cotangent=by.float(), reduction="none")
    assert torch.equal(got, want)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cotangents_in_a_batch(memory: str, reduction: str) -> None:
    """The ways in which PyTorch calls backward once for many cotangents."""
    z, y = leaves()

    def losses(z: Any) -> Any:
        one = cross_entropy(z, y, reduction=reduction, **OPTIONS)
        return one if reduction == "none" else torch.stack([one, cross_entropy(2 * z, y)])

    want = torch.autograd.functional.jacobian(losses, z)
    assert torch.count_nonzero(want) > 0
    one_by_one = torch.stack([torch.autograd.grad(losses(z)[at], z)[0] for at in range(len(want))])
    close: dict[str, Any] = {"rtol": 1e-13, "atol": 1e-16}
    assert torch.allclose(want, one_by_one, **close)
    assert torch.allclose(
        torch.autograd.functional.jacobian(losses, z, vectorize=True), want, **close
    )
    value, each = losses(z), torch.eye(len(want), dtype=torch.float64)
    (batched,) = torch.autograd.grad(value, z, each, is_grads_batched=True, retain_graph=True)
    assert torch.allclose(batched, want, **close)
    got = torch.func.vmap(lambda by: torch.autograd.grad(value, z, by, retain_graph=True)[0])(each)
    assert torch.allclose(got, want, **close)


@pytest.mark.parametrize("changed", ["labels", "weight", "sample_weight"])
def test_a_write_to_what_else_a_gradient_depends_on_is_refused(memory: str, changed: str) -> None:
    z, y = leaves()
    weights = {
        "weight": torch.ones(5, dtype=torch.float64),
        "sample_weight": torch.ones(6, dtype=torch.float64),
    }
    loss = cross_entropy(z, y, reduction="none", **weights).sum()
    (y if changed == "labels" else weights[changed])[0] = 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_products_under_autocast(dtype: str) -> None:
    """They are in the loss's dtype on every path, whatever autocast says."""
    backend, rng = backends.get("torch"), np.random.default_rng(2)
    x = backend.asarray(rng.normal(size=(64, 32)), dtype=dtype)
    classifier = backend.asarray(rng.normal(size=(50, 32)), dtype=dtype)
    y = backend.asarray(rng.integers(0, 50, 64))
    loss = xp_xent.linear_cross_entropy
    want = loss(x, classifier, y)
    weight = torch.ones(50, requires_grad=True)  # takes the formula
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = (
            loss(x, classifier, y),
            loss(x, classifier, y, weight=weight),
            torch.func.vmap(lambda x: loss(x, classifier, y))(x[None])[0],
            torch.compile(loss, backend="aot_eager", fullgraph=True)(x, classifier, y),
        )
    for got in values:
        assert abs(float(got.detach()) - float(want)) < 1e-6 * float(want)


@pytest.mark.parametrize("memory", ["shared"], indirect=True)
def test_an_argument_may_be_computed_from_another(memory: str) -> None:
    """Tied embeddings: derivatives by each are partial, and are added up behind them."""
    rng, tokens = np.random.default_rng(3), torch.tensor([0, 2, 4, 1])
    weights = torch.tensor(rng.normal(size=(5, 4)), requires_grad=True)
    y = torch.tensor([1, 2, 3, 0])

    def loss(weights: Any) -> Any:
        return xp_xent.linear_cross_entropy(torch.tanh(weights[tokens]), weights, y)

    def plain(weights: Any) -> Any:
        return cross_entropy(torch.tanh(weights[tokens]) @ weights.T, y)

    close: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-15}
    (want,) = torch.autograd.grad(plain(weights), weights)
    for again in (False, True):
        (got,) = torch.autograd.grad(loss(weights), weights, create_graph=again)
        assert torch.allclose(got, want, **close)
    each = torch.tensor([1.0, 2.0], dtype=torch.float64)
    (got,) = torch.autograd.grad(loss(weights), weights, each, is_grads_batched=True)
    assert torch.allclose(got, torch.stack([want, 2 * want]), **close)
    hessian = torch.autograd.functional.hessian
    assert torch.allclose(hessian(loss, weights), hessian(plain, weights), **close)


def test_what_is_not_differentiated_may_be_of_inference_mode(memory: str) -> None:
    z, y = leaves()
    with torch.inference_mode():
        q, weight, labels = torch.softmax(z, -1), torch.ones(5, dtype=z.dtype), y.clone()
    want = cross_entropy(z, y, weight=weight.clone())
    cross_entropy(z, labels, weight=weight).backward()
    assert torch.equal(cross_entropy(z, labels, weight=weight), want)
    cross_entropy(z, q).backward()
    assert torch.isfinite(z.grad).all()
