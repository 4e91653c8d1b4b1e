"""softmax, log_softmax, logsumexp, sigmoid and log_sigmoid: values, limits, derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import rounded
from _tools import assert_array, assert_near, call, error_of
from _truth import Array, mapped

import xp_xent
from xp_xent.backends import Adapter

INF, NAN = np.inf, np.nan
RNG = np.random.default_rng(19)


def truth(name: str, x: Array, axis: int | None) -> tuple[Array, Array]:
    """The map's certified values, and the sizes that it adds up."""
    value = mapped(name, x, axis)
    return value, np.abs(x).max(axis=axis) + 1 if name == "logsumexp" else value


class TestValues:
    """Each entry to its own relative accuracy, in the input's dtype."""

    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
    @pytest.mark.parametrize(("shape", "axis"), [((5,), 0), ((3, 7), 0), ((2, 4, 3), 1)])
    @pytest.mark.parametrize("spread", [0.5, 20.0])
    def test_of_rows(
        self, backend: Adapter, dtype: str, name: str, shape: tuple[int, ...], axis: int,
        spread: float,
    ) -> None:  # fmt: skip
        x = rounded(backend, RNG.normal(size=shape) * spread, dtype)
        self.check(backend, dtype, name, x, axis)

    @pytest.mark.parametrize("name", ["sigmoid", "log_sigmoid"])
    def test_of_elements(self, backend: Adapter, dtype: str, name: str) -> None:
        x = np.array([-80, -20, -1, -1e-6, -1e-30, 0, 1e-30, 1e-6, 1, 20, 80])
        self.check(backend, dtype, name, rounded(backend, x, dtype), None)

    def check(self, backend: Adapter, dtype: str, name: str, x: Array, axis: int | None) -> None:
        options = {} if axis is None else {"axis": axis}
        got = getattr(xp_xent, name)(backend.asarray(x, dtype=dtype), **options)
        want, size = truth(name, x, axis)
        assert_array(backend, got, dtype, want.shape)
        farthest = 2 * float(np.abs(x).max())
        host = backend.to_numpy(got)
        assert_near(host, want, size, dtype=dtype, classes=7, spread=farthest)

    def test_a_sure_class(self, backend: Adapter) -> None:
        """The log of a probability that rounds to 1 is −4.1223e-9, not 0."""
        x = np.array([20.0, 0.0, 0.0])
        want, _ = truth("log_softmax", x, 0)
        got = call(backend, "float32", xp_xent.log_softmax, x)
        assert_near(got, want, want, dtype="float32", classes=3, spread=20.0)

    @pytest.mark.parametrize("offset", [1e4, 1e6, 1e8, -1e8])
    def test_offset(self, backend: Adapter, offset: float) -> None:
        """optax#1792, mlx#4188, pytorch#11752."""
        x = np.array([64.0, 0.0, 8.0, 16.0])
        for function in (xp_xent.softmax, xp_xent.log_softmax):
            got = call(backend, "float32", function, x + offset)
            assert np.array_equal(got, call(backend, "float32", function, x))

    def test_keepdims(self, backend: Adapter) -> None:
        x = backend.asarray(np.zeros((2, 3, 4)))
        for axis in (0, 1, -1):
            kept = xp_xent.logsumexp(x, axis=axis, keepdims=True)
            assert tuple(kept.shape) == tuple(
                1 if i == axis % 3 else n for i, n in enumerate((2, 3, 4))
            )


