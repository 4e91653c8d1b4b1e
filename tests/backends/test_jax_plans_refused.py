"""JAX outside `jit`: what is refused is refused in the same words, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import cross_entropy, value_and_grad

jax = pytest.importorskip("jax")
from _jax_calls import HOST, LABELS, OUTSIDE, given, operation_by_operation  # noqa: E402

jnp = jax.numpy
pytestmark = pytest.mark.usefixtures("no_jax_plans")
WHERE = jnp.asarray([True, False, True, True, True, True])
TARGETS = jnp.where(WHERE, 0.5, 255.0)
REFUSED: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "label": (
        lambda: cross_entropy(*given()),
        lambda: cross_entropy(*given(OUTSIDE)),
    ),
    "label that is not ignored": (
        lambda: cross_entropy(*given(), ignore_index=-1),
        lambda: cross_entropy(*given(-LABELS), ignore_index=-1),
    ),
    "label where it counts": (
        lambda: cross_entropy(*given(OUTSIDE), where=WHERE),
        lambda: cross_entropy(*given(OUTSIDE), where=~WHERE),
    ),
    "token": (
        lambda: xp_xent.next_token_cross_entropy(*given(), where=WHERE),
        lambda: xp_xent.next_token_cross_entropy(*given(OUTSIDE)),
    ),
    "linear": (
        lambda: xp_xent.linear_cross_entropy(given()[0], jnp.ones((5, 5), "f4"), given()[1]),
        lambda: xp_xent.linear_cross_entropy(given()[0], jnp.ones((5, 5), "f4"), given(OUTSIDE)[1]),
    ),
    "gradient": (
        lambda: value_and_grad(cross_entropy)(*given()),
        lambda: value_and_grad(cross_entropy)(*given(OUTSIDE)),
    ),
    "jax.grad": (
        lambda: jax.grad(cross_entropy)(*given()),
        lambda: jax.grad(cross_entropy)(*given(OUTSIDE)),
    ),
    "binary": (
        lambda: xp_xent.binary_cross_entropy_with_logits(TARGETS, TARGETS, where=WHERE),
        lambda: xp_xent.binary_cross_entropy_with_logits(TARGETS, TARGETS, where=~WHERE),
    ),
    "number": (
        lambda: cross_entropy(*given(), label_smoothing=0.5),
        lambda: cross_entropy(*given(), label_smoothing=1.5),
    ),
    "normalizer": (
        lambda: cross_entropy(*given(), normalizer=1.0),
        lambda: cross_entropy(*given(), normalizer=0.0),
    ),
    "shape": (
        lambda: cross_entropy(*given()),
        lambda: cross_entropy(given()[0], given()[1][:2]),
    ),
    "library": (
        lambda: cross_entropy(*given()),
        lambda: cross_entropy(given()[0], np.ones_like(HOST)),
    ),
    "cotangent": (
        lambda: value_and_grad(cross_entropy)(*given(), cotangent=jnp.ones(())),
        lambda: value_and_grad(cross_entropy)(*given(), cotangent=jnp.ones(3)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_the_first_call_and_by_later_ones(case: str) -> None:
    """In the words of the way without a compiler."""
    fine, refused = REFUSED[case]

    def words() -> tuple[type, str]:
        with pytest.raises((TypeError, ValueError)) as caught:
            refused()
        return caught.type, str(caught.value)

    first = words()
    fine()
    assert words() == words() == first
    assert operation_by_operation(words) == first


def test_a_label_out_of_range_is_refused_at_the_thousandth_call() -> None:
    z, y = given()
    both, wrong = value_and_grad(cross_entropy), given(OUTSIDE)[1]
    for call in range(1, 1001):
        both(z, y)
        if call in (1, 2, 1000):
            with pytest.raises(ValueError, match=r"got label 5 at position \(1,\)"):
                both(z, wrong)


@pytest.mark.parametrize("compiled_first", [False, True])
def test_devices(compiled_first: bool) -> None:
    """Arrays committed to two devices are refused, and results stay where the arguments are."""
    one, other = jax.devices()[:2]
    z, y = given()
    if compiled_first:
        cross_entropy(z, y)
        cross_entropy(jax.device_put(z, one), y)
    for device in (one, other):
        value, gradient = value_and_grad(cross_entropy)(jax.device_put(z, device), y)
        assert value.devices() == gradient.devices() == {device}
    with pytest.raises(ValueError, match="no array is copied to another device"):
        cross_entropy(jax.device_put(z, one), jax.device_put(y, other))
