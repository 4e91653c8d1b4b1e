"""JAX's differentiation and mapping, through every loss under every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import send
from _forms import NOT_LOSSES
from _programs import in_one_program
from _registry import Entry, closed_gradients, variants
from _tools import assert_same
from _transforms import ONCE, transform

import xp_xent
from xp_xent import backends


def scalar(case: Entry) -> tuple[Any, list[Any], tuple[int, ...]]:
    """The weighed and summed call as a function of its floating arrays, they, and argnums."""
    function, values = case.weighted(backends.get("jax"), case.floats)
    return function, values, tuple(range(len(values)))


@transform("jax", "`grad`, `value_and_grad`, uneven cotangents", thin=True)
def test_gradients(case: Entry) -> None:
    """By every array; against the closed form on NumPy where there is one."""
    import jax

    function, values, places = scalar(case)
    value, slopes = jax.value_and_grad(function, places)(*values)
    assert_same([value, jax.grad(function, places)(*values)], [function(*values), slopes])
    by_key = dict(zip(case.floats, slopes, strict=True))
    if closed := closed_gradients(case, backends.get("numpy")):
        assert_same([by_key[key] for key in case.closed], closed)


@transform(
    "jax", "`numpy_rank_promotion` and `numpy_dtype_promotion` at their strictest", once=ONCE
)
def test_strict_promotion(case: Entry) -> None:
    """Nothing is broadcast to more axes or converted without being asked to."""
    import jax

    function, values, places = scalar(case)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        slopes = jax.grad(function, places)(*values)
    assert all(np.isfinite(slope).all() for slope in slopes)


def check_grads(case: Entry, *modes: str) -> None:
    """By finite differences, along random directions of all arrays."""
    import jax.test_util

    function, values, _ = scalar(case)

    def call(*values: Any) -> Any:
        return function(*[jax.numpy.asarray(value) for value in values])

    # Of probabilities third derivatives are large, which is what differences are wrong by.
    rtol = 2e-5 if case.form.function == "binary_cross_entropy" else None
    jax.test_util.check_grads(call, values, order=2, modes=modes, rtol=rtol)


@transform("jax", "`test_util.check_grads(order=2)`, reverse mode", thin=True)
def test_check_grads(case: Entry) -> None:
    """Reverse over reverse; test_products and test_hessians hold the others against it."""
    check_grads(case, "rev")


@pytest.mark.full
@transform("jax", "`test_util.check_grads(order=2)`, forward and mixed, in the second tier")
def test_check_grads_forward(case: Entry) -> None:
    """Forward over forward and reverse, reverse over forward."""
    check_grads(case, "fwd", "rev")


@transform("jax", "`vjp`, `jvp`, `linearize`", thin=True)
def test_products(case: Entry) -> None:
    """By every array at once."""
    import jax

    function, values, places = scalar(case)
    tangents = [value[::-1] if value.ndim else value for value in values]

    def every(values: list[Any], tangents: list[Any]) -> tuple[Any, ...]:
        value, pull = jax.vjp(function, *values)
        return (
            jax.grad(function, places)(*values),
            pull(2 * jax.numpy.ones_like(value)),
            jax.jvp(function, values, tangents),
            (value, jax.linearize(function, *values)[1](*tangents)),
        )

    want, pulled, pushed, linear = in_one_program(every, values, tangents)
    assert_same(pulled, [2 * w for w in want])
    slope = sum((w * t).sum() for w, t in zip(want, tangents, strict=True))
    assert_same(pushed, (linear[0], slope))
    assert_same(linear[1], slope)


@transform("jax", "`vmap` over each array alone and over all, labels and masks too", thin=True)
def test_vmap(case: Entry) -> None:
    """Against a loop; an array that is not mapped over is shared."""
    import jax

    backend, arrays = backends.get("jax"), case.everything()
    function, values = case.bind(backend, tuple(arrays))
    stacks = [send(backend, variants(array), "float64") for array in arrays.values()]
    places = range(len(values))

    def every(stacks: list[Any], values: list[Any]) -> list[tuple[Any, Any]]:
        found = []
        for mapped in [*[{i} for i in places], set(places)]:
            batch = [stacks[i] if i in mapped else values[i] for i in places]
            in_axes = tuple(0 if i in mapped else None for i in places)
            rows = [
                function(*[stacks[i][n] if i in mapped else values[i] for i in places])
                for n in range(2)
            ]
            found.append((jax.vmap(function, in_axes)(*batch), jax.numpy.stack(rows)))
        return found

    for got, want in in_one_program(every, stacks, values):
        assert_same(got, want)


@transform("jax", "`hessian`, and the four nests of `grad` and `jvp` along a vector", thin=True)
def test_hessians(case: Entry) -> None:
    """By the first array; against `hvp` on NumPy where there is one."""
    import jax

    function, values, _ = scalar(case)
    z, vector = values[0], values[0][::-1]
    first = lambda z: function(z, *values[1:])  # noqa: E731
    along = lambda z: jax.jvp(first, (z,), (vector,))[1]  # noqa: E731

    def every(z: Any) -> tuple[Any, ...]:
        return (
            jax.numpy.tensordot(jax.hessian(first)(z), vector, vector.ndim),
            jax.jvp(jax.grad(first), (z,), (vector,))[1],
            jax.grad(along)(z),
            jax.grad(lambda z: (jax.grad(first)(z) * vector).sum())(z),
            jax.jvp(along, (z,), (vector,))[1],
        )

    product, *nests, twice = in_one_program(every, z)
    for nest in nests:
        assert_same(nest, product)
    assert_same(twice, (product * vector).sum())
    if case.loss in NOT_LOSSES or case.cotangent is not None:
        return
    arrays, options = case.on(backends.get("numpy"), "float64")
    host = backends.get("jax").to_numpy(vector)
    assert_same(product, xp_xent.hvp(case.function)(*arrays, host, **options))


@pytest.mark.full
@transform("jax", "the four nests of `jacfwd` and `jacrev`, in the second tier")
def test_nests(case: Entry) -> None:
    """By the first array, all of one another."""
    import jax

    function, values, _ = scalar(case)
    fwd, rev = jax.jacfwd, jax.jacrev
    pairs = ((fwd, rev), (fwd, fwd), (rev, fwd), (rev, rev))

    def every(*values: Any) -> list[Any]:
        return [outer(inner(function))(*values) for outer, inner in pairs]

    want, *others = in_one_program(every, *values)
    for found in others:
        assert_same(found, want)


@transform("jax", "compositions: `vmap(grad)`, `vmap(hessian)`, `jacrev(vmap)`", thin=True, half=0)
def test_compositions(case: Entry) -> None:
    """By the first array, over a batch of it."""
    import jax

    function, values, _ = scalar(case)
    first = lambda z: function(z, *values[1:])  # noqa: E731
    batch = jax.numpy.stack([values[0], values[0][::-1]])

    def every(batch: Any) -> tuple[Any, ...]:
        jacobian = jax.jacrev(jax.vmap(first))(batch)
        return (
            jax.numpy.stack([jax.grad(first)(z) for z in batch]),
            jax.vmap(jax.grad(first))(batch),
            jax.numpy.stack([jacobian[n, n] for n in range(2)]),
            jax.numpy.stack([jax.hessian(first)(z) for z in batch]),
            jax.vmap(jax.hessian(first))(batch),
        )

    slopes, mapped, of_jacobian, bends, mapped_bends = in_one_program(every, batch)
    assert_same(mapped, slopes)
    assert_same(of_jacobian, slopes)
    assert_same(mapped_bends, bends)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}], ids=str)
@pytest.mark.parametrize("classes", [5, 100])
def test_a_nan_in_an_ignored_row_stays_there(classes: int, options: dict[str, float]) -> None:
    """In JAX's own derivative it is multiplied by 0, unless it is chosen against."""
    jax = pytest.importorskip("jax")
    z = np.random.default_rng(1).normal(size=(4, classes)).astype(np.float32)
    z[1], z[2, 0] = np.nan, np.inf
    y, want = jax.numpy.asarray([0, -100, -100, 3]), np.zeros((2, classes))
    slope = jax.grad(xp_xent.cross_entropy)
    for function in (slope, jax.jit(slope)):
        found = np.asarray(function(jax.numpy.asarray(z), y, **options))
        np.testing.assert_array_equal(found[1:3], want)
        assert np.isfinite(found).all()
