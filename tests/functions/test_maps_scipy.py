"""What SciPy's and JAX's tests ask of softmax, log_softmax and logsumexp, on every library.

Left out: complex and integer exponents, and exponents that are no array; those are refused here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _cases import send
from _exact_sums import Exact, axes_of

import xp_xent
from xp_xent import log_softmax, logsumexp, softmax
from xp_xent.backends import Adapter
from xp_xent.conformance.tolerance import FORMATS

INF, NAN = math.inf, math.nan
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


class TestLogSumExp:
    """SciPy's cases."""

    def test_large_numbers(self, backend: Adapter) -> None:
        a = np.arange(200.0)
        close(backend, logsumexp(double(backend, a)), np.log(np.exp(a).sum()))
        close(backend, logsumexp(double(backend, [1000.0] * 2)), 1000 + math.log(2))
        close(backend, logsumexp(double(backend, [1e4] * 1000)), 1e4 + math.log(1000))

    def test_many_small_numbers(self, backend: Adapter) -> None:
        logs = double(backend, np.log(np.full((2, 100_000), 1e-40)))
        for axis, want in ((None, 2e-35), (0, 2e-40), (1, 1e-35)):
            found = host(backend, logsumexp(logs, axis=axis))
            np.testing.assert_allclose(np.exp(found), np.full(found.shape, want), rtol=1e-11)

    def test_magnitudes_that_differ(self, backend: Adapter) -> None:
        a = double(backend, [[1e10, 1e-10], [-1e10, -INF]])
        close(backend, logsumexp(a), [1e10, -1e10])
        close(backend, logsumexp(a, keepdims=True), [[1e10], [-1e10]])
        close(backend, logsumexp(a, axis=(-1, -2)), 1e10)
        close(backend, logsumexp(double(backend, [0.0, -40.0])), np.logaddexp(0.0, -40.0))

    def test_weights(self, backend: Adapter) -> None:
        a, b = np.arange(200.0), np.arange(200.0, 0.0, -1.0)
        found = logsumexp(double(backend, a), b=double(backend, b))
        close(backend, found, np.log((b * np.exp(a)).sum()))
        found = logsumexp(double(backend, [1000.0, 1000.0]), b=double(backend, [1.2, 1.2]))
        close(backend, found, 1000 + math.log(2.4))
        close(backend, logsumexp(double(backend, [1.0, 1e4]), b=[1, 0]), 1.0)

    def test_signs(self, backend: Adapter) -> None:
        ones = double(backend, [1.0, 1.0, 1.0])
        close(backend, logsumexp(ones, b=[1, -1, -1], return_sign=True), (1.0, -1.0))
        close(backend, logsumexp(ones, b=[1, -1, 0], return_sign=True), (-INF, 0.0))
        close(backend, logsumexp(ones, return_sign=True), (1 + math.log(3), 1.0))
        a = double(backend, [3.06409428, 0.37251854, 3.87471931])
        b = [1.88190708, 2.84174795, -0.85016884]
        found, sign = logsumexp(a, b=b, return_sign=True)
        close(backend, logsumexp(a, b=b), host(backend, found))
        close(backend, sign, 1.0)
        close(backend, logsumexp(a, b=[*b[:2], -3.85016884]), NAN)

    @pytest.mark.parametrize("dtype_b", ["float32", "float64", "int32", "int64"])
    def test_dtypes(self, backend: Adapter, dtype: str, dtype_b: str) -> None:
        """The result has the dtype of x, whatever the weights'."""
        a = backend.asarray(np.array([2.0, 1.0]), dtype=dtype)
        b = backend.asarray(np.array([1, -1]), dtype=dtype_b)
        found, sign = logsumexp(a, b=b, return_sign=True)
        assert found.dtype == sign.dtype == a.dtype
        want = math.log(math.e**2 - math.e)
        eps = FORMATS[dtype].eps
        assert abs(float(found) - want) <= 8 * eps * want

    @pytest.mark.parametrize("axis", [2, (1, 3), (3, 0, 1), None, ()], ids=str)
    def test_shapes(self, backend: Adapter, axis: Any) -> None:
        a, shape = double(backend, np.ones((1, 2, 3, 4))), (1, 2, 3, 4)
        kept = tuple(1 if at in axes_of(axis, 4) else n for at, n in enumerate(shape))
        left = tuple(n for at, n in enumerate(shape) if at not in axes_of(axis, 4))
        for keepdims, want in ((False, left), (True, kept)):
            found, sign = logsumexp(a, axis=axis, b=a, return_sign=True, keepdims=keepdims)
            assert tuple(found.shape) == tuple(sign.shape) == want
            assert tuple(logsumexp(a, axis=axis, keepdims=keepdims).shape) == want

    def test_broadcast_both_ways(self, backend: Adapter) -> None:
        x, b = RNG.normal(size=(4, 1, 2, 1)), RNG.normal(size=(3, 1, 5))
        terms = (b * np.exp(x)).sum(axis=(1, 3))
        found = logsumexp(double(backend, x), b=double(backend, b), axis=(1, 3), return_sign=True)
        close(backend, found, (np.log(abs(terms)), np.sign(terms)), rtol=1e-11)

    @pytest.mark.parametrize(
        ("x", "b", "want", "sign"),
        [
            ([INF], None, INF, 1), ([-INF], None, -INF, 0), ([NAN], None, NAN, NAN),
            ([INF], [-1.0], INF, -1), ([INF, INF], [1.0, -1.0], NAN, NAN),
            ([INF, -INF], [1.0, 1.0], INF, 1), ([-INF, -INF], [1.0, -1.0], -INF, 0),
            ([INF, 0.0], [0.0, 2.0], math.log(2), 1), ([NAN, 0.0], [0.0, 2.0], math.log(2), 1),
            ([NAN, 0.0], [1.0, 2.0], NAN, NAN), ([0.0, 0.0], [NAN, 1.0], NAN, NAN),
            ([0.0, 0.0], [INF, 1.0], INF, 1), ([0.0, 5.0], [0.0, 0.0], -INF, 0),
        ],
        ids=str,
    )  # fmt: skip
    def test_limits(
        self, backend: Adapter, x: list[float], b: list[float] | None, want: float, sign: float
    ) -> None:
        found = logsumexp(double(backend, x), b=b, return_sign=True)
        close(backend, found, (want, sign))
        close(backend, logsumexp(double(backend, x), b=b), NAN if sign < 0 else want)

    def test_nothing_is_written_to(self, backend: Adapter) -> None:
        a, b = double(backend, [5.0, 4.0]), double(backend, [3.0, -2.0])
        where = send(backend, np.array([True, False]), "bool")
        logsumexp(a, b=b, where=where)
        softmax(a, where=where, temperature=0.5)
        close(backend, a, [5.0, 4.0])
        close(backend, b, [3.0, -2.0])
        assert host(backend, where).tolist() == [True, False]

    def test_a_number_of_weight(self, backend: Adapter) -> None:
        x = double(backend, [0.0, 1.0])
        close(backend, logsumexp(x, b=2), math.log(2 + 2 * math.e))
        found = logsumexp(x, b=np.float64(-2.0), return_sign=True)
        close(backend, found, (math.log(2 + 2 * math.e), -1.0))


