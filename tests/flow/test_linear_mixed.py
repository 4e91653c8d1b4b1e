"""linear_cross_entropy of half-precision activations and float32 parameters, as trainers have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import error_of, host

import xp_xent
from xp_xent import backends, linear_cross_entropy
from xp_xent.backends import Adapter

RNG = np.random.default_rng(5)
FEATURES, CLASSIFIER, BIAS = RNG.normal(size=(6, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=5)
LABELS = np.array([0, 4, -100, 2, 1, 3])
HALF = ("float16", "bfloat16")
WITH_HALF = [
    name for name in backends.installed() if set(HALF) & set(backends.get(name).float_dtypes())
]


def given(backend: Adapter, *dtypes: str) -> tuple[Any, Any, Any, Any]:
    """Features, classifier and bias in these dtypes, of values that half precision has."""
    coarse = (np.asarray(x).astype(np.float32) for x in (FEATURES, CLASSIFIER, BIAS))
    arrays = (np.round(x * 8) / 8 for x in coarse)
    x, w, b = (backend.asarray(a, dtype=d) for a, d in zip(arrays, dtypes, strict=True))
    return x, w, backend.asarray(LABELS), b


def names(arrays: Any) -> list[str]:
    return [backends.dtype_name(x.dtype) for x in arrays]


@pytest.mark.parametrize("library", WITH_HALF)
def test_mixtures(library: str) -> None:
    """As if all were float32, each gradient rounded once, to the dtype of its argument."""
    backend = backends.get(library)
    both = xp_xent.value_and_grad(linear_cross_entropy, (0, 1, "bias"))
    *wide, bias = given(backend, "float32", "float32", "float32")
    value, gradients = both(*wide, bias=bias)
    halves = [dtype for dtype in HALF if dtype in backend.float_dtypes()]
    for half in halves:
        dtypes = (
            (half, "float32", "float32") if half == halves[-1] else ("float32", half, halves[-1])
        )
        *arrays, bias = given(backend, *dtypes)
        got, its = both(*arrays, bias=bias)
        assert host(got) == host(value)
        assert names(its) == list(dtypes)
        for one, other, dtype in zip(its, gradients, dtypes, strict=True):
            rounded = backend.asarray(host(other), dtype=dtype)
            assert np.array_equal(host(one), host(rounded))


def test_float64_goes_with_float64_only(backend: Adapter) -> None:
    for dtypes in (("float32", "float64", "float32"), ("float64", "float64", "float32")):
        *arrays, bias = given(backend, *dtypes)
        error = error_of(linear_cross_entropy, *arrays, bias=bias)
        assert isinstance(error, TypeError)
        assert "float64 goes with float64 only" in str(error)


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("lowered", [False, True])
def test_pytorch_training(half: str, lowered: bool) -> None:
    """Inside `torch.autocast` and outside: backward, through the formula, and compiled."""
    torch = pytest.importorskip("torch")
    *arrays, bias = given(backends.get("torch"), half, "float32", "float32")
    x, w, y = arrays
    leaves = [x.requires_grad_(), w.requires_grad_(), bias.requires_grad_()]
    _, want = xp_xent.value_and_grad(linear_cross_entropy, (0, 1, "bias"))(
        *(a.detach() for a in arrays), bias=bias.detach()
    )

    def loss(x: Any, w: Any, bias: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            return linear_cross_entropy(x, w, y, bias=bias)

    found = [
        torch.autograd.grad(loss(*leaves), leaves),
        torch.autograd.grad(loss(*leaves) * 2.0**20, leaves),
        torch.autograd.grad(loss(*leaves), leaves, create_graph=True),
        torch.func.grad(loss, (0, 1, 2))(*(leaf.detach() for leaf in leaves)),
        torch.autograd.grad(torch.compile(loss, backend="aot_eager")(*leaves), leaves),
    ]
    eps = torch.finfo(getattr(torch, half)).eps
    for place, gradients in enumerate(found):
        assert names(gradients) == [half, "float32", "float32"]
        for got, its, off in zip(gradients, want, (eps, 1e-5, 1e-5), strict=True):
            scale = 2.0**20 if place == 1 else 1.0
            if scale != 1 and half == "float16":
                continue  # out of its range
            near = {"rtol": off, "atol": off * float(its.abs().max())}
            assert torch.allclose(got.float() / scale, its.float(), **near)


def test_a_scale_saves_what_would_underflow() -> None:
    """The features' gradient is rounded after it has met the scale, float32 beside it or not."""
    torch = pytest.importorskip("torch")
    x = torch.zeros(3, 4, dtype=torch.float16, requires_grad=True)
    w = torch.eye(4, requires_grad=True)
    y = torch.zeros(3, dtype=torch.int64)
    (linear_cross_entropy(x, w, y, normalizer=1e7) * 2.0**16).backward()
    assert (x.grad != 0).all()
    assert (w.grad == 0).all()


def test_jax_training() -> None:
    jax = pytest.importorskip("jax")
    *arrays, bias = given(backends.get("jax"), "bfloat16", "float32", "float32")
    x, w, y = arrays
    _, want = xp_xent.value_and_grad(linear_cross_entropy, (0, 1, "bias"))(x, w, y, bias=bias)

    def loss(x: Any, w: Any, bias: Any) -> Any:
        return linear_cross_entropy(x, w, y, bias=bias)

    leaves = (x, w, bias)
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*leaves)
    assert names(gradients) == ["bfloat16", "float32", "float32"]
    wide = [host(a).astype(np.float64) for a in want]
    for got, its, off in zip(gradients, wide, (2**-7, 1e-5, 1e-5), strict=True):
        near = {"rtol": off, "atol": off * np.abs(its).max()}
        assert np.allclose(host(got).astype(np.float64), its, **near)
    _, change = jax.jvp(loss, leaves, leaves)
    along = sum(float((g * host(a)).sum()) for g, a in zip(wide, leaves, strict=True))
    assert abs(float(change) - along) < 0.02 * abs(along)
