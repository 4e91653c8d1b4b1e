"""The maps over any axes, of what takes part, with weights: to the losses' standard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import rounded, send
from _exact_sums import Exact
from _truth import Array

from xp_xent import log_softmax, logsumexp, softmax
from xp_xent.backends import Adapter
from xp_xent.conformance._formats import COMPUTE
from xp_xent.conformance.tolerance import FORMATS, row_tolerance

NAN = np.nan
RNG = np.random.default_rng(23)
SHAPE = (2, 3, 4)
AXES = [-1, 1, (1,), (0, 1), (-1, 1), (0, 2), (2, 1, 0), None]


def host(backend: Adapter, found: Any) -> Any:
    """An answer on the host."""
    if isinstance(found, tuple):
        return tuple(host(backend, part) for part in found)
    return backend.to_numpy(found)


def close(backend: Adapter, got: Any, want: Any, rtol: float = 1e-13) -> None:
    """In float64; infinities and NaN are equal."""
    np.testing.assert_allclose(host(backend, got), np.asarray(want), rtol=rtol, atol=1e-300)


def double(backend: Adapter, values: Any) -> Any:
    return backend.asarray(np.asarray(values, dtype=np.float64))


class TestAccuracy:
    """To the losses' standard, against ball arithmetic, over any axes."""

    @pytest.mark.parametrize("axis", AXES, ids=str)
    def test_softmax_of_what_takes_part(self, backend: Adapter, dtype: str, axis: Any) -> None:
        x, where = RNG.normal(size=SHAPE) * 8, RNG.random(SHAPE) < 0.7
        where[..., 0] = where[:, 0] = True
        x, t = rounded(backend, x, dtype), 0.625
        truth = Exact(x / t, axis, where=where)
        hidden = send(backend, np.where(where, x, NAN), dtype)
        mask = send(backend, where, "bool")
        p = softmax(hidden, axis=axis, where=mask, temperature=t)
        log_p = log_softmax(hidden, axis=axis, where=mask, temperature=t)
        assert p.dtype == log_p.dtype == hidden.dtype
        p, log_p, want = host(backend, p), host(backend, log_p), truth.softmax()
        self.near(p, want, want, dtype, x / t)
        assert (p[~where] == 0).all()
        assert np.isneginf(log_p[~where]).all()
        want = truth.log_softmax()
        self.near(np.where(where, log_p, 0), want, want, dtype, x / t)

    @pytest.mark.parametrize("axis", AXES, ids=str)
    @pytest.mark.parametrize("signs", [False, True], ids=["positive", "signed"])
    def test_logsumexp(self, backend: Adapter, dtype: str, axis: Any, signs: bool) -> None:
        x = rounded(backend, RNG.normal(size=SHAPE) * 8, dtype)
        b = RNG.uniform(0.1, 3.0, SHAPE) * np.where(signs and RNG.random(SHAPE) < 0.4, -1, 1)
        b, where = rounded(backend, b, COMPUTE[dtype]), RNG.random(SHAPE) < 0.8
        where[..., 0] = where[:, 0] = True
        truth = Exact(x, axis, b, where)
        given = send(backend, np.where(where, x, NAN), dtype)
        value, sign = logsumexp(
            given, axis=axis, b=send(backend, b, COMPUTE[dtype]), return_sign=True, keepdims=True,
            where=send(backend, where, "bool"),
        )  # fmt: skip
        assert value.dtype == sign.dtype == given.dtype
        assert np.array_equal(host(backend, sign), truth.sign)
        size = np.abs(x).max() + np.abs(np.log(np.abs(b))).max() + truth.conditioning
        self.near(host(backend, value), truth.log, size, dtype, x)
        alone = logsumexp(given, axis=axis, b=b.tolist(), where=where.astype(int).tolist())
        want = np.where(truth.sign < 0, NAN, truth.log).squeeze(truth.axes)
        self.near(host(backend, alone), want, size.squeeze(truth.axes), dtype, x)

    def near(self, got: Array, want: Array, size: Array, dtype: str, x: Array) -> None:
        compute = COMPUTE[dtype]
        slack = row_tolerance(compute, x.size, float(np.ptp(x))) * np.abs(size)
        slack = slack + FORMATS[dtype].eps * np.abs(want) * (dtype != compute)
        slack = slack + FORMATS[dtype].smallest_normal
        got = np.asarray(got).astype(np.float64)
        with np.errstate(invalid="ignore"):  # of two infinities
            fine = (abs(got - want) <= slack) | (got == want) | (np.isnan(got) & np.isnan(want))
        assert fine.all(), f"got {got[~fine]}, wanted {want[~fine]} ± {slack[~fine]}"

    def test_terms_beyond_the_range_of_exp(self, backend: Adapter) -> None:
        """Weights make up for exponents whose exponentials are out of float32's range."""
        x, b = np.array([0.0, -95.0, 60.0]), np.array([1e-30, 1e30, 1e-37])
        x, b = (rounded(backend, part, "float32") for part in (x, b))
        truth, given = Exact(x, 0, b), send(backend, x, "float32")
        got = host(backend, logsumexp(given, b=send(backend, b, "float32")))
        assert abs(got - truth.log[0]) < 2e-5

    def test_a_weight_is_no_logarithm(self, backend: Adapter) -> None:
        """The sum x + log b would lose the weight beside a large exponent."""
        x = double(backend, [1e16, 1e16])
        close(backend, logsumexp(x, b=[3.0, -2.0], return_sign=True)[0] - 1e16, 0.0)
        value = logsumexp(x, b=[3.0, -4.0], return_sign=True)
        close(backend, value[1], -1.0)
