"""Derivatives of the maps by entries, weights and the temperature, on libraries that have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _truth import BITS, Array, ball, floats
from flint import arb, ctx

import xp_xent
from xp_xent import backends, log_softmax, logsumexp, softmax
from xp_xent.backends import Adapter

NAN, INF = np.nan, np.inf
RNG = np.random.default_rng(29)
SHAPE = (2, 3, 4)
AXES = [-1, (0, 2), None]
LIBRARIES = ["torch", "jax"]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Adapter:
    """A library that differentiates."""
    pytest.importorskip(request.param)
    return backends.get(request.param)


def slopes(library: Adapter, function: Any, *arrays: Array) -> list[Array]:
    """Differentiate a number by each of the arrays."""
    if library.name == "jax":
        import jax

        given = [jax.numpy.asarray(x) for x in arrays]
        found = jax.jit(jax.grad(function, tuple(range(len(arrays)))))(*given)
        return [np.asarray(x) for x in found]
    import torch

    given = [torch.tensor(x, requires_grad=True) for x in arrays]
    return [x.numpy() for x in torch.autograd.grad(function(*given), given)]


def mask_of(library: Adapter) -> tuple[Array, Any]:
    """A mask under which one row has nothing, and another everything."""
    where = RNG.random(SHAPE) < 0.6
    where[0, 0], where[1, 1] = False, True
    return where, library.asarray(where)


class TestMasked:
    """Entries that take no part have the derivative 0, and spoil no other's."""

    @pytest.mark.parametrize("axis", AXES, ids=str)
    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    def test_by_entries_and_temperature(self, library: Adapter, axis: Any, bad: float) -> None:
        x, c = RNG.normal(size=SHAPE) * 3, library.asarray(RNG.normal(size=SHAPE))
        (where, mask), xp = mask_of(library), library.xp

        def total(function: Any) -> Any:
            def of(x: Any, t: Any) -> Any:
                found = function(x, axis=axis, where=mask, temperature=t)
                return xp.sum(xp.where(mask, found, 0.0) * c)

            return of

        for function in (softmax, log_softmax):
            t = np.asarray(0.7)
            got, by_t = slopes(library, total(function), np.where(where, x, bad), t)
            want, same = slopes(library, total(function), np.where(where, x, 0.5), t)
            assert (got[~where] == 0).all()
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(by_t, same)
            assert np.isfinite(by_t)
            # Of degree 0 in (x, t): Euler's sum vanishes.
            assert abs((got * np.where(where, x, 0)).sum() + by_t * t) < 1e-12 * abs(got).sum()

    @pytest.mark.parametrize("axis", AXES, ids=str)
    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    def test_of_sums(self, library: Adapter, axis: Any, bad: float) -> None:
        x, b = RNG.normal(size=SHAPE) * 3, RNG.uniform(0.5, 2.0, SHAPE)
        (where, mask), xp = mask_of(library), library.xp

        def finite(found: Any) -> Any:
            return xp.sum(xp.where(xp.isinf(found), 0.0, found))

        def weighted(x: Any, b: Any) -> Any:
            return finite(logsumexp(x, axis=axis, b=b, where=mask))

        hidden = np.where(where, x, bad)
        got, by_b = slopes(library, weighted, hidden, np.where(where, b, bad))
        want = slopes(library, lambda x: finite(logsumexp(x, axis=axis, where=mask)), hidden)[0]
        assert (got[~where] == 0).all()
        assert (want[~where] == 0).all()
        assert (by_b[~where] == 0).all()
        exps = np.where(where, np.exp(x), 0)
        for weights, found in ((b, got), (1.0, want)):
            total = (weights * exps).sum(axis=axis, keepdims=True)
            share = np.divide(exps, total, out=np.zeros(SHAPE), where=total > 0)
            np.testing.assert_allclose(found, weights * share, rtol=1e-12)