class TestSoftmax:
    """SciPy's cases, and JAX's masks."""

    X = np.array([[-25.0, 0.0, 25.0, 50.0], [1.0, 325.0, 749.0, 750.0]])

    def test_over_axes(self, backend: Adapter) -> None:
        for rows, axis in ((self.X, 1), (self.X.T, 0), (self.X.reshape(2, 2, 2), (1, 2))):
            want = Exact(rows, axis).softmax()
            close(backend, softmax(double(backend, rows), axis=axis), want)
        step = np.arange(4.0)
        for offset in (0.0, 100.0):
            close(backend, softmax(double(backend, step + offset)), Exact(step, 0).softmax())
            square = double(backend, (step + offset).reshape(2, 2))
            want = Exact(step, 0).softmax().reshape(2, 2)
            close(backend, softmax(square, axis=None), want)
            close(backend, log_softmax(square, axis=None), np.log(want))

    def test_log_softmax(self, backend: Adapter) -> None:
        close(backend, log_softmax(double(backend, [1000.0, 1.0])), [0.0, -999.0])
        square = double(backend, [[1000.0, 1.0], [1000.0, 1.0]])
        close(backend, log_softmax(square, axis=0), np.full((2, 2), -math.log(2)))
        close(backend, log_softmax(square, axis=1), [[0.0, -999.0], [0.0, -999.0]])

    def test_of_one_number(self, backend: Adapter) -> None:
        one = double(backend, 1000.0)
        close(backend, softmax(one, axis=None), 1.0)
        close(backend, log_softmax(one, axis=None), 0.0)
        close(backend, logsumexp(one, axis=None), 1000.0)

    @pytest.mark.parametrize("axis", AXES, ids=str)
    def test_where_is_the_map_of_the_rest(self, backend: Adapter, axis: Any) -> None:
        x, where = RNG.normal(size=SHAPE), np.zeros(SHAPE, bool)
        where[:, 0] = where[:, :, 2] = True
        filled = double(backend, np.where(where, x, -INF))
        hidden, mask = double(backend, np.where(where, x, NAN)), send(backend, where, "bool")
        for function in (softmax, log_softmax, logsumexp):
            got = host(backend, function(hidden, axis=axis, where=mask))
            assert np.array_equal(got, host(backend, function(filled, axis=axis)))

    @pytest.mark.parametrize("shape", [(3, 4), (1, 4), (4,), (3, 1), (1, 1), ()], ids=str)
    def test_where_broadcasts(self, backend: Adapter, shape: tuple[int, ...]) -> None:
        x, where = double(backend, RNG.normal(size=(3, 4))), np.asarray(RNG.random(shape) < 0.5)
        whole = np.broadcast_to(where, (3, 4))
        for axis in (0, 1, None):
            for function in (softmax, log_softmax, logsumexp):
                want = host(backend, function(x, axis=axis, where=send(backend, whole, "bool")))
                for mask in (send(backend, where, "bool"), where, where.astype(np.int8)):
                    got = host(backend, function(x, axis=axis, where=mask))
                    assert np.array_equal(got, want, equal_nan=True)

    def test_nothing_takes_part(self, backend: Adapter) -> None:
        x = double(backend, [[1.0, NAN], [0.0, 0.0]])
        where = [[False, False], [True, True]]
        close(backend, softmax(x, where=where), [[0.0, 0.0], [0.5, 0.5]])
        close(backend, log_softmax(x, where=where), [[-INF] * 2, [-math.log(2)] * 2])
        close(backend, logsumexp(x, where=where), [-INF, math.log(2)])

    def test_temperature_keeps_differences(self, backend: Adapter) -> None:
        """A common offset drops out before the division, which would round it."""
        x = np.array([1e8, 1e8 - 1, 1e8 - 8])
        want = Exact((x - 1e8) / 0.3, 0).softmax()
        for t in (0.3, np.float64(0.3), np.asarray(0.3), double(backend, 0.3)):
            close(backend, softmax(double(backend, x), temperature=t), want)
            close(backend, log_softmax(double(backend, x), temperature=t), np.log(want))
        assert np.array_equal(
            host(backend, softmax(double(backend, x), temperature=1.0)),
            host(backend, softmax(double(backend, x))),
        )


