"""Factors far from 1: what is in range in the end is not lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import value_and_grad

from xp_xent import backends, cross_entropy, next_token_cross_entropy
from xp_xent.backends import Adapter

RNG = np.random.default_rng(5)
Z, Y = RNG.normal(size=(6, 4)), np.asarray([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("loss", [cross_entropy, next_token_cross_entropy])
def test_small_factors_of_large_exponentials(backend: Adapter, loss: Any) -> None:
    """Logits of 30 have a total of 1e13: with a factor of 2e-31, the quotient is subnormal."""
    tiny, plain = 2.2e-25, [1, 1, 0, 1, 1, 1]
    for name, ones in (("sample_weight", np.asarray(plain, float)), ("weight", np.ones(4))):
        found = []
        for scale, divisor in ((1.0, 1.0), (tiny, 1e6)):
            how: dict[str, Any] = {name: scale * ones, "normalizer": divisor}
            found.append(value_and_grad(backend, loss, Z + 30, Y, **how)[1])
        want = found[0] * (float(np.float32(tiny)) / 1e6)
        np.testing.assert_allclose(found[1].astype(np.float64), want, rtol=2e-6)


@pytest.mark.parametrize("name", ["jax", "mlx"])
def test_derivative_by_tiny_weights(name: str) -> None:
    """The mean's denominator is not squared: by class and sample weights, and by a normalizer."""
    module = pytest.importorskip({"jax": "jax", "mlx": "mlx.core"}[name])
    backend, grad, tiny = backends.get(name), module.grad, 1e-25

    def of(value: float, *shape: int) -> Any:
        return backend.asarray(np.full(shape, value, np.float32))

    z, y = backend.asarray(np.asarray(Z, np.float32)), backend.asarray(np.asarray(Y))

    def by_class(w: Any) -> Any:
        return cross_entropy(z, y, weight=w)

    def by_row(s: Any) -> Any:
        return cross_entropy(z, y, sample_weight=s)

    def by_normalizer(n: Any) -> Any:
        return cross_entropy(z, y, sample_weight=of(tiny, 6), normalizer=n)

    def slopes(w: Any, s: Any, n: Any) -> Any:
        return grad(by_class)(w), grad(by_row)(s), grad(by_normalizer)(n)

    slopes_of = module.jit(slopes) if name == "jax" else slopes
    got = slopes_of(of(tiny, 4), of(tiny, 6), of(tiny))
    w, s, _ = slopes_of(of(1, 4), of(1, 6), of(1))
    np.testing.assert_allclose(got[0] * tiny, w, rtol=1e-5)
    np.testing.assert_allclose(got[1] * tiny, s, rtol=1e-4, atol=1e-6)
    total = cross_entropy(z, y, reduction="sum")
    np.testing.assert_allclose(got[2] * tiny, -total, rtol=1e-5)
