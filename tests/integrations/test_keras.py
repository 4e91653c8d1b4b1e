"""`xp_xent.integrations.keras` beside Keras' own losses, on each backend in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).parent / "_keras_program.py"
FIVE_DIGITS = 5e-6
LOSSES = (
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "BinaryCrossentropy",
)


def check(backend: str, *trained: str) -> None:
    """Run the program, which checks what is ours alone and answers what Keras has too."""
    for library in ("keras", backend):
        if find_spec(library) is None:
            pytest.skip(f"could not import {library!r}")
    command = [sys.executable, str(PROGRAM), backend, *trained]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert list(answers) == list(LOSSES)
    for name, found in answers.items():
        builtin, *ours = found["values"]
        for one in ours:
            np.testing.assert_allclose(one, builtin, rtol=FIVE_DIGITS, err_msg=name)
    for name in trained:
        builtin, one = answers[name]["trained"]
        np.testing.assert_allclose(one, builtin, rtol=FIVE_DIGITS, err_msg=name)
        assert one[0] > one[1] > one[2]


@pytest.mark.parametrize("trained_on", ["jax", "tensorflow"])
def test_values_and_training(trained_on: str) -> None:
    check(trained_on, "SparseCategoricalCrossentropy")


@pytest.mark.full
@pytest.mark.parametrize("trained_on", ["jax", "tensorflow", "torch"])
def test_training_by_each_loss(trained_on: str) -> None:
    check(trained_on, *LOSSES)


@pytest.mark.full
def test_values() -> None:
    """Keras' NumPy backend has no training."""
    check("numpy")
