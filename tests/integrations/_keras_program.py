"""Losses of `xp_xent.integrations.keras` beside Keras' own, on the backend that is named.

Prints one line of JSON. The losses that are named further train a model. Keras reads its backend
once, so each has a process of its own.
"""

from __future__ import annotations

import doctest
import json
import os
import sys
from unittest.mock import patch

os.environ["KERAS_BACKEND"] = sys.argv[1]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import numpy as np
import pytest

import xp_xent
from xp_xent.integrations import keras as ours

random = np.random.default_rng(5)
X = random.normal(size=(96, 5)).astype(np.float32)
LABELS = (X @ random.normal(size=(5, 4))).argmax(axis=1)
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]
WITH_GAPS = np.where(np.arange(96) % 3, LABELS, -1)
WEIGHTS = random.uniform(0.5, 2, size=96).astype(np.float32)
CASES = {
    "CategoricalCrossentropy": ({"label_smoothing": 0.1}, ONE_HOT),
    "SparseCategoricalCrossentropy": ({"ignore_class": -1}, WITH_GAPS),
    "CategoricalFocalCrossentropy": ({"alpha": [0.1, 0.2, 0.3, 0.4], "gamma": 1.5}, ONE_HOT),
    "BinaryCrossentropy": ({"label_smoothing": 0.2}, ONE_HOT),
}


def trained(loss: keras.losses.Loss, targets: np.ndarray) -> list[float]:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.SGD(0.5), loss=loss)
    fitted = model.fit(
        X, targets, sample_weight=WEIGHTS, batch_size=48, epochs=3, shuffle=False, verbose=0
    )
    return [float(one) for one in fitted.history["loss"]]


def values(loss: keras.losses.Loss, targets: np.ndarray) -> list[float]:
    logits = X[:, :4] * 3
    return [
        float(loss(targets, logits)),
        float(loss(targets, logits, sample_weight=WEIGHTS)),
        float(loss(targets.reshape(12, 8, *targets.shape[1:]), logits.reshape(12, 8, 4))),
    ]


def both(name: str) -> dict[str, list[list[float]]]:
    """Give Keras' own answers, ours, and those of ours after it was saved and read."""
    options, targets = CASES[name]
    made = [getattr(where, name)(from_logits=True, **options) for where in (keras.losses, ours)]
    again = keras.losses.deserialize(keras.losses.serialize(made[1]))
    assert type(again) is type(made[1])
    assert again.get_config() == made[1].get_config()
    answers = {"values": [values(one, targets) for one in (*made, again)]}
    if name in sys.argv[2:]:
        answers["trained"] = [trained(one, targets) for one in made]
    return answers


def check_alone() -> None:
    """Check what needs no built-in beside it: class axes, flat targets, confident rows."""
    loss = ours.SparseCategoricalCrossentropy(from_logits=True, axis=1, reduction="none")
    images, pixels = X[:, :4].reshape(8, 4, 12), LABELS.reshape(8, 12)
    found = keras.ops.convert_to_numpy(loss(pixels, images))
    wanted = xp_xent.cross_entropy(images, pixels, axis=1, reduction="none")
    np.testing.assert_allclose(found, wanted, rtol=5e-6)
    flat = ours.BinaryCrossentropy(from_logits=True)(ONE_HOT[:, 0], X[:, :1])
    wanted = xp_xent.binary_cross_entropy_with_logits(X[:, 0], ONE_HOT[:, 0])
    np.testing.assert_allclose(float(flat), wanted, rtol=5e-6)
    confident = ours.CategoricalCrossentropy(from_logits=True)([[1, 0, 0]], [[20, 0, 0]])
    np.testing.assert_allclose(float(confident), 4.1223072e-9, rtol=5e-6)


def check_refusals() -> None:
    with pytest.raises(ValueError, match="from_logits: got False, wanted True"):
        ours.CategoricalCrossentropy()
    with (
        patch("keras.config.backend", return_value="openvino"),
        pytest.raises(NotImplementedError, match="got 'openvino', wanted 'jax'"),
    ):
        ours.CategoricalCrossentropy(from_logits=True)(ONE_HOT, X[:, :4])


check_alone()
check_refusals()
assert doctest.testmod(ours).failed == 0
sys.stdout.write(json.dumps({name: both(name) for name in CASES}))
