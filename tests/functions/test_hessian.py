"""`hessian`: each row's matrix, against differences of the certified gradient and enclosures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _cases import Case, cases
from _curvature import EXAMPLES, ROW_LOSSES, assert_close
from _tools import assert_array, call, error_of, host, times
from _truth import Array, class_axis, row_hessians
from flint import arb, ctx
from hypothesis import given, seed, settings

import xp_xent
from xp_xent import cross_entropy, hessian, hessian_diagonal
from xp_xent.backends import Adapter, _numpy_walk
from xp_xent.conformance.tolerance import FORMATS

ELEMENTWISE = ("binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss")
MATRICES = [name for name in ROW_LOSSES if name not in ELEMENTWISE]
# A transform's entries have terms of both signs, which a compiler rounds in one way or the other.
OF_BOTH_SIGNS = ("softmax_focal_loss", "poly_cross_entropy")
RNG = np.random.default_rng(11)


def assert_matrices(backend: Adapter, case: Case) -> None:
    """Close to the truth, symmetric, with the diagonal that is known."""
    want, axis, logits = row_hessians(case), class_axis(case), case.arrays[0]
    assert axis is not None
    arrays, options = case.on(backend, "float64")
    result = hessian(case.function)(*arrays, **options)
    classes, rows = logits.shape[axis], np.delete(logits.shape, axis % logits.ndim)
    assert_array(backend, result, "float64", (*rows, classes, classes))
    got = backend.to_numpy(result)
    assert np.array_equal(got, np.swapaxes(got, -1, -2), equal_nan=True)
    diagonal = np.moveaxis(host(hessian_diagonal(case.function)(*arrays, **options)), axis, -1)
    entries, eps = np.einsum("...ii->...i", got), FORMATS["float64"].eps
    slack = 8 * eps * abs(entries)
    if case.loss in OF_BOTH_SIGNS:
        slack = 64 * eps * np.abs(got).max(axis=(-1, -2), initial=0)[..., None]
    assert (abs(entries - diagonal) <= slack + 1e-300).all()
    if case.loss == "next_token_cross_entropy":
        assert (got[..., -1, :, :] == 0).all()
        got = got[..., :-1, :, :]
    size = abs(want).sum(axis=-1)
    assert_close(got.reshape(want.shape), want, np.maximum(size[..., None], size[..., None, :]))


@times
@pytest.mark.parametrize("loss", MATRICES)
def test_random_calls(backend: Adapter, loss: str, times: int) -> None:
    @seed(4)
    @settings(max_examples=EXAMPLES.get(backend.name, 3) * times)
    @given(cases(loss, backend.name))
    def check(case: Case) -> None:
        assert_matrices(backend, case)

    check()


def enclosed(logits: Array) -> Array:
    """diag(p) − p pᵀ of a row, each entry of positive terms, to 200 bits."""
    with ctx.workprec(200):
        exps = [arb(float(z)).exp() for z in logits]
        total = sum(exps, arb(0))
        p = [e / total for e in exps]
        rest = [sum((x for k, x in enumerate(p) if k != j), arb(0)) for j in range(len(p))]
        return np.array(
            [
                [float(x * (rest[j] if j == k else -y)) for k, y in enumerate(p)]
                for j, x in enumerate(p)
            ]
        )


@pytest.mark.parametrize("top", [0.0, 3.0, 50.0, 300.0])
@pytest.mark.parametrize("label", [0, 2])
def test_each_entry_keeps_its_digits(backend: Adapter, top: float, label: int) -> None:
    """Relative to itself: also where one class holds nearly all, and on the diagonal."""
    logits = np.array([top, 0.0, -3.0, 1.5])
    want = enclosed(logits)
    got = call(backend, "float64", hessian(cross_entropy), logits, np.array(label))
    # Of exponentials of arguments up to 300, in a library's own accuracy
    assert (abs(got - want) <= 64 * FORMATS["float64"].eps * abs(want)).all()
    target = np.eye(4)[label]
    for loss in (cross_entropy, xp_xent.kl_divergence):
        got = call(backend, "float64", hessian(loss), logits, target)
        assert (abs(got - want) <= 64 * FORMATS["float64"].eps * abs(want)).all()


def test_focal_of_a_sure_row(backend: Adapter) -> None:
    """(1 − p)^γ far below 1: the matrix is not lost beside 1."""
    case = Case("softmax_focal_loss", (np.array([[60.0, 1.0, 0.0]]), np.array([0])), {"gamma": 1.0})
    want = row_hessians(case)[0]
    got = call(backend, "float64", hessian(case.function), *case.arrays, gamma=1.0)[0]
    assert (abs(got - want) <= 1e-12 * abs(want)).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_scaled_as_the_gradient(backend: Adapter, reduction: str) -> None:
    """Weighted, and exactly 0 where a row does not count, whatever is there."""
    z, y, w = RNG.normal(size=(3, 4)), np.array([0, -100, 3]), np.array([0.5, 1.0, 2.0])
    z[1] = np.nan
    how: dict[str, Any] = {"sample_weight": w, "reduction": reduction}
    got = call(backend, "float64", hessian(cross_entropy), z, y, **how)
    share = w / 2.5 if reduction == "mean" else w
    for row in (0, 2):
        np.testing.assert_allclose(got[row], share[row] * enclosed(z[row]), rtol=1e-13)
    assert (got[1] == 0).all()


def test_any_axis(backend: Adapter) -> None:
    z, y = RNG.normal(size=(2, 3, 4, 2)), RNG.integers(0, 3, (2, 4, 2))
    want = call(backend, "float64", hessian(cross_entropy), np.moveaxis(z, 1, -1).copy(), y)
    assert want.shape == (2, 4, 2, 3, 3)
    for axis in (1, -3):
        got = call(backend, "float64", hessian(cross_entropy), z, y, axis=axis)
        np.testing.assert_allclose(got, want, rtol=1e-14)
    one = call(backend, "float64", hessian(cross_entropy), z[..., :1, :1], y[:, :1, :1], axis=1)
    assert one.shape == (2, 1, 1, 3, 3)
    alone = call(backend, "float64", hessian(cross_entropy), np.zeros((2, 1)), np.zeros(2, int))
    assert alone.shape == (2, 1, 1)
    assert (alone == 0).all()


def test_masked_classes(backend: Adapter) -> None:
    z = np.array([[1.0, -np.inf, 0.0]])
    got = call(backend, "float64", hessian(cross_entropy), z, np.array([0]))[0]
    assert (got[1] == 0).all()
    np.testing.assert_allclose(got[::2, ::2], enclosed(z[0, ::2]), rtol=1e-14)


def test_dtype_is_the_arguments(backend: Adapter, dtype: str) -> None:
    logits, labels = backend.asarray(np.zeros((2, 3)), dtype=dtype), backend.asarray(np.arange(2))
    assert_array(backend, hessian(cross_entropy)(logits, labels), dtype, (2, 3, 3))


def test_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's blocks of rows make the same bits, inaccurate rows among them."""
    z, y = RNG.normal(size=(64, 5)), RNG.integers(0, 5, 64)
    z[::7] *= 1000
    want = hessian(cross_entropy)(z, y)
    monkeypatch.setattr(_numpy_walk, "BLOCK", 40)
    assert np.array_equal(hessian(cross_entropy)(z, y), want)


