"""Training steps in Flax NNX and Equinox, beside the same steps by Optax's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

from xp_xent import LossStats, cross_entropy  # noqa: E402

FIVE_DIGITS = 5e-6
Array = Any

random = np.random.default_rng(7)
X = random.normal(size=(64, 5)).astype(np.float32)
LABELS = (X @ random.normal(size=(5, 3))).argmax(axis=1)


def ours(logits: Array, labels: Array) -> tuple[Array, LossStats]:
    return cross_entropy(logits, labels, return_stats=True)


def optaxs(logits: Array, labels: Array) -> tuple[Array, None]:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), None


def flax_losses(loss: Callable[..., Any]) -> list[tuple[Array, Any]]:
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, x: Array, labels: Array) -> tuple[Array, Any]:
        answer, gradients = nnx.value_and_grad(lambda m: loss(m(x), labels), has_aux=True)(model)
        optimizer.update(model, gradients)
        return answer

    return [step(model, optimizer, X, LABELS) for _ in range(4)]


def equinox_losses(loss: Callable[..., Any]) -> list[tuple[Array, Any]]:
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(5, 3, key=jax.random.key(0))
    optimizer = optax.sgd(0.5)

    @eqx.filter_jit
    def step(model: Any, state: Any, x: Array, labels: Array) -> Any:
        answer, gradients = eqx.filter_value_and_grad(
            lambda m: loss(jax.vmap(m)(x), labels), has_aux=True
        )(model)
        updates, state = optimizer.update(gradients, state, model)
        return eqx.apply_updates(model, updates), state, answer

    state, answers = optimizer.init(eqx.filter(model, eqx.is_array)), []
    for _ in range(4):
        model, state, answer = step(model, state, X, LABELS)
        answers.append(answer)
    return answers


@pytest.mark.parametrize("losses", [flax_losses, equinox_losses])
def test_training_step(losses: Callable[..., list[tuple[Array, Any]]]) -> None:
    """Loss, statistics of the same walk, and the step that the gradients make."""
    found, wanted = losses(ours), losses(optaxs)
    values = [float(value) for value, _ in found]
    np.testing.assert_allclose(values, [float(value) for value, _ in wanted], rtol=FIVE_DIGITS)
    assert values == sorted(values, reverse=True)
    for value, stats in found:
        np.testing.assert_allclose(stats.nll.mean(), value, rtol=FIVE_DIGITS)
        assert stats.correct.shape == LABELS.shape


def test_equinox_loss_of_one_example_inside_vmap() -> None:
    """Filtered gradients through vmap are those of the batch."""
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(5, 3, key=jax.random.key(1))

    def each(model: Any) -> Array:
        return jax.vmap(lambda x, y: cross_entropy(model(x), y))(X, LABELS).mean()

    def batch(model: Any) -> Array:
        return cross_entropy(jax.vmap(model)(X), LABELS)

    one, other = (eqx.filter_grad(loss)(model) for loss in (each, batch))
    np.testing.assert_allclose(one.weight, other.weight, rtol=1e-4, atol=1e-6)
