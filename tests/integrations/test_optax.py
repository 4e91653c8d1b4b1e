"""optax's signatures on this library, beside optax's own losses."""

from __future__ import annotations

import doctest
import inspect
from functools import partial
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

from xp_xent.integrations import optax as drop_in  # noqa: E402
from xp_xent.integrations import optax_divergences  # noqa: E402

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(2, 3, 4))
Q = RNG.dirichlet(np.ones(4), size=(2, 3))
ENTRIES = RNG.integers(0, 2, size=Z.shape).astype(bool)
ENTRIES[0, 0] = [True, False, True, False]
later = partial(pytest.param, marks=pytest.mark.full)
of_probabilities = pytest.mark.parametrize(
    "name",
    "softmax_cross_entropy poly_loss_cross_entropy kl_divergence "
    "kl_divergence_with_log_targets".split(),
)


@pytest.mark.parametrize("name", drop_in.__all__)
def test_signatures_are_its_own(name: str) -> None:
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(drop_in, name), getattr(optax.losses, name))
    )
    assert ours == theirs


@of_probabilities
@pytest.mark.parametrize("axis", [-1, later(0), (2, 0), later(None)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_axes_and_masks(name: str, axis: Any, masked: bool) -> None:
    targets = np.log(Q) if name.endswith("log_targets") else Q
    options = {"axis": axis, "where": jnp.asarray(ENTRIES) if masked else None}

    def result(module: Any) -> Any:
        def loss(z: Any) -> Any:
            return jnp.sum(getattr(module, name)(z, jnp.asarray(targets), **options))

        rows = getattr(module, name)(jnp.asarray(Z), jnp.asarray(targets), **options)
        return rows, jax.jit(jax.grad(loss))(jnp.asarray(Z))

    for got, wanted in zip(result(drop_in), result(optax.losses), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("axis", [-1, 1, (2, 0)], ids=str)
def test_integer_labels(axis: Any) -> None:
    shape = np.moveaxis(Z, axis if isinstance(axis, tuple) else (axis,), (0, 1)[: np.size(axis)])
    labels = jnp.asarray(RNG.integers(0, 3, size=shape.shape[np.size(axis) :]))
    name = "softmax_cross_entropy_with_integer_labels"
    got, wanted = (
        getattr(module, name)(jnp.asarray(Z), labels, axis) for module in (drop_in, optax.losses)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_masks_of_rows() -> None:
    rows, labels = jnp.asarray([True, False, True]), jnp.asarray([0, 3, 1])
    for name, targets in (
        ("softmax_cross_entropy", jnp.asarray(Q[0])),
        ("softmax_cross_entropy_with_integer_labels", labels),
    ):
        got, wanted = (
            getattr(module, name)(jnp.asarray(Z[0]), targets, where=rows)
            for module in (drop_in, optax.losses)
        )
        # optax's mask leaves no class in a row for the first, and for both the result is 0.
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
        assert got[1] == 0


def test_axis_none_of_integer_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="axis: got None"):
        drop_in.softmax_cross_entropy_with_integer_labels(jnp.asarray(Z), jnp.asarray(0), None)


class TestDifferences:
    """Each row of the table on the page of optax."""

    def test_confident_rows(self) -> None:
        z, y = jnp.asarray([20.0, 0.0, 0.0], dtype=jnp.float32), jnp.asarray(0)
        name = "softmax_cross_entropy_with_integer_labels"
        assert getattr(optax.losses, name)(z, y) == 0
        np.testing.assert_allclose(getattr(drop_in, name)(z, y), 4.1223e-9, rtol=1e-4)

    def test_masked_class_without_mass(self) -> None:
        z, q = jnp.asarray([0.0, 0.0, -jnp.inf]), jnp.asarray([0.5, 0.5, 0.0])
        assert jnp.isnan(optax.softmax_cross_entropy(z, q))
        np.testing.assert_allclose(drop_in.softmax_cross_entropy(z, q), np.log(2.0))

    def test_half_precision(self) -> None:
        z, y = jnp.asarray(Z[0], dtype=jnp.bfloat16), jnp.asarray([0, 1, 2])
        name = "softmax_cross_entropy_with_integer_labels"
        assert getattr(optax.losses, name)(z, y).dtype == jnp.bfloat16
        assert getattr(drop_in, name)(z, y).dtype == jnp.float32

    def test_negative_labels(self) -> None:
        name = "softmax_cross_entropy_with_integer_labels"
        z, y = jnp.asarray(Z[0]), jnp.asarray([0, -1, 1])
        assert jnp.isfinite(getattr(optax.losses, name)(z, y)).all()  # the last class's
        with pytest.raises(ValueError, match="-1"):
            getattr(drop_in, name)(z, y)

    def test_masked_label(self) -> None:
        name = "softmax_cross_entropy_with_integer_labels"
        z, y, where = jnp.asarray([0.0, 1.0]), jnp.asarray(1), jnp.asarray([True, False])
        assert getattr(optax.losses, name)(z, y, where=where) == -1
        assert getattr(drop_in, name)(z, y, where=where) == jnp.inf

    def test_targets_outside_the_unit_interval(self) -> None:
        mask = jnp.asarray([0.0, 255.0])
        assert jnp.isfinite(optax.losses.sigmoid_binary_cross_entropy(jnp.zeros(2), mask)).all()
        with pytest.raises(ValueError, match="255"):
            drop_in.sigmoid_binary_cross_entropy(jnp.zeros(2), mask)

    def test_nothing_is_broadcast(self) -> None:
        z, q = jnp.zeros((2, 3)), jnp.eye(3)[0]
        assert optax.softmax_cross_entropy(z, q).shape == (2,)
        with pytest.raises((TypeError, ValueError)):
            drop_in.softmax_cross_entropy(z, q)


def test_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with jax.enable_x64(False):
        for module in (drop_in, optax_divergences):
            found = doctest.testmod(module)
            assert found.attempted > 4
            assert not found.failed
