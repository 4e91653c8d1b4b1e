"""Sequences too short to predict anything: of no token, and of one."""

from __future__ import annotations

import numpy as np
import pytest

from xp_xent import hessian_diagonal, next_token_cross_entropy, value_and_grad
from xp_xent.backends import get, installed

# The code is the same on all; others compile every operation for each shape.
QUICK = [name for name in ("numpy", "array_api_strict", "torch") if name in installed()]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("length", [0, 1])
def test_nothing_is_predicted(name: str, length: int) -> None:
    backend, shape = get(name), (2, length, 3)
    z, tokens = backend.asarray(np.zeros(shape)), backend.asarray(np.zeros(shape[:-1], int))
    for kind in ("mean", "sum", "none"):
        given = {"cotangent": backend.asarray(np.ones((2, 0)))} if kind == "none" else {}
        value, gradient = value_and_grad(next_token_cross_entropy)(
            z, tokens, reduction=kind, **given
        )
        same = backend.to_numpy(next_token_cross_entropy(z, tokens, reduction=kind))
        want = {"mean": np.nan, "sum": 0.0, "none": np.zeros((2, 0))}[kind]
        for found in (same, backend.to_numpy(value)):
            assert np.array_equal(found, want, equal_nan=True)
        assert np.array_equal(backend.to_numpy(gradient), np.zeros(shape))
    bent = hessian_diagonal(next_token_cross_entropy)(z, tokens)
    assert np.array_equal(backend.to_numpy(bent), np.zeros(shape))