def test_under_transforms() -> None:
    """Compiled, mapped, and differentiated by the library: a third derivative."""
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    z, y = RNG.normal(size=(3, 4, 2)), RNG.integers(0, 4, (3, 2))
    function = partial(cross_entropy, axis=1, label_smoothing=0.1, softcap=5.0)
    want = hessian(function)(z, y)
    assert want.shape == (3, 2, 4, 4)
    with jax.enable_x64(True):
        sent = jax.numpy.asarray(z), jax.numpy.asarray(y)
        got = jax.jit(hessian(function))(*sent)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        slope = jax.grad(lambda z: hessian(function)(z, sent[1]).sum())(sent[0])
    arrays = torch.tensor(z, requires_grad=True), torch.tensor(y)
    alone = torch.func.vmap(hessian(partial(function, axis=0, reduction="sum")))(*arrays)
    np.testing.assert_allclose(alone.detach() / 6, want, rtol=1e-12)
    hessian(function)(*arrays).sum().backward()
    np.testing.assert_allclose(arrays[0].grad, slope, rtol=1e-10, atol=1e-13)
    with torch.no_grad():
        np.testing.assert_allclose(hessian(function)(*arrays), want, rtol=1e-12)


def test_refused() -> None:
    """No matrix of a row: the message says what there is."""
    z = np.zeros((2, 3))
    refused = [
        (xp_xent.binary_cross_entropy_with_logits, (z, z)),
        (xp_xent.sigmoid_focal_loss, (z, z)),
        (xp_xent.linear_cross_entropy, (z, z, np.array([0, 1]))),
    ]
    for loss, arrays in refused:
        error = error_of(hessian(loss), *arrays)
        assert isinstance(error, TypeError)
        assert "hessian_diagonal" in str(error)
        assert "hvp" in str(error)
