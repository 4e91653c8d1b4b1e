"""Vocabularies filled up with columns that are no classes, so that they split evenly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _programs import compiled
from _tools import assert_same

import xp_xent
from xp_xent import cross_entropy, split, value_and_grad

jax = pytest.importorskip("jax")
from _split_jax import (  # noqa: E402
    ALL,
    CLASSIFIER,
    FEATURES,
    FILLED,
    FILLED_CLASSIFIER,
    LABELS,
    OF_LOGITS,
    ONE_DEVICE,
    WEIGHT,
    mesh_of,
    over_classes,
)
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

jnp, lax, P = jax.numpy, jax.lax, PartitionSpec
RNG = np.random.default_rng(8)
ROWS = {"reduction": "none"}


pytestmark = ONE_DEVICE


def padded(logits: Any, classifier: Any, labels: Any) -> Any:
    """Losses and maps of 7 classes, and their derivatives, with 7 columns or 8."""
    options: list[dict[str, Any]] = [
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "smoothing": "others", "weight": WEIGHT, "z_loss": 0.1},
    ]
    both = value_and_grad(cross_entropy)
    found = [both(logits, labels, **how) for how in options]
    q = xp_xent.softmax(logits * 0.5)
    found.append(both(logits, q, **options[1]))
    found.append(xp_xent.entropy(logits))
    linear = value_and_grad(xp_xent.linear_cross_entropy, (0, 1))
    found.append(linear(jnp.asarray(FEATURES), classifier, labels, label_smoothing=0.2))
    found.append(xp_xent.logsumexp(logits, axis=1))
    found.append(xp_xent.hessian_diagonal(cross_entropy)(logits, labels))
    return jax.tree.leaves(found)


def whole() -> list[Any]:
    return list(compiled(padded)(FILLED[:, :7], CLASSIFIER, LABELS))


def assert_padded(got: list[Any]) -> None:
    """Equal, and 0 in the column that is no class."""
    for found, other in zip(map(np.asarray, got), whole(), strict=True):
        if found.shape == other.shape:
            assert_same(found, other)
            continue
        classes, last = np.split(found, [7], 0 if found.shape == (8, 3) else -1)
        assert_same(classes, other)
        assert not last.any()


PADDED = FILLED, FILLED_CLASSIFIER, LABELS
PADDED_SPECS = OF_LOGITS, P("model"), ALL


def test_a_vocabulary_filled_up_inside_shard_map() -> None:
    specs = {(): ALL, (5,): ALL, (5, 3): ALL, (8, 3): P("model"), (5, 8): OF_LOGITS}
    shapes = jax.eval_shape(filled, *PADDED)
    out = [specs[x.shape] for x in shapes]
    assert_padded(over_classes(padded, PADDED_SPECS, out, num_classes=7)(*PADDED))


def filled(*arrays: Any) -> Any:
    with split(num_classes=7):
        return padded(*arrays)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_vocabulary_filled_up_under_jit(kind: str) -> None:
    """The compiler splits; the context says of which columns there are."""
    mesh = mesh_of(kind)
    given = [
        jax.device_put(x, NamedSharding(mesh, how))
        for x, how in zip(PADDED, PADDED_SPECS, strict=True)
    ]
    with jax.set_mesh(mesh):
        assert_padded(compiled(filled)(*given))


def test_a_vocabulary_filled_up_on_one_device() -> None:
    """Labels that can be read are refused as ever."""
    logits = jnp.asarray(FILLED)
    want = cross_entropy(FILLED[:, :7], LABELS)
    for _ in range(2):
        assert_same(cross_entropy(logits[:, :7], LABELS), jnp.asarray(want))
        with split(num_classes=7):
            got = cross_entropy(logits, LABELS)
            with pytest.raises(ValueError, match=r"got label 7 at position \(0,\), wanted 0 … 6"):
                cross_entropy(logits, LABELS + 7)
        assert_same(got, jnp.asarray(want))
    with split(num_classes=7), pytest.raises(ValueError, match="axis: got 2 axes"):
        xp_xent.logsumexp(logits, axis=(0, 1))


@pytest.mark.parametrize("function", [cross_entropy, lambda z, _: xp_xent.softmax(z)])
def test_more_classes_than_there_are_columns(function: Any) -> None:
    """In all parts: the second half has as many classes as it has columns."""
    logits, wanted = jnp.asarray(FILLED), "num_classes: got 9, wanted at most 8, as many as"
    with split(num_classes=9), pytest.raises(ValueError, match=wanted):
        function(logits, LABELS)
    with split(num_classes=9), pytest.raises(ValueError, match=wanted):
        jax.jit(function)(logits, LABELS)
    specs = OF_LOGITS, ALL
    out = ALL if function is cross_entropy else OF_LOGITS
    with pytest.raises(ValueError, match=wanted):
        over_classes(function, specs, out, num_classes=9)(FILLED, LABELS)
    for count in (5, 8):  # 5: more than a device has
        over_classes(function, specs, out, num_classes=count)(FILLED, LABELS % 5)
