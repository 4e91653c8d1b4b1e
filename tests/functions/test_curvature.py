"""`hvp` and `hessian_diagonal`, against differences of the certified gradient."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case, cases, send
from _curvature import EXAMPLES, ROW_LOSSES, assert_close
from _tools import assert_array, error_of, times
from _truth import Array, class_axis, row_hessians
from hypothesis import given, seed, settings

import xp_xent
from xp_xent.backends import Adapter, dtype_name


def by_rows(array: Array, axis: int) -> Array:
    """(…, K, …) as (rows, K)."""
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def assert_curvature(backend: Adapter, case: Case) -> None:
    """Both functions, on one call."""
    hessian = row_hessians(case)
    logits, axis = case.arrays[0], class_axis(case)
    vector = np.random.default_rng(0).normal(size=logits.shape)
    rows = vector.reshape(-1, 1) if axis is None else by_rows(vector, axis)
    if case.loss == "next_token_cross_entropy":  # the truth knows nothing of the last position
        rows = by_rows(vector[..., :-1, :], -1)
    arrays, options = case.on(backend, "float64")
    sent = send(backend, vector, "float64")
    product = xp_xent.hvp(case.function)(*arrays, sent, **options)
    diagonal = xp_xent.hessian_diagonal(case.function)(*arrays, **options)
    wanted = {
        "hvp": np.einsum("rij,rj->ri", hessian, rows),
        "diagonal": np.einsum("rii->ri", hessian),
    }
    sizes = {"hvp": np.einsum("rij,rj->ri", abs(hessian), abs(rows)), "diagonal": None}
    for name, result in (("hvp", product), ("diagonal", diagonal)):
        assert_array(backend, result, "float64", logits.shape)
        host = backend.to_numpy(result)
        if case.loss == "next_token_cross_entropy":
            assert (host[..., -1, :] == 0).all()
            host = host[..., :-1, :]
        got = host.reshape(-1, 1) if axis is None else by_rows(host, axis)
        size = sizes[name] if sizes[name] is not None else abs(hessian).sum(axis=-1)
        assert_close(got, wanted[name], size)


@times
@pytest.mark.parametrize("loss", ROW_LOSSES)
def test_random_calls(backend: Adapter, loss: str, times: int) -> None:
    @seed(3)
    @settings(max_examples=EXAMPLES.get(backend.name, 3) * times)
    @given(cases(loss, backend.name))
    def check(case: Case) -> None:
        assert_curvature(backend, case)

    check()


def test_confident_rows(backend: Adapter) -> None:
    """p(1 − p) where 1 − p is far below eps, and H·v from differences of v alone."""
    logits, labels = np.array([[50.0, 0.0, -3.0]]), np.array([0])
    hessian = row_hessians(Case("cross_entropy", (logits, labels), {}))[0]
    sent = backend.asarray(logits), backend.asarray(labels)
    diagonal = backend.to_numpy(xp_xent.hessian_diagonal(xp_xent.cross_entropy)(*sent))
    assert_close(diagonal[0], np.diag(hessian), np.diag(hessian))
    v = np.array([[1.0, 2.0, -1.0]])
    product = backend.to_numpy(xp_xent.hvp(xp_xent.cross_entropy)(*sent, backend.asarray(v)))
    assert_close(product[0], hessian @ v[0], abs(hessian) @ abs(v[0]))
    same = backend.asarray(np.full((1, 3), 1e6))
    assert (backend.to_numpy(xp_xent.hvp(xp_xent.cross_entropy)(*sent, same)) == 0).all()


def test_dtype_is_the_arguments(backend: Adapter, dtype: str) -> None:
    logits, labels = backend.asarray(np.zeros((2, 3)), dtype=dtype), backend.asarray(np.arange(2))
    assert_array(backend, xp_xent.hvp(xp_xent.cross_entropy)(logits, labels, logits), dtype, (2, 3))
    diagonal = xp_xent.hessian_diagonal(xp_xent.cross_entropy)(logits, labels)
    assert_array(backend, diagonal, dtype, (2, 3))
    assert dtype_name(diagonal.dtype) == dtype


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 3, 1)])
def test_wrong_vector(backend: Adapter, shape: tuple[int, ...]) -> None:
    logits, labels = backend.asarray(np.zeros((2, 3))), backend.asarray(np.arange(2))
    vector = backend.asarray(np.zeros(shape))
    message = str(error_of(xp_xent.hvp(xp_xent.cross_entropy), logits, labels, vector))
    assert "vector" in message
    assert str(shape) in message
    assert "(2, 3)" in message