class TestNothing:
    """Axes without entries."""

    @pytest.mark.parametrize(
        ("shape", "axis"),
        [((0,), -1), ((2, 0), 1), ((2, 0), 0), ((0, 2), None), ((2, 0, 3), (0, 1)), ((0, 3), -1)],
        ids=str,
    )
    def test_empty(self, backend: Adapter, dtype: str, shape: tuple[int, ...], axis: Any) -> None:
        x = backend.asarray(np.zeros(shape), dtype=dtype)
        for function in (softmax, log_softmax):
            for options in ({}, {"where": np.ones(shape, bool)}, {"temperature": 2.0}):
                found = function(x, axis=axis, **options)
                assert (tuple(found.shape), found.dtype) == (shape, x.dtype)
        for options in ({}, {"where": np.ones(shape, bool)}, {"b": -1.0}):
            found, sign = logsumexp(x, axis=axis, return_sign=True, **options)
            left = [n for at, n in enumerate(shape) if at not in axes_of(axis, len(shape))]
            assert list(found.shape) == list(sign.shape) == left
            assert np.isneginf(host(backend, found)).all()
            assert (host(backend, sign) == 0).all()


class TestRefusals:
    """The losses' words."""

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"where": np.ones(3, bool)},
                "where: got shape (3,), wanted one that broadcasts to x's",
            ),
            ({"where": np.array([0.5, 1.0])}, "where: got dtype float64, wanted bool"),
            ({"where": np.array([2, 1])}, "where: got integers other than 0 and 1"),
            ({"temperature": 0.0}, "temperature: got 0"),
            ({"temperature": -1.0}, "temperature: got -1.0"),
            ({"temperature": "hot"}, "temperature: got str"),
            ({"axis": (0, 0)}, "axis: got (0, 0), wanted each axis once"),
        ],
        ids=str,
    )
    def test_options(self, backend: Adapter, options: dict[str, Any], words: str) -> None:
        x = double(backend, np.zeros((2, 2)))
        options = {name: send(backend, option, "float64") for name, option in options.items()}
        if "integers" in words and not backend.can_read_values(x):
            return  # what is not 0 takes part
        for function in (softmax, log_softmax):
            with pytest.raises((TypeError, ValueError)) as caught:
                function(x, **options)
            assert words in str(caught.value)

    def test_temperature_that_can_be_read(self, backend: Adapter) -> None:
        x, t = double(backend, np.zeros((2, 2))), double(backend, -1.0)
        if backend.can_read_values(t):
            with pytest.raises(ValueError, match="temperature"):
                softmax(x, temperature=t)
        else:
            assert np.isnan(host(backend, softmax(x, temperature=t))).all()

    @pytest.mark.parametrize(
        ("b", "words"),
        [
            (np.ones(3), "b: got shape (3,), wanted one that broadcasts with x's (2, 2)"),
            (np.ones(2, bool), "a mask is passed as where="),
            (np.ones(2, complex), "b"),
            (True, "b: got bool"),
            (INF, "b: got inf"),
        ],
        ids=str,
    )
    def test_weights(self, backend: Adapter, b: Any, words: str) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            logsumexp(double(backend, np.zeros((2, 2))), b=b)
        assert words in str(caught.value)

    @pytest.mark.parametrize("name", ["cross_entropy", "entropy", "kl_divergence"])
    def test_losses_take_one_axis_that_is_not_empty(self, name: str) -> None:
        loss, x = getattr(xp_xent, name), np.zeros((2, 0))
        with pytest.raises(ValueError, match="no classes"):
            loss(*(x,) * (1 if name == "entropy" else 2))
        with pytest.raises(TypeError, match="one integer"):
            loss(*(np.ones((2, 2)),) * (1 if name == "entropy" else 2), axis=(0, 1))