class TestWeights:
    """Of log |Σ b exp(x)|, each slope against balls; a weight of 0 has one as well."""

    X = np.array([3.0, -1.0, 2.5, 0.0, -30.0])
    B = np.array([1.0, -2.0, -0.5, 0.0, 3.0])

    @pytest.mark.parametrize("sign", [1, -1])
    def test_slopes(self, library: Adapter, sign: int) -> None:
        def log(x: Any, b: Any) -> Any:
            return logsumexp(x, b=b, return_sign=True)[0]

        b = sign * self.B
        by_x, by_b = slopes(library, log, self.X, b)
        with ctx.workprec(BITS):
            exps = np.array([arb(x).exp() for x in self.X], dtype=object)
            total = (ball(b) * exps).sum()
            want_x, want_b = floats(ball(b) * exps / total), floats(exps / total)
        np.testing.assert_allclose(by_x, want_x, rtol=2e-14)
        np.testing.assert_allclose(by_b, want_b, rtol=2e-14)

    def test_second_slopes_do_not_cancel(self, library: Adapter) -> None:
        """For two terms, p (1 − p) whatever p: 1.6e-17 has to be there, and its digits."""
        xp = library.xp

        def slope(x: Any, b: Any) -> Any:
            def log(x: Any) -> Any:
                return logsumexp(x, b=b)

            if library.name == "jax":
                import jax

                return jax.grad(log)(x)[0]
            import torch

            return torch.autograd.grad(log(x), x, create_graph=True)[0][0]

        for b in ([1.0, 1.0], [2.0, -0.25]):
            for x in ([40.0, 1.0], [1.0, 40.0], [0.0, 0.3]):
                if b[1] < 0 and x[0] < x[1]:
                    continue  # a negative sum
                got = slopes(
                    library,
                    lambda x, b=b: slope(
                        x,
                        xp.asarray(b) if library.name == "jax" else library.asarray(np.asarray(b)),
                    ),
                    np.array(x),
                )[0]
                with ctx.workprec(BITS):
                    first, second = (arb(w) * arb(z).exp() for w, z in zip(b, x, strict=True))
                    want = float(first * second / (first + second) ** 2)
                np.testing.assert_allclose(got, [want, -want], rtol=1e-13)

    def test_a_negative_sum_has_no_slope(self, library: Adapter) -> None:
        got = slopes(library, lambda x: logsumexp(x, b=[1.0, -2.0]), np.zeros(2))[0]
        assert np.isnan(got).all()

    def test_void_terms(self, library: Adapter) -> None:
        """Weights of 0 beside ±∞ and NaN, and terms of −∞."""
        x, b = np.array([INF, NAN, 0.0, -INF, 1.0]), np.array([0.0, 0.0, 1.0, 2.0, -0.1])
        by_x, by_b = slopes(library, lambda x, b: logsumexp(x, b=b), x, b)
        total = 1 - 0.1 * np.e
        np.testing.assert_allclose(by_x, [0, 0, 1 / total, 0, -0.1 * np.e / total], rtol=1e-13)
        np.testing.assert_allclose(by_b, [0, 0, 1 / total, 0, np.e / total], rtol=1e-13)

    def test_of_nothing_and_of_infinities(self, library: Adapter) -> None:
        x = np.array([[0.0, 1.0], [-INF, -INF], [INF, 2.0], [3.0, 4.0]])
        b = np.array([[1.0, 1.0], [1.0, 1.0], [2.0, -1.0], [0.0, 0.0]])
        by_x, _ = slopes(library, lambda x, b: logsumexp(x, b=b)[0], x, b)
        assert np.isfinite(by_x).all()
        assert (by_x[1:] == 0).all()


class TestTracing:
    """What cannot be read is NaN where a reader would refuse it."""

    def test_jit(self) -> None:
        jax = pytest.importorskip("jax")
        x = jax.numpy.asarray([0.0, 1.0])
        call = jax.jit(lambda x, t: softmax(x, temperature=t))
        assert np.isnan(call(x, -1.0)).all()
        np.testing.assert_allclose(call(x, 2.0), softmax(x, temperature=2.0), rtol=1e-15)
        mask = jax.numpy.asarray([0, 1])
        masked = jax.jit(lambda x, w: softmax(x, where=w))
        assert masked(x, mask).tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("axis", AXES, ids=str)
    def test_vmap(self, library: Adapter, axis: Any) -> None:
        import importlib

        vmap = importlib.import_module(library.name).vmap
        x, b = RNG.normal(size=(3, *SHAPE)), RNG.normal(size=(3, *SHAPE))
        t, where = np.array([0.5, 1.0, 2.0]), RNG.random((3, *SHAPE)) < 0.7

        def call(x: Any, b: Any, t: Any, where: Any) -> Any:
            return (
                softmax(x, axis=axis, where=where, temperature=t),
                *logsumexp(x, axis=axis, where=where, b=b, return_sign=True, keepdims=True),
            )

        given = [library.asarray(part) for part in (x, b, t, where)]
        mapped = vmap(call)(*given)
        for i in range(3):
            for one, other in zip(mapped, call(*(part[i] for part in given)), strict=True):
                np.testing.assert_allclose(np.asarray(one[i]), np.asarray(other), rtol=1e-12)

    def test_compiled(self) -> None:
        """One graph, with a temperature that the compiler has not settled on."""
        torch = pytest.importorskip("torch")
        x, b = (torch.tensor(RNG.normal(size=SHAPE), requires_grad=True) for _ in range(2))
        where = torch.tensor(RNG.random(SHAPE) < 0.7)

        def call(x: Any, b: Any, where: Any, t: Any) -> Any:
            return (
                softmax(x, axis=(0, 2), where=where, temperature=t),
                *logsumexp(x, axis=None, where=where, b=b, return_sign=True),
            )

        compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
        for t in (0.5, 3.0):
            for one, other in zip(compiled(x, b, where, t), call(x, b, where, t), strict=True):
                torch.testing.assert_close(one, other)


def test_an_explicit_mesh_of_jax() -> None:
    """Split along one of the axes that are reduced together, or another."""
    jax = pytest.importorskip("jax")
    mesh = jax.make_mesh((2,), ("x",))
    x, where = RNG.normal(size=(2, 4, 6)), RNG.random((2, 4, 6)) < 0.7
    b = RNG.normal(size=(4, 1))

    def every(x: Any, where: Any, b: Any) -> Any:
        return [
            (
                softmax(x, axis=axis, where=where, temperature=0.5),
                *logsumexp(x, axis=axis, b=b, return_sign=True),
            )
            for axis in (0, (0, 1), (0, 2), (1, 2), None)
        ]

    want = jax.tree.leaves(jax.jit(every)(x, where, b))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "x", None))
    with jax.set_mesh(mesh):
        split = (jax.device_put(part, spec) for part in (x, where))
        got = jax.tree.leaves(jax.jit(every)(*split, xp_xent.backends.get("jax").xp.asarray(b)))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-12)
