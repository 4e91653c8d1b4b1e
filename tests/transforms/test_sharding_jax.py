"""Programs that split a loss over devices with JAX, as they are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import assert_same

import xp_xent
from xp_xent import cross_entropy, linear_cross_entropy
from xp_xent.flow import linear_steps as steps

jax = pytest.importorskip("jax")
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

jnp, lax = jax.numpy, jax.lax
P, ALL = PartitionSpec, PartitionSpec()
ROWS, CLASSES = 8, 64  # where an entry is written alone, not chosen among all
RNG = np.random.default_rng(3)
LOGITS, FEATURES = RNG.normal(size=(ROWS, CLASSES)), RNG.normal(size=(ROWS, 4))
CLASSIFIER, BIAS = RNG.normal(size=(CLASSES, 4)), RNG.normal(size=CLASSES)
LABELS = RNG.permutation(CLASSES)[:ROWS]


@pytest.fixture(autouse=True)
def two_devices() -> None:
    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")


def compiled(function: Any) -> Any:
    # Quickly: how arrays are split is tested here, not how fast it is.
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def leaves(tree: Any) -> list[Any]:
    return list(jax.tree.leaves(tree))


def auto() -> Any:
    return jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))


def put(mesh: Any, array: Any, *axes: str | None) -> Any:
    return jax.device_put(array, NamedSharding(mesh, P(*axes)))


def spec_of(array: Any) -> Any:
    return jax.typeof(array).sharding.spec


def whole(features: Any, classifier: Any, bias: Any, labels: Any) -> Any:
    return cross_entropy(features @ classifier.T + bias, labels, reduction="sum")


def linear(features: Any, classifier: Any, bias: Any, labels: Any) -> Any:
    return linear_cross_entropy(features, classifier, labels, bias=bias, reduction="sum")


LAYER = (FEATURES, CLASSIFIER, BIAS, LABELS)
OVER_ROWS = (P("x"), ALL, ALL, P("x"))


@pytest.mark.parametrize("rows", [ROWS, 3], ids=["one step", "two steps and one left over"])
def test_data_parallel_linear(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows over devices, classifier and bias on each: gradients in and around shard_map, closed."""
    monkeypatch.setattr(steps, "STEP", rows * CLASSES)

    def local(*layer: Any) -> Any:
        value, slopes = jax.value_and_grad(linear, (0, 1, 2))(*layer)
        features, classifier, bias, labels = layer
        closed = xp_xent.value_and_grad(linear_cross_entropy, (0, 1, "bias"))
        _, (own, *shared) = closed(features, classifier, labels, bias=bias, reduction="sum")
        # The closed form is that of the device's own rows.
        return lax.psum(value, "x"), slopes, (own, *lax.psum(shared, "x"))

    def total(*layer: Any) -> Any:
        return lax.psum(linear(*layer), "x")

    slopes = (P("x"), ALL, ALL)
    over = {"mesh": auto(), "in_specs": OVER_ROWS}
    inside = jax.shard_map(local, **over, out_specs=(ALL, slopes, slopes))
    around = jax.value_and_grad(jax.shard_map(total, **over, out_specs=ALL), (0, 1, 2))
    got = compiled(lambda *layer: (*inside(*layer), around(*layer)))(*LAYER)
    value, want = compiled(jax.value_and_grad(whole, (0, 1, 2)))(*map(jnp.asarray, LAYER))
    assert_same(leaves(got), leaves((value, want, want, (value, want))))


