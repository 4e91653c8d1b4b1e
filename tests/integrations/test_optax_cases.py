"""The cases that optax tests its losses on: by its signatures, and by this library's.

Left out: complex, integer and array-like logits, losses that are not here, several class axes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import xp_xent  # noqa: E402
from xp_xent.integrations import optax as drop_in  # noqa: E402

Loss = Callable[..., Any]


def direct(function: Loss, **options: Any) -> Loss:
    """Call this library itself: other names of arguments, nothing else."""

    def call(logits: Any, targets: Any, *, where: Any = None, **given: Any) -> Any:
        entries = where is not None and where.shape == logits.shape
        given |= {"class_where" if entries else "where": where} if where is not None else {}
        return function(logits, targets, reduction="none", **options, **given)

    return call


SOFT, LABELS, BINARY, FOCAL, POLY, KL, LOG_KL = (
    [
        pytest.param(ours, id="xp_xent"),
        pytest.param(getattr(drop_in, name), id="drop-in"),
    ]
    for name, ours in {
        "softmax_cross_entropy": direct(xp_xent.cross_entropy),
        "softmax_cross_entropy_with_integer_labels": direct(xp_xent.cross_entropy),
        "sigmoid_binary_cross_entropy": direct(xp_xent.binary_cross_entropy_with_logits),
        "sigmoid_focal_loss": direct(xp_xent.sigmoid_focal_loss),
        "poly_loss_cross_entropy": direct(xp_xent.poly_cross_entropy),
        "kl_divergence": direct(xp_xent.kl_divergence, normalized=True),
        "kl_divergence_with_log_targets": direct(
            xp_xent.kl_divergence, normalized=True, log_targets=True
        ),
    }.items()
)
OF_PROBABILITIES = [*SOFT, *POLY, *KL]
later = partial(pytest.param, marks=pytest.mark.full)
of = partial(pytest.mark.parametrize, "loss")
jitted = pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])

Z = jnp.asarray([[10.0, 1.0, -2.0], [1.0, 4.0, 0.2]])
ONE_HOT, Y = jnp.asarray([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), jnp.asarray([1, 0])
# log(1 + exp(9) + exp(−3)), and log(1 + exp(3) + exp(−0.8))
NLL = np.log([1 + np.exp(9) + np.exp(-3), 1 + np.exp(3) + np.exp(-0.8)])


@of(SOFT)
@jitted
def test_one_hot(loss: Loss, way: Any) -> None:
    np.testing.assert_allclose(way(loss)(Z, ONE_HOT), NLL, rtol=1e-12)
    np.testing.assert_allclose(way(loss)(Z[0], ONE_HOT[0]), NLL[0], rtol=1e-12)


@of(LABELS)
@jitted
def test_labels(loss: Loss, way: Any) -> None:
    np.testing.assert_allclose(way(loss)(Z, Y), NLL, rtol=1e-12)
    np.testing.assert_allclose(way(loss)(Z[0], Y[0]), NLL[0], rtol=1e-12)


@of(SOFT)
@jitted
def test_logits_of_minus_infinity(loss: Loss, way: Any) -> None:
    z = jnp.asarray([[-jnp.inf, 0.0, 0.0], [-jnp.inf, 0.0, 0.0], [-jnp.inf, 0.0, -jnp.inf]])
    q = jnp.asarray([[0.0, 0.5, 0.5], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(way(loss)(z, q), [np.log(2), np.inf, 0.0], rtol=1e-12)


@of(SOFT)
def test_gradient_by_both(loss: Loss) -> None:
    check_grads(loss, (Z, ONE_HOT), order=1)


@of(LABELS)
def test_gradient(loss: Loss) -> None:
    check_grads(lambda z: loss(jnp.asarray(z), Y), (Z,), order=1)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [pytest.param(*p.values, ONE_HOT, id=f"one-hot {p.id}") for p in SOFT]
    + [pytest.param(*p.values, Y, id=f"labels {p.id}") for p in LABELS],
)
def test_masked_rows(loss: Loss, targets: Any) -> None:
    where = jnp.asarray([True, False])
    value, gradient = jax.value_and_grad(lambda z: loss(z, targets, where=where).sum())(Z)
    np.testing.assert_allclose(value, NLL[0], rtol=1e-12)
    assert jnp.isfinite(gradient).all()
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("loss", "targets"),
    [pytest.param(*p.values, ONE_HOT, id=f"one-hot {p.id}") for p in SOFT[1:]]
    + [pytest.param(*p.values, Y, id=f"labels {p.id}") for p in LABELS[1:]],
)
def test_a_row_of_masked_entries_is_0(loss: Loss, targets: Any) -> None:
    """By this library's own signature it is NaN, as of a row of −inf; 0 if it does not count."""
    where = jnp.asarray([[True, True, False], [False, False, False]])
    assert loss(Z, targets, where=where)[1] == 0
    rows = partial(xp_xent.cross_entropy, Z, targets, class_where=where, reduction="none")
    assert jnp.isnan(rows()[1])
    assert rows(where=where.any(axis=1))[1] == 0


