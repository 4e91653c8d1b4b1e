"""JAX outside `jit`: compiled once a signature, for any numbers and labels, on any thread."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import cross_entropy, value_and_grad

jax = pytest.importorskip("jax")
from _jax_calls import HOST, LABELS, OUTSIDE, given, operation_by_operation, same  # noqa: E402

from xp_xent.backends import _jax_plans  # noqa: E402 (it imports JAX)

jnp = jax.numpy
pytestmark = pytest.mark.usefixtures("no_jax_plans")


def compiled(caplog: pytest.LogCaptureFixture, call: Callable[[], Any]) -> int:
    """Count the programs of a loss that a call has compiled."""
    caplog.clear()
    with jax.log_compiles():
        jax.block_until_ready(call())
    return sum("Compiling jit(cross_entropy)" in one.getMessage() for one in caplog.records)


CURVED = xp_xent.value_grad_and_hessian_diagonal
ASKS: dict[str, Callable[[], Callable[..., Any]]] = {
    "loss": lambda: cross_entropy,
    "value_and_grad": lambda: value_and_grad(cross_entropy),
    "cotangent": lambda: partial(value_and_grad(cross_entropy), cotangent=jnp.ones(())),
    "hvp": lambda: lambda z, y: xp_xent.hvp(cross_entropy)(z, y, z),
    "hessian_diagonal": lambda: xp_xent.hessian_diagonal(cross_entropy),
    "curvature": lambda: CURVED(cross_entropy),
    "bound": lambda: CURVED(cross_entropy, "upper_bound"),
}


class TestCompiled:
    """How often."""

    @pytest.mark.parametrize("ask", ASKS)
    def test_once(self, ask: str, caplog: pytest.LogCaptureFixture) -> None:
        """Though each call asks by a new function."""
        arrays, make = given(), ASKS[ask]
        assert compiled(caplog, lambda: make()(*arrays)) == 1
        assert compiled(caplog, lambda: make()(*arrays)) == 0
        jax.tree.map(same, make()(*arrays), operation_by_operation(make(), *arrays))

    def test_for_each_signature(self, caplog: pytest.LogCaptureFixture) -> None:
        z, y = given()
        calls = [
            partial(cross_entropy, z, y),
            partial(cross_entropy, z[:3], y[:3]),
            partial(cross_entropy, z.astype("float16"), y),
            partial(cross_entropy, z, y, reduction="sum"),
            partial(cross_entropy, z, y, weight=jnp.ones(5)),
            partial(cross_entropy, z, y, sample_weight=jnp.ones(6)),
            partial(cross_entropy, z, y, ignore_index=1),
        ]
        assert [compiled(caplog, call) for call in calls] == [1] * len(calls)
        assert [compiled(caplog, call) for call in calls] == [0] * len(calls)

    def test_numbers_that_change_in_each_call(self, caplog: pytest.LogCaptureFixture) -> None:
        """They are what a program is called with: none is compiled for another value."""
        (z, y), host = given(dtype="float64"), (HOST, LABELS)

        def values(count: int) -> list[float]:
            return [float(cross_entropy(z, y, label_smoothing=i / 40)) for i in range(1, count)]

        assert compiled(caplog, lambda: values(2)) == 1
        assert compiled(caplog, lambda: values(7)) == 0
        same(values(7), [cross_entropy(*host, label_smoothing=i / 40) for i in range(1, 7)])

    def test_signatures_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plans = xp_xent.backends.get("jax").plans  # type: ignore[attr-defined]
        monkeypatch.setattr(_jax_plans, "MOST", 2)
        z, y = given()
        for rows in (1, 2, 3, 1):
            cross_entropy(z[:rows], y[:rows])
            assert len(plans._kept) <= 2

    def test_neither_inside_jit_nor_without_it(self) -> None:
        plans = xp_xent.backends.get("jax").plans  # type: ignore[attr-defined]
        jax.jit(cross_entropy)(*given())
        operation_by_operation(cross_entropy, *given())
        assert not plans._kept

    def test_64_bits_on_and_off(self) -> None:
        with jax.enable_x64(True):
            wide = cross_entropy(*given(dtype="float64"))
        with jax.enable_x64(False):
            z, y = given()
            assert y.dtype == jnp.int32
            assert value_and_grad(cross_entropy)(z, y)[1].dtype == jnp.float32
            narrow = cross_entropy(z, y)
        with jax.enable_x64(True):
            again = cross_entropy(*given(dtype="float64"))
        assert (wide.dtype, narrow.dtype, again.dtype) == ("float64", "float32", "float64")
        assert wide == again
        same(narrow, np.float32(wide))

    def test_types_of_equal_options(self) -> None:
        """True is refused where 1 is an axis, or a label."""
        z, y = given()
        cross_entropy(z.T, y, axis=0)
        cross_entropy(z, y, ignore_index=1)
        cross_entropy(z, y, label_smoothing=0)
        for options in ({"axis": False}, {"ignore_index": True}, {"label_smoothing": False}):
            with pytest.raises(TypeError, match=next(iter(options))):
                cross_entropy(z.T if "axis" in options else z, y, **options)

    def test_no_array_is_kept(self) -> None:
        z, y = given()
        weight = jnp.linspace(1, 2, 5)
        alive = [weakref.ref(x) for x in (z, y, weight)]
        value_and_grad(cross_entropy)(z, y, weight=weight)
        jax.grad(cross_entropy)(z, y, weight=weight)
        del z, y, weight
        gc.collect()
        assert [one() for one in alive] == [None] * 3

    def test_threads(self) -> None:
        """First calls at the same time."""
        z, y = given(dtype="float64")
        with ThreadPoolExecutor(8) as pool:
            sizes = [1 + i % 3 for i in range(24)]
            got = list(pool.map(lambda n: value_and_grad(cross_entropy)(z[:n], y[:n]), sizes))
        for n, (value, gradient) in zip(sizes, got, strict=True):
            want, its = value_and_grad(cross_entropy)(HOST[:n], LABELS[:n])
            same(value, want)
            same(gradient, its)


def test_what_is_not_looked_at_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the arrays, labels alone go to NumPy, and they share their memory."""
    z, y = given()
    seen: list[Any] = []

    class Watched:
        """NumPy, as the module of plans sees it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def asarray(self, x: Any) -> np.ndarray:
            seen.append(x)
            return np.asarray(x)

    monkeypatch.setattr(_jax_plans, "np", Watched())
    for _ in range(2):
        value_and_grad(cross_entropy)(z, y, weight=jnp.ones(5))
    assert seen
    assert all(x is y for x in seen)


def test_what_is_mapped_or_differentiated_twice_goes_round() -> None:
    plans = xp_xent.backends.get("jax").plans  # type: ignore[attr-defined]
    z, y = given(dtype="float64")
    jax.vmap(cross_entropy)(z[:, None], y[:, None])
    jax.jvp(jax.grad(cross_entropy), (z, y), (z, np.zeros(6, jax.dtypes.float0)))
    assert not plans._kept
    jax.grad(cross_entropy)(z, y)
    assert len(plans._kept) == 1


def test_an_ignored_row_may_hold_any_label() -> None:
    z, y = given(np.where(LABELS == 3, -100, LABELS), "float64")
    same(cross_entropy(z, y), cross_entropy(HOST[LABELS != 3], LABELS[LABELS != 3]))
    z, y = given(OUTSIDE, "float64")
    keep = OUTSIDE < 5
    same(cross_entropy(z, y, where=jnp.asarray(keep)), cross_entropy(HOST[keep], OUTSIDE[keep]))


def test_nan_is_looked_for() -> None:
    """`jax.debug_nans` sees a result, not what is between."""
    z, y = given()
    broken = jnp.where(y[:, None] == 4, jnp.nan, z)
    with jax.debug_nans(True):
        cross_entropy(z, y)
        cross_entropy(broken, y, ignore_index=4)
        with pytest.raises(FloatingPointError):
            cross_entropy(broken, y)


def test_a_deleted_array() -> None:
    z, y = given()
    cross_entropy(z, y)
    z.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        cross_entropy(z, y)


@pytest.mark.parametrize("scalar", [np.float64(0.25), np.float32(0.25), 0.25])
def test_numbers_of_any_type(scalar: Any) -> None:
    z, y = given(dtype="float64")
    options = {"label_smoothing": scalar, "normalizer": scalar}
    same(cross_entropy(z, y, **options), cross_entropy(HOST, LABELS, **options))
    want = value_and_grad(cross_entropy)(HOST, LABELS, cotangent=scalar)
    jax.tree.map(same, value_and_grad(cross_entropy)(z, y, cotangent=scalar), want)