def test_contrastive_losses() -> None:
    """Labels 0 … n − 1: on each device among its own pairs, or further on among all of them."""
    images, texts = RNG.normal(size=(2, ROWS, 3))

    def own(images: Any, texts: Any) -> Any:
        loss = cross_entropy(images @ texts.T, jnp.arange(images.shape[0]))
        return lax.pmean(loss, "x")

    def gathered(images: Any, texts: Any) -> Any:
        logits = images @ lax.all_gather(texts, "x", tiled=True).T
        count = images.shape[0]
        labels = jnp.arange(count) + lax.axis_index("x") * count
        return lax.pmean(cross_entropy(logits, labels), "x")

    def split(loss: Any) -> Any:
        program = jax.shard_map(loss, mesh=auto(), in_specs=(P("x"), P("x")), out_specs=ALL)
        return jax.value_and_grad(program, (0, 1))

    def own_whole(images: Any, texts: Any) -> Any:
        halves = zip(jnp.split(images, 2), jnp.split(texts, 2), strict=True)
        return sum(cross_entropy(i @ t.T, jnp.arange(ROWS // 2)) for i, t in halves) / 2

    def all_whole(images: Any, texts: Any) -> Any:
        return cross_entropy(images @ texts.T, jnp.arange(ROWS))

    got = compiled(lambda *pairs: [split(loss)(*pairs) for loss in (own, gathered)])(images, texts)
    wanted = [jax.value_and_grad(loss, (0, 1)) for loss in (own_whole, all_whole)]
    assert_same(
        leaves(got), leaves(compiled(lambda *pairs: [w(*pairs) for w in wanted])(images, texts))
    )


def test_pmap() -> None:
    """Data parallel, the classifier mapped over nothing."""
    both = jax.value_and_grad(linear, (0, 1, 2))
    halves = FEATURES.reshape(2, -1, 4), LABELS.reshape(2, -1)
    got = jax.pmap(both, in_axes=(0, None, None, 0))(halves[0], CLASSIFIER, BIAS, halves[1])
    wanted = compiled(both)
    for n in range(2):
        want = wanted(halves[0][n], CLASSIFIER, BIAS, halves[1][n])
        assert_same([x[n] for x in leaves(got)], leaves(want))


def test_rows_on_an_explicit_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jax.make_mesh` gives: losses of rows and gradients stay where their rows are."""
    monkeypatch.setattr(steps, "STEP", 3 * CLASSES)
    mesh = jax.make_mesh((2,), ("x",))
    options = {"reduction": "none", "label_smoothing": 0.1}

    def every(logits: Any, features: Any, classifier: Any, bias: Any, labels: Any) -> Any:
        slopes = jax.grad(linear, (0, 1, 2))(features, classifier, bias, labels)
        rows = cross_entropy(logits, labels, **options)
        slope = jax.grad(lambda logits: cross_entropy(logits, labels))(logits)
        return rows, slope, slopes

    arrays = LOGITS, *LAYER
    specs = (P("x", None), P("x", None), ALL, ALL, P("x"))
    with jax.set_mesh(mesh):
        got = compiled(every)(*[put(mesh, a, *how) for a, how in zip(arrays, specs, strict=True)])
    assert_same(leaves(got), leaves(compiled(every)(*map(jnp.asarray, arrays))))
    assert [spec_of(x) for x in leaves(got)] == [
        P("x"), P("x", None), P("x", None), P(None, None), P(None)
    ]  # fmt: skip


def test_maps_and_derivatives_on_an_explicit_mesh() -> None:
    """Split along the classes, wherever their axis is; forward and reverse, mapped over rows."""
    mesh = jax.make_mesh((2,), ("x",))

    def every(logits: Any, labels: Any) -> Any:
        def loss(row: Any, label: Any) -> Any:
            return cross_entropy(row, label, z_loss=0.1)

        maps = [
            xp_xent.softmax(logits, axis=0),
            xp_xent.log_softmax(logits.T),
            xp_xent.logsumexp(logits, axis=0),
            xp_xent.logsumexp(logits.T, keepdims=True),
        ]
        return (
            maps,
            jax.vmap(jax.grad(loss), (1, 0))(logits, labels),
            jax.hessian(loss)(logits[:, 0], labels[0]),
            jax.jvp(lambda z: cross_entropy(z, labels, axis=0), (logits,), (logits**2,)),
        )

    with jax.set_mesh(mesh):
        got = compiled(every)(put(mesh, LOGITS.T, "x", None), put(mesh, LABELS))
    assert_same(leaves(got), leaves(compiled(every)(LOGITS.T, LABELS)))
    specs = [P("x", None), P(None, "x"), P(None), P(None, None)]
    assert [spec_of(x) for x in got[0]] == specs


@pytest.mark.parametrize("axis", [-1, 0])
def test_matrices_on_an_explicit_mesh(axis: int) -> None:
    """A Hessian is split along the rows as the logits are, its two axes of classes whole."""
    mesh = jax.make_mesh((2,), ("x",))
    few = LOGITS[:, :4].T if axis == 0 else LOGITS[:, :4]
    labels = LABELS % 4
    with jax.set_mesh(mesh):
        spread = put(mesh, few, *((None, "x") if axis == 0 else ("x", None)))
        got = xp_xent.hessian(cross_entropy)(spread, put(mesh, labels, "x"), axis=axis)
    assert spec_of(got) == P("x", None, None)
    want = xp_xent.hessian(cross_entropy)(few, labels, axis=axis)
    assert_same(got, jnp.asarray(want))


def test_eager_on_an_explicit_mesh() -> None:
    """A label out of range is refused as ever; labels that nobody placed go where logits are."""
    mesh = jax.make_mesh((2,), ("x",))
    logits, bad = put(mesh, LOGITS, None, "x"), np.where(np.arange(ROWS) == 3, CLASSES, LABELS)
    want = cross_entropy(LOGITS, LABELS)
    assert_same(cross_entropy(logits, put(mesh, LABELS)), jnp.asarray(want))
    assert_same(cross_entropy(logits, jnp.asarray(LABELS)), jnp.asarray(want))
    weights = xp_xent.balanced_class_weights(put(mesh, LABELS, "x"), CLASSES)
    assert_same(weights, jnp.asarray(xp_xent.balanced_class_weights(LABELS, CLASSES)))
    for loss in (cross_entropy, xp_xent.value_and_grad(cross_entropy)):
        with pytest.raises(ValueError, match=r"got label 64 at position \(3,\)"):
            loss(logits, put(mesh, bad))


def test_explicit_axis_inside_shard_map() -> None:
    """Rows by hand, classes by the compiler: one axis of the mesh each."""
    mesh = jax.make_mesh((1, 2), ("rows", "classes"))

    def local(logits: Any, labels: Any) -> Any:
        value, slope = jax.value_and_grad(cross_entropy)(logits, labels)
        return lax.pmean(value, "rows"), slope

    program = jax.shard_map(
        local, in_specs=(P("rows"), P("rows")), out_specs=(ALL, P("rows")), axis_names={"rows"}
    )
    with jax.set_mesh(mesh):
        logits, labels = put(mesh, LOGITS, "rows", "classes"), put(mesh, LABELS, "rows")
        got = compiled(program)(logits, labels)
    assert_same(leaves(got), leaves(compiled(jax.value_and_grad(cross_entropy))(LOGITS, LABELS)))
