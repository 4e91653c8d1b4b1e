"""linear_cross_entropy on JAX, whose derivative is stated as the closed form, in several steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _programs import compiled, in_one_program
from _tools import assert_same

from xp_xent import cross_entropy, linear_cross_entropy
from xp_xent.flow import linear_steps as linear

jax = pytest.importorskip("jax")
jnp = jax.numpy

ROWS, CLASSES = 7, 5
RNG = np.random.default_rng(11)
PARTS = {"features": (ROWS, 3), "classifier": (CLASSES, 3), "bias": (CLASSES,)}
LAYER = {name: RNG.normal(size=shape) for name, shape in PARTS.items()}
LABELS = np.asarray([0, 3, -100, 4, 1, 1, 2])
SHARES = RNG.uniform(size=(ROWS, CLASSES))
SHARES[1, 2] = 0
SHARES /= SHARES.sum(-1, keepdims=True)
MASK = np.arange(ROWS) != 4
TERMS = {"label_smoothing": 0.1, "z_loss": 0.05, "softcap": 3.0}
GIVEN = {
    "sample_weight": RNG.uniform(0.5, 2, ROWS),
    "weight": RNG.uniform(0.5, 2, CLASSES),
    "normalizer": np.asarray(4.0),
}


@pytest.fixture(autouse=True, params=[3, pytest.param(1, marks=pytest.mark.full)])
def rows_of_a_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three with one left over, or one row."""
    monkeypatch.setattr(linear, "STEP", CLASSES * request.param)


