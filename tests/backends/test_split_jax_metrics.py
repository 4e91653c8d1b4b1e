"""Weights of classes, and perplexity, of rows on several devices, inside `jax.shard_map`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _programs import compiled

from xp_xent import (
    balanced_class_weights,
    bits_per_byte,
    effective_number_weights,
    perplexity,
    positive_class_weight,
    split,
)

jax = pytest.importorskip("jax")
from _split_jax import mesh_of  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

LABELS = np.asarray([0, 0, 0, 1, 2, 2, 1, 0, -100, 3])
TARGETS = (np.arange(30).reshape(10, 3) % 4 == 0) * 1.0
SAMPLES = np.arange(10) / 4 + 1


@pytest.fixture(autouse=True)
def two_devices() -> None:
    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")


def every(labels: Any, targets: Any, weight: Any) -> dict[str, Any]:
    found = {}
    for function in (balanced_class_weights, effective_number_weights):
        for absent in ("counted", "zero", "error"):
            found[f"{function.__name__} {absent}"] = function(
                labels, 5, sample_weight=weight, absent=absent
            )
    for absent in ("zero", "error"):
        how = {"sample_weight": weight, "absent": absent}
        found[f"positive {absent}"] = positive_class_weight(targets, **how)
        found[f"positive {absent} axis=1"] = positive_class_weight(targets.T, axis=1, **how)
    return found


@pytest.mark.parametrize("weight", [None, SAMPLES], ids=["counted", "weighted"])
def test_rows_of_all_devices_count(weight: Any) -> None:
    def local(*given: Any) -> Any:
        with split(rows="model"):
            return every(*given)

    given = LABELS, TARGETS, weight
    over = {"mesh": mesh_of(), "in_specs": P("model"), "out_specs": P()}
    got, want = (compiled(f)(*given) for f in (jax.shard_map(local, **over), every))
    for name, whole in want.items():
        np.testing.assert_allclose(got[name], whole, rtol=1e-6, err_msg=name)


def test_split_classes_alone() -> None:
    """Labels are the whole ones on each device."""

    def local(*given: Any) -> Any:
        with split(classes="model"):
            return balanced_class_weights(*given, 5)

    over = {"mesh": mesh_of(), "in_specs": P(), "out_specs": P()}
    got = compiled(jax.shard_map(local, **over))(LABELS)
    np.testing.assert_allclose(got, balanced_class_weights(LABELS, 5), rtol=1e-6)


def test_perplexity_along_an_axis_that_may_be_split() -> None:
    """Refused: each device would have a value of its own rows; of all rows all have one."""
    logits, labels = (
        np.random.default_rng(1).normal(size=(4, 3, 5)),
        np.arange(12).reshape(4, 3) % 5,
    )

    def both(*given: Any, **over: Any) -> Any:
        return perplexity(*given, **over), bits_per_byte(*given, 40, **over)

    def on_parts(function: Any, **how: Any) -> Any:
        def local(*given: Any) -> Any:
            with split(rows="model"):
                return function(*given, **how)

        over = {"mesh": mesh_of(), "in_specs": P("model"), "out_specs": P()}
        return compiled(jax.shard_map(local, **over))

    got = on_parts(both)(logits, labels)
    np.testing.assert_allclose(got, both(logits, labels), rtol=1e-6)
    for function in (perplexity, lambda *given, over: bits_per_byte(*given, 40, over=over)):
        with pytest.raises(ValueError, match=r"over: got -1 within split\(rows=…\)"):
            on_parts(function, over=-1)(logits, labels)
