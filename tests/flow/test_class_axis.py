"""The class axis in the middle: what is found with the classes last, without moving them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _forms import CLASSES, FORMS, NOT_LOSSES, ROWS, Form
from _registry import Entry, fullest
from _tools import assert_agree, host

import xp_xent
from xp_xent import backends

LOSSES = [f for f in FORMS if "axis" in f.options and f.function not in NOT_LOSSES]


def stacked(form: Form, *, middle: bool) -> Entry:
    """The fullest call, on images of two rows of pixels; the classes in the middle, or last."""
    case = fullest(form)

    def image(x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.shape[:1] != (ROWS,):
            return x
        both = np.stack([x, x[::-1]])
        return np.moveaxis(both, -1, 1).copy() if middle and x.ndim == 2 else both

    options = {key: image(value) for key, value in case.options.items()}
    return Entry(
        form.function,
        tuple(image(x) for x in case.arrays),
        options | {"axis": 1 if middle else -1},
        None,
        form,
        "axis",
    )


def last(x: Any) -> Any:
    """Bring the classes to the end of what is not one number a pixel."""
    x = host(x)
    return np.moveaxis(x, 1, -1) if x.shape == (2, CLASSES, ROWS) else x


def everything(case: Entry, backend: Any) -> list[Any]:
    """Value, gradients and curvature in closed form."""
    arrays, options = case.on(backend, "float64")
    loss = partial(case.function, **options)
    by = (0, 1) if case.form.targets == "probabilities" else 0
    value, gradients = xp_xent.value_and_grad(loss, by)(*arrays)
    vector = backend.xp.ones_like(arrays[0]) * arrays[0] - 0.5
    return [
        value,
        *(gradients if isinstance(gradients, tuple) else [gradients]),
        xp_xent.hvp(loss)(*arrays, vector),
        xp_xent.hessian_diagonal(loss)(*arrays),
    ]


@pytest.mark.parametrize("form", LOSSES, ids=[form.name for form in LOSSES])
def test_closed_forms(backend: Any, form: Form) -> None:
    want = everything(stacked(form, middle=False), backends.get("numpy"))
    got = everything(stacked(form, middle=True), backend)
    for a, b in zip(got, want, strict=True):
        assert_agree(last(a), b, np.abs(b).max())


def closed(form: Form) -> list[Any]:
    """Value, gradient and Hessian–vector product along the logits, the classes last."""
    case = stacked(form, middle=False)
    loss = partial(case.function, **case.options)
    value, gradient = xp_xent.value_and_grad(loss)(*case.arrays)
    return [value, gradient, xp_xent.hvp(loss)(*case.arrays, case.arrays[0])]


@pytest.mark.parametrize("form", LOSSES, ids=[form.name for form in LOSSES])
@pytest.mark.parametrize("compiled", [False, True])
def test_differentiated_by_jax(form: Form, compiled: bool) -> None:
    """Against the closed forms on NumPy, the classes last."""
    jax = pytest.importorskip("jax")
    case = stacked(form, middle=True)
    function, values = case.bind(backends.get("jax"), (0,))

    def everything(z: Any) -> Any:
        value, gradient = jax.value_and_grad(function)(z)
        return value, gradient, jax.jvp(jax.grad(function), (z,), (z,))[1]

    got = (jax.jit(everything) if compiled else everything)(*values)
    for one, want in zip(got, closed(form), strict=True):
        assert_agree(last(one), want, np.abs(want).max())


@pytest.mark.parametrize("form", LOSSES, ids=[form.name for form in LOSSES])
def test_compiled_by_torch(form: Form) -> None:
    """Against the closed forms on NumPy, the classes last."""
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    function, (logits,) = stacked(form, middle=True).bind(backends.get("torch"), (0,))
    logits.requires_grad_()
    value = torch.compile(function, backend="aot_eager", fullgraph=True)(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    for got, want in zip((value.detach(), gradient), closed(form), strict=False):
        assert_agree(last(got), want, np.abs(want).max())


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("library", ["jax", "torch"])
def test_compiled_maps(function: str, library: str) -> None:
    lib = pytest.importorskip(library)
    call = partial(getattr(xp_xent, function), axis=1)
    x = np.random.default_rng(2).normal(size=(2, CLASSES, ROWS))
    if library == "jax":
        compiled = lib.jit(call)
    else:
        compiled = lib.compile(call, backend="aot_eager", fullgraph=True)
    want = call(x)
    assert_agree(compiled(backends.get(library).asarray(x)), want, np.abs(want).max())


def test_xla_moves_no_element_of_an_image() -> None:
    jax = pytest.importorskip("jax")
    logits = jax.ShapeDtypeStruct((2, 21, 64, 64), "float32")
    labels = jax.ShapeDtypeStruct((2, 64, 64), "int32")
    both = jax.value_and_grad(partial(xp_xent.cross_entropy, axis=1))
    text = jax.jit(both).lower(logits, labels).compile().as_text()
    assert "f32[2,64,64,21]" not in text
