"""Parts of rows and classes inside `jax.shard_map`: digits, limits, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _programs import compiled
from _tools import assert_near, assert_same

import xp_xent
from xp_xent import cross_entropy, split, value_and_grad

jax = pytest.importorskip("jax")
from _split_jax import (  # noqa: E402
    ALL,
    BOTH,
    FEATURES,
    FILLED,
    FILLED_CLASSIFIER,
    LABELS,
    OF_LOGITS,
    ONE_DEVICE,
    mesh_of,
    over_classes,
)
from jax.sharding import PartitionSpec  # noqa: E402

jnp, lax, P = jax.numpy, jax.lax, PartitionSpec
RNG = np.random.default_rng(8)
ROWS = {"reduction": "none"}


pytestmark = ONE_DEVICE


def of_rows(logits: Any, labels: Any) -> Any:
    loss, gradient = value_and_grad(cross_entropy)(logits, labels, **ROWS)
    return loss, gradient


# Digits


def test_leads_of_any_size_wherever_the_label_is() -> None:
    """Float32 within the bound of whole rows, whose every exponential may lie elsewhere."""
    leads = np.linspace(-60, 60, 49)
    classes, labels = 70, np.arange(49) * 19 % 70
    logits = RNG.normal(size=(49, classes))
    logits[np.arange(49), labels] = logits.max(axis=1) + leads
    logits = logits.astype(np.float32)
    got = over_classes(of_rows, *BOTH)(logits, labels)
    want = of_rows(logits.astype(np.float64), labels)
    scale = np.abs(want[1])
    how = {"dtype": "float32", "classes": classes, "spread": 70.0}
    assert_near(got[0], want[0], want[0], **how)
    assert_near(got[1], want[1], scale, **how)
    assert (np.asarray(got[0]) > 0).all()


def test_derivatives_of_derivatives() -> None:
    """By JAX, of what is stated: forward over reverse, of a row that is nearly certain, too."""
    logits, labels = RNG.normal(size=(3, 70)) * 4, np.asarray([1, 40, 69])
    logits[0, 1] += 30

    def second(logits: Any, labels: Any) -> Any:
        slope = jax.grad(lambda z: cross_entropy(z, labels, reduction="sum"))
        return jax.jvp(slope, (logits,), (jnp.ones_like(logits) * logits**2,))

    got = over_classes(second, BOTH[0], (OF_LOGITS, OF_LOGITS))(logits, labels)
    assert_same(list(got), list(compiled(second)(logits, labels)))


def test_no_exponentials_are_kept() -> None:
    """Beside logits and gradient, a step needs no array of their size: no temporary."""
    logits, labels = np.zeros((64, 4096), dtype=np.float32), np.arange(64)

    def local(logits: Any, labels: Any) -> Any:
        with split(classes="model"):
            return cross_entropy(logits, labels)

    loss = jax.shard_map(local, mesh=mesh_of(), in_specs=BOTH[0], out_specs=ALL)
    for function in (loss, jax.grad(loss)):
        program = jax.jit(function).lower(logits, labels).compile()
        assert program.memory_analysis().temp_size_in_bytes < logits.nbytes / 2 / 4


def test_forward_mode_of_a_layer() -> None:
    """Each device states what its classes add to the derivative, a number of all of them."""
    classifier, labels = jnp.asarray(FILLED_CLASSIFIER), jnp.asarray(LABELS)

    def change(features: Any, classifier: Any, labels: Any) -> Any:
        def loss(features: Any, classifier: Any) -> Any:
            return xp_xent.linear_cross_entropy(features, classifier, labels)

        return jax.jvp(loss, (features, classifier), (features**2, classifier**2))

    got = over_classes(change, (ALL, P("model"), ALL), ALL)(FEATURES, classifier, labels)
    want = compiled(change)(jnp.asarray(FEATURES), classifier, labels)
    assert_same(list(got), list(want))


# Limits


def test_infinities_and_nan_reach_every_device() -> None:
    inf, nan = np.inf, np.nan
    logits = RNG.normal(size=(9, 6))
    logits[0, 4] = inf
    logits[1, 0] = -inf
    logits[2] = -inf
    logits[3, 5] = nan  # in the second half; its label in the first
    logits[4, :3] = -inf  # a half masked whole, without the label
    logits[5, 3:] = -inf  # with it
    logits[6] = [inf, 0, 0, 0, 0, inf]
    labels = np.asarray([0, 0, 1, 1, 5, 5, 5, 6, -2])  # two out of range
    got = over_classes(of_rows, *BOTH)(logits, labels)
    want = compiled(of_rows)(logits, labels)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert np.isnan(np.asarray(got[0])[[3, 7, 8]]).all()
    assert np.isnan(got[1][3]).all()


def test_maps_of_infinities() -> None:
    logits = np.asarray([[0.0, 1, -np.inf, -np.inf], [np.nan, 1, 2, 3], [-np.inf] * 4])

    def maps(x: Any) -> Any:
        return xp_xent.softmax(x), xp_xent.log_softmax(x), xp_xent.logsumexp(x)

    got = over_classes(maps, (OF_LOGITS,), (OF_LOGITS, OF_LOGITS, ALL))(logits)
    for one, other in zip(got, maps(jnp.asarray(logits)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_no_rows_at_all() -> None:
    got = over_classes(of_rows, *BOTH)(np.zeros((0, 6)), np.zeros(0, dtype=np.int64))
    assert [x.shape for x in got] == [(0,), (0, 6)]


def test_several_axes_and_ties() -> None:
    """A sum over rows and classes; the largest logit twice, on each device once."""
    x = RNG.normal(size=(3, 4))
    x[1] = [7.0, 0, 7, 0]

    def sums(x: Any) -> Any:
        correct = cross_entropy(x, jnp.asarray([0, 0, 3]), return_stats=True)[1].correct
        together = xp_xent.logsumexp(x, axis=(0, 1)), jax.grad(xp_xent.entropy)(x)
        return *together, jax.grad(lambda x: xp_xent.logsumexp(x, axis=None))(x), correct

    got = over_classes(sums, (OF_LOGITS,), (ALL, OF_LOGITS, OF_LOGITS, ALL))(x)
    *want, correct = compiled(sums)(x)
    assert_same(list(got[:-1]), want)
    assert list(got[-1]) == list(correct)


# Refusals


def test_labels_that_do_not_vary_where_logits_do() -> None:
    """Split classes without a name would give a finite, wrong loss."""

    def loss(logits: Any, labels: Any) -> Any:
        return cross_entropy(logits, labels, **ROWS)

    def mapped(function: Any) -> Any:
        return jax.shard_map(function, mesh=mesh_of(), in_specs=BOTH[0], out_specs=P("model"))

    logits, labels = jnp.asarray(FILLED), jnp.asarray(LABELS)
    with pytest.raises(ValueError, match="targets: got labels that are the same") as refused:
        mapped(loss)(logits, labels)
    assert "xp_xent.split(classes='model')" in str(refused.value)
    assert "jax.lax.pcast(targets, 'model', to='varying')" in str(refused.value)

    def own(logits: Any, labels: Any) -> Any:
        return loss(logits, lax.pcast(labels % 4, "model", to="varying"))

    def named(logits: Any, labels: Any) -> Any:
        with split(rows="model"):
            return loss(logits, labels % 4)

    for function in (own, named):
        got = compiled(mapped(function))(logits, labels)
        halves = [cross_entropy(half, LABELS % 4, **ROWS) for half in np.split(FILLED, 2, axis=1)]
        assert_same(got, jnp.asarray(np.concatenate(halves)))

    def linear(classifier: Any, labels: Any) -> Any:
        return xp_xent.linear_cross_entropy(jnp.asarray(FEATURES), classifier, labels, **ROWS)

    over = {"mesh": mesh_of(), "in_specs": (P("model"), ALL), "out_specs": P("model")}
    with pytest.raises(ValueError, match="along which the classifier vary"):
        jax.shard_map(linear, **over)(FILLED_CLASSIFIER, LABELS)


def test_what_parts_cannot_have() -> None:
    logits, labels = jnp.asarray(FILLED), jnp.asarray(LABELS)

    def within(function: Any, *arrays: Any, **how: Any) -> Any:
        def local(*arrays: Any) -> Any:
            with split(**how):
                return function(*arrays)

        specs = tuple(OF_LOGITS if x.ndim == 2 else ALL for x in arrays)
        over = {"mesh": mesh_of(), "in_specs": specs, "out_specs": ALL}
        return jax.shard_map(local, **over)(*arrays)

    for how in ({}, {"num_classes": 7}, {"num_classes": 4}):  # 4: the columns of one device
        with pytest.raises(ValueError, match="hessian: got rows whose classes are split"):
            within(xp_xent.hessian(cross_entropy), logits, labels % 4, classes="model", **how)
    with pytest.raises(ValueError, match="for a loss whose elements stand alone"):
        within(xp_xent.sigmoid_focal_loss, logits, logits, classes="model")
    with pytest.raises(ValueError, match="split: got rows='data', wanted axes of a mesh"):
        within(cross_entropy, logits, labels, classes="model", rows="data")
    with split(classes=7), pytest.raises(TypeError, match="classes=7, wanted the name of an axis"):
        cross_entropy(logits, labels)
    with pytest.raises(TypeError, match="rows=3, wanted the name of an axis"):
        within(cross_entropy, logits, labels, classes="model", rows=3)
    with pytest.raises(TypeError, match="wanted the name of an axis of a mesh, or a tuple"):
        within(xp_xent.softmax, logits, classes=("model", 1))
    wanted = "split: got classes='model', wanted axes of a mesh"
    with split(classes="model"), pytest.raises(ValueError, match=wanted):
        cross_entropy(logits, labels)


def test_arguments_of_split() -> None:
    for wrong in (7.0, True):
        with pytest.raises(TypeError, match=f"num_classes: got {wrong}, wanted an integer"):
            split(num_classes=wrong)
    for name in ("classes", "rows"):
        for wrong in (["m"], (["m"],)):
            with pytest.raises(TypeError, match=rf"{name}: got .*m.*, wanted names of mesh axes"):
                split(**{name: wrong})
    with pytest.raises(ValueError, match="num_classes: got 0, wanted a positive integer"):
        split(num_classes=0)
    cross_entropy(FILLED, LABELS)  # a call that is known
    with split(num_classes=7), pytest.raises(TypeError, match="split: got arrays of numpy"):
        cross_entropy(FILLED, LABELS)