def losses(targets: Any, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The loss in steps and that of the whole logits, as functions of a dict of arrays, and it."""
    arrays = {name: x for name, x in options.items() if isinstance(x, np.ndarray)}
    floats = LAYER | {name: x for name, x in arrays.items() if x.dtype.kind == "f"}
    fixed = {name: x for name, x in options.items() if name not in floats}
    fixed = {name: jnp.asarray(x) if name in arrays else x for name, x in fixed.items()}
    if targets.dtype.kind == "f":
        floats = floats | {"targets": targets}
    host = jnp.asarray(targets)

    def stepped(given: dict[str, Any]) -> Any:
        rest = {"targets": host} | given
        first = [rest.pop(name) for name in ("features", "classifier", "targets")]
        return linear_cross_entropy(*first, **rest, **fixed)

    def whole(given: dict[str, Any]) -> Any:
        rest = {"targets": host} | given
        x, w, b, y = [rest.pop(name) for name in (*LAYER, "targets")]
        return cross_entropy(x @ w.T + b, y, **rest, **fixed)

    return stepped, whole, {name: jnp.asarray(x) for name, x in floats.items()}


def flat(tree: Any) -> list[Any]:
    return list(jax.tree.leaves(tree))


CALLS: dict[str, Any] = {
    "labels": (LABELS, {}),
    "terms": (LABELS, TERMS),
    "others": (LABELS, {"label_smoothing": 0.2, "smoothing": "others", "where": MASK}),
    "arrays": (LABELS, TERMS | GIVEN),
    "probabilities": (SHARES, TERMS | {"weight": GIVEN["weight"], "where": MASK}),
    "sum": (LABELS, {"reduction": "sum"}),
}
# What "arrays" has too is left to the second tier.
parametrized = pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, marks=[pytest.mark.full] * (call in ("labels", "terms")))
        for call in CALLS
    ],
)


@parametrized
def test_first_derivatives(call: str) -> None:
    """By every array, and by those alone that the closed form has; jit, reverse and forward."""
    targets, options = CALLS[call]
    stepped, whole, given = losses(targets, **options)
    along = {name: x[::-1] for name, x in LAYER.items()}

    def every(given: dict[str, Any]) -> tuple[Any, ...]:
        layer = {name: given[name] for name in LAYER}
        of_layer = lambda layer: stepped(given | layer)  # noqa: E731
        return (
            jax.value_and_grad(whole)(given),
            jax.value_and_grad(stepped)(given),
            jax.grad(lambda layer: 3 * of_layer(layer))(layer),
            jax.jvp(of_layer, (layer,), (along,)),
        )

    want, got, some, moved = in_one_program(every, given)
    assert_same(flat(got), flat(want))
    assert_same(flat(some), [3 * want[1][name] for name in sorted(LAYER)])
    slope = sum(jnp.vdot(want[1][name], x) for name, x in along.items())
    assert_same(moved, (want[0], slope))


def test_one_row_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that every other test has in the second tier only."""
    monkeypatch.setattr(linear, "STEP", CLASSES)
    test_first_derivatives("arrays")


@parametrized
def test_second_derivatives(call: str) -> None:
    """Hessian–vector products by every array of gradients by the layer: the closed form's code."""
    targets, options = CALLS[call]
    stepped, whole, given = losses(targets, **options)
    along = {name: jnp.cos(jnp.arange(x.size)).reshape(x.shape) for name, x in LAYER.items()}

    def bent(loss: Any) -> Any:
        def slope(given: dict[str, Any]) -> Any:
            layer = {name: given[name] for name in LAYER}
            slopes = jax.grad(lambda layer: loss(given | layer))(layer)
            return sum(jnp.vdot(slopes[name], along[name]) for name in LAYER)

        return compiled(jax.grad(slope))

    assert_same(flat(bent(stepped)(given)), flat(bent(whole)(given)))


def test_batches_of_hessians() -> None:
    """Nested and mapped."""
    stepped, whole, given = losses(LABELS, **TERMS)
    batch = jnp.stack([given["features"], given["features"][::-1]])

    def bent(loss: Any) -> Any:
        return compiled(jax.vmap(jax.hessian(lambda x: loss(given | {"features": x}))))

    assert_same(bent(stepped)(batch), bent(whole)(batch))


def test_unreduced() -> None:
    """Goes through the formula."""
    *both, given = losses(LABELS, reduction="none")
    got, want = in_one_program(lambda given: [jax.jacrev(loss)(given) for loss in both], given)
    assert_same(flat(got), flat(want))


def test_ignored_rows_and_masked_classes() -> None:
    """NaN in a row that does not count, a class of probability 0, and a tie."""
    stepped, whole, given = losses(LABELS)
    given["bias"] = given["bias"].at[1].set(given["bias"][0])
    given["classifier"] = given["classifier"].at[1].set(given["classifier"][0])
    holed = given | {"features": given["features"].at[2].set(jnp.nan)}
    clean = given | {"features": given["features"].at[2].set(0)}

    def bent(loss: Any) -> Any:
        def slope(x: Any, given: Any) -> Any:
            by = jax.grad(lambda x: loss(given | {"features": x}))(x)
            return jnp.sum(jnp.sin(jnp.arange(by.size)) * by.ravel())

        return compiled(jax.value_and_grad(slope))

    assert_same(bent(stepped)(holed["features"], given), bent(whole)(clean["features"], given))
    masked = given | {"bias": given["bias"].at[2].set(-jnp.inf)}
    masked["features"] = clean["features"]
    shares = {"targets": jnp.asarray(SHARES).at[:, 2].set(0)}
    for loss_of, more in ((losses(LABELS[:6]), {}), (losses(SHARES), shares)):
        rows = {"features": masked["features"][: 7 if more else 6]}  # without label 2
        stepped, whole, _ = loss_of
        given = masked | more | rows
        assert_same(bent(stepped)(rows["features"], given), bent(whole)(rows["features"], given))


def test_scaled_half_precision() -> None:
    """A gradient is rounded to float16 after the cotangent has scaled it, not before."""
    stepped, _, given = losses(LABELS)
    given = {name: x.astype(jnp.float16) for name, x in given.items()}
    given["features"] = given["features"] / 256
    fine = jax.grad(stepped)({name: x.astype(jnp.float32) for name, x in given.items()})
    scaled = compiled(jax.grad(lambda given: 1024 * stepped(given)))(given)
    for name in LAYER:
        assert scaled[name].dtype == jnp.float16
        np.testing.assert_allclose(scaled[name], 1024 * fine[name], rtol=1e-3, atol=1e-6)


def test_large_gradient_is_added_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes in parts that do not come out even; differentiated too."""
    from xp_xent.backends import _jax_loops

    stepped, whole, given = losses(LABELS)
    monkeypatch.setattr(_jax_loops, "LARGE", 1)
    monkeypatch.setattr(_jax_loops, "PARTS", 2)

    def every(given: dict[str, Any]) -> Any:
        return [(jax.grad(f)(given), jax.jacfwd(jax.grad(f))(given)) for f in (stepped, whole)]

    got, want = in_one_program(every, given)
    assert_same(flat(got), flat(want))