class TestLimits:
    """Infinities and NaN."""

    def test_masked(self, backend: Adapter) -> None:
        x = np.array([[0.0, -INF, 0.0], [-INF, -INF, 5.0]])
        assert np.array_equal(
            call(backend, "float64", xp_xent.softmax, x), [[0.5, 0, 0.5], [0, 0, 1]]
        )
        got = call(backend, "float64", xp_xent.log_softmax, x)
        assert np.array_equal(np.isneginf(got), np.isneginf(x))
        assert np.array_equal(call(backend, "float64", xp_xent.logsumexp, x[1]), 5.0)

    @pytest.mark.parametrize("name", ["softmax", "log_softmax"])
    @pytest.mark.parametrize("bad", [[-INF, -INF], [INF, 0.0], [NAN, 0.0]], ids=str)
    def test_no_distribution(self, backend: Adapter, name: str, bad: list[float]) -> None:
        got = call(backend, "float64", getattr(xp_xent, name), np.array([bad, [0.0, 0.0]]))
        assert np.isnan(got[0]).all()
        assert np.isfinite(got[1]).all()

    @pytest.mark.parametrize(
        ("x", "want"),
        [([-INF, -INF], -INF), ([INF, 0.0], INF), ([INF, -INF], INF), ([NAN, 0.0], NAN)],
        ids=str,
    )
    def test_logsumexp(self, backend: Adapter, x: list[float], want: float) -> None:
        got = call(backend, "float64", xp_xent.logsumexp, np.array(x))
        assert np.array_equal(got, want, equal_nan=True)

    def test_sigmoids(self, backend: Adapter) -> None:
        x = np.array([-INF, INF, NAN])
        for function, want in (
            (xp_xent.sigmoid, [0, 1, NAN]),
            (xp_xent.log_sigmoid, [-INF, 0, NAN]),
        ):
            got = call(backend, "float64", function, x)
            assert np.array_equal(got, want, equal_nan=True)

    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
    def test_largest_numbers(self, backend: Adapter, name: str) -> None:
        top = 2.0**1023
        got = call(backend, "float64", getattr(xp_xent, name), np.array([top, -top]))
        want = {"softmax": [1, 0], "log_softmax": [0, -INF], "logsumexp": top}[name]
        assert np.array_equal(got, want)


class TestErrors:
    """The same words as the losses'."""

    @pytest.mark.parametrize(
        "name", ["softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"]
    )
    def test_dtype(self, backend: Adapter, name: str) -> None:
        message = str(error_of(getattr(xp_xent, name), backend.asarray(np.arange(3))))
        assert "x" in message
        assert "int64" in message

    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
    def test_axis(self, name: str) -> None:
        for axis in (2, -3, 1.0, "all", (0, 2), (0, -2), (0, 1.0), True):
            assert "axis" in str(error_of(getattr(xp_xent, name), np.zeros((2, 2)), axis=axis))
        assert "shape ()" in str(error_of(getattr(xp_xent, name), np.zeros(())))


class TestDerivatives:
    """Through PyTorch and JAX; the derivative of a row beside −inf is finite."""

    X = np.array([[1.0, -INF, 2.0, 0.5], [3.0, 3.0, -40.0, 0.0]])

    def check(self, gradient: Any, name: str) -> None:
        p = np.exp(self.X - np.log(np.exp(self.X).sum(axis=1, keepdims=True)))
        c = np.array([1.0, 2.0, 3.0, 4.0])
        finite = np.where(np.isinf(self.X), 0.0, c)
        want = {
            "logsumexp": p,
            "log_softmax": finite - p * finite.sum(axis=1, keepdims=True),
            "softmax": p * (c - (p * c).sum(axis=1, keepdims=True)),
            "sigmoid": c / (2 + 2 * np.cosh(self.X)),
        }[name]
        assert np.isfinite(gradient).all()
        assert_near(
            gradient, want, np.maximum(abs(want), 10), dtype="float64", classes=4, spread=50.0
        )

    def weighted(self, xp: Any, name: str, x: Any, c: Any) -> Any:
        """A sum that leaves out the infinite entries, as a user with a mask would."""
        y = getattr(xp_xent, name)(x)
        if name == "logsumexp":
            return y.sum()
        return xp.where(xp.isinf(y), 0.0, y * c).sum() if name == "log_softmax" else (y * c).sum()

    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "sigmoid"])
    def test_torch(self, name: str) -> None:
        """jax#23842, jax#6811: logsumexp's gradient with a mask."""
        torch = pytest.importorskip("torch")
        x = torch.tensor(self.X, requires_grad=True)
        self.weighted(torch, name, x, torch.arange(1.0, 5.0, dtype=torch.float64)).backward()
        self.check(x.grad.numpy(), name)

    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "sigmoid"])
    def test_jax(self, name: str) -> None:
        jax = pytest.importorskip("jax")
        c = jax.numpy.arange(1.0, 5.0)
        gradient = jax.grad(lambda x: self.weighted(jax.numpy, name, x, c))(
            jax.numpy.asarray(self.X)
        )
        self.check(np.asarray(gradient), name)

    def test_logsumexp_of_nothing(self) -> None:
        """A masked-out row must not poison the others' gradient."""
        jax = pytest.importorskip("jax")
        x = jax.numpy.asarray([[-INF, -INF], [0.0, 0.0]])
        gradient = np.asarray(jax.grad(lambda x: xp_xent.logsumexp(x)[1])(x))
        assert np.array_equal(gradient, [[0, 0], [0.5, 0.5]])