@of([*OF_PROBABILITIES, *LOG_KL])
@pytest.mark.parametrize("size", [5, 10])
def test_masked_classes(loss: Loss, size: int, request: pytest.FixtureRequest) -> None:
    """Masked entries are as if they were not there.

    This library's own signature takes mass on a masked class at its word, an infinite loss: there
    the masked classes have none.
    """
    rng = np.random.default_rng(size)
    z, q = jnp.asarray(rng.normal(size=size)), jnp.asarray(rng.dirichlet(np.ones(size)))
    where = jnp.asarray(rng.integers(0, 2, size=size).astype(bool)).at[:2].set([True, False])
    in_logs = any(loss is p.values[0] for p in LOG_KL)
    whole = q if "drop-in" in request.node.callspec.id else jnp.where(where, q, 0.0)
    whole, part = (jnp.log(x) if in_logs else x for x in (whole, q[where]))
    np.testing.assert_allclose(loss(z, whole, where=where), loss(z[where], part), rtol=1e-12)


def test_mass_on_a_masked_class() -> None:
    """By this library's own signature its loss is infinite; by optax's it does not count."""
    where, q = jnp.asarray([True, True, False]), jnp.asarray([[0.2, 0.3, 0.5]] * 2)
    want = -(q * jax.nn.log_softmax(Z, where=where)).sum(axis=-1, where=where)
    np.testing.assert_allclose(drop_in.softmax_cross_entropy(Z, q, where=where[None]), want)
    assert jnp.isinf(xp_xent.cross_entropy(Z, q, class_where=where, reduction="none")).all()


@of([*OF_PROBABILITIES, *LOG_KL])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axis(loss: Loss, axis: int) -> None:
    rng = np.random.default_rng(axis)
    z, q = jnp.asarray(rng.normal(size=(4, 5, 6))), rng.dirichlet(np.ones(6), size=(4, 5))
    q = jnp.asarray(np.log(q) if any(loss is p.values[0] for p in LOG_KL) else q)
    moved = loss(jnp.moveaxis(z, axis, -1), jnp.moveaxis(q, axis, -1))
    np.testing.assert_allclose(loss(z, q, axis=axis), moved, rtol=1e-12)


