"""`xp_xent.integrations.keras` beside Keras' own losses, on each backend in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = Path(__file__).parent / "_keras_program.py"
FIVE_DIGITS = 5e-6


def answers_of(backend: str) -> dict[str, Any]:
    """Run the program, which checks what is ours alone and answers what Keras has too."""
    for library in ("keras", backend):
        if find_spec(library) is None:
            pytest.skip(f"could not import {library!r}")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), backend], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("runs_on", ["jax", "numpy", "tensorflow", "torch"])
def test_as_keras_own(runs_on: str) -> None:
    """Values, with sample weights and with more axes too, and the losses of a training."""
    answers = answers_of(runs_on)
    assert len(answers) == 4
    for name, found in answers.items():
        builtin, *ours = found["values"]
        for one in ours:
            np.testing.assert_allclose(one, builtin, rtol=FIVE_DIGITS, err_msg=name)
        assert ("trained" in found) == (runs_on != "numpy")  # which cannot train
        if "trained" in found:
            builtin, one = found["trained"]
            np.testing.assert_allclose(one, builtin, rtol=FIVE_DIGITS, err_msg=name)
            assert one[0] > one[1] > one[2]