@of(LABELS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axis_of_labels(loss: Loss, axis: int) -> None:
    rng = np.random.default_rng(axis)
    z, y = jnp.asarray(rng.normal(size=(4, 5, 6))), rng.integers(4, size=np.delete([4, 5, 6], axis))
    moved = loss(jnp.moveaxis(z, axis, -1), jnp.asarray(y))
    np.testing.assert_allclose(loss(z, jnp.asarray(y), axis=axis), moved, rtol=1e-12)


@of(BINARY)
@pytest.mark.parametrize("signs", [(-1, -1), (1, 1), (-1, 1), (1, -1), (0, 0)], ids=str)
@pytest.mark.parametrize("labels", [(1.0, 0.0), (0.0, 1.0)], ids=str)
def test_binary_extremes(loss: Loss, signs: Any, labels: Any) -> None:
    z, y = np.asarray(signs) * np.asarray([1e9, 1e-9]), np.asarray(labels)
    expected = np.logaddexp(0, np.where(y == 1, -z, z)).mean()
    got = jnp.mean(loss(jnp.asarray(z), jnp.asarray(y)))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@of(POLY)
@jitted
@pytest.mark.parametrize(
    "epsilon", [2, -1, later(1), later(0), later(-0.5), later(1.214), later(5.45)]
)
def test_poly(loss: Loss, way: Any, epsilon: float) -> None:
    z = np.asarray([[0.14, 1.456, 2.356, -0.124, -2.47], [4.0, 2.0, 1.0, 0.0, 5.0]])
    q = np.asarray([[0.1, 0.15, 0.2, 0.25, 0.3], [0.0, 0.8, 0.2, 0.0, 0.0]])
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    expected = (q * (epsilon * (1 - p) - np.log(p))).sum(-1)
    of_epsilon = way(partial(loss, epsilon=epsilon))
    np.testing.assert_allclose(of_epsilon(jnp.asarray(z), jnp.asarray(q)), expected, rtol=1e-12)
    np.testing.assert_allclose(of_epsilon(jnp.asarray(z[0]), jnp.asarray(q[0])), expected[0])


LOG_P = np.asarray(
    [
        [-2.9957, -3.5066, -3.9120, -1.2040, -0.6931, -2.3026],
        [-1.6094, -1.6094, -1.6094, -2.3026, -1.8971, -1.8971],
    ]
)
TARGETS = np.asarray([[0.2, 0.2, 0.2, 0.1, 0.15, 0.15], [0.05, 0.03, 0.02, 0.3, 0.5, 0.0]])


@of(KL)
@jitted
def test_divergence(loss: Loss, way: Any) -> None:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(TARGETS > 0, TARGETS * (np.log(TARGETS) - LOG_P), 0.0)
    got = way(loss)(jnp.asarray(LOG_P), jnp.asarray(TARGETS))
    np.testing.assert_allclose(got, terms.sum(-1), rtol=1e-12)


@of(LOG_KL)
@jitted
def test_divergence_of_logarithms(loss: Loss, way: Any) -> None:
    log_q = LOG_P[::-1]
    got = way(loss)(jnp.asarray(LOG_P), jnp.asarray(log_q))
    np.testing.assert_allclose(got, (np.exp(log_q) * (log_q - LOG_P)).sum(-1), rtol=1e-12)


class TestFocal:
    """Focal loss beside binary cross-entropy."""

    z = jnp.asarray([[2.0, 0.1, -2.0], [0.3, -0.1, 1.2]])
    y = jnp.asarray([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    bce = xp_xent.binary_cross_entropy_with_logits(z, y, reduction="none")
    miss = jnp.where(y == 1, jax.nn.sigmoid(-z), jax.nn.sigmoid(z))

    @of(FOCAL)
    @jitted
    def test_no_focus(self, loss: Loss, way: Any) -> None:
        got = way(partial(loss, gamma=0.0))(self.z, self.y)
        np.testing.assert_allclose(got, self.bce, rtol=1e-12)

    @of(FOCAL)
    @jitted
    def test_focus(self, loss: Loss, way: Any) -> None:
        got = way(partial(loss, gamma=2))(self.z, self.y)
        np.testing.assert_allclose(got, self.bce * self.miss**2, rtol=1e-12)

    @of(FOCAL)
    @pytest.mark.parametrize("p", [0.98, 0.3, 0.02])
    def test_half_of_positives(self, loss: Loss, p: float) -> None:
        got = loss(jnp.log(jnp.asarray(p / (1 - p))), jnp.asarray(1.0), gamma=2, alpha=0.5)
        np.testing.assert_allclose(got, -0.5 * (1 - p) ** 2 * np.log(p), rtol=1e-12)

    @of(FOCAL)
    @pytest.mark.parametrize("alpha", [0, 1])
    def test_one_side_alone(self, loss: Loss, alpha: int) -> None:
        got = loss(self.z, self.y, gamma=0.0, alpha=alpha)
        np.testing.assert_allclose(got, jnp.where(self.y == alpha, self.bce, 0), rtol=1e-12)

    @of(FOCAL)
    def test_extreme_logits(self, loss: Loss) -> None:
        z, y = jnp.asarray([100.0, -100, 75, -75, 50, -50]), jnp.asarray([0.9, 0.1, 0.8, 0.2, 1, 0])

        def total(z: Any) -> Any:
            return loss(z, y, gamma=0.5).sum()

        for order in (total, jax.grad(total), jax.hessian(total)):
            assert jnp.isfinite(jax.jit(order)(z)).all()
