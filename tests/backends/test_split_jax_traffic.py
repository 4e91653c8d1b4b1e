"""What devices exchange for split logits: numbers of rows, and gradients that several of them have.

XLA is asked, on eight devices of the host: tests/helpers/_eight_devices.py, in a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")

SCRIPT = Path(__file__).parents[1] / "helpers" / "_eight_devices.py"
KINDS = ("named", "Auto", "Explicit")
# Rows of a device, each number of which has four bytes; what is exchanged beside, once a call.
OF_ROWS, ONCE = {"both": 32 * 4, "classes": 64 * 4, "classes twice": 64 * 4, "rows": 0}, 16
# Numbers a row: maximum, sum and the label's logit; with mass on several classes, the largest's
# index and masses, too. The compiler gathers each part's own largest.
PLAIN, SPREAD, GATHERED = 3, 11, 16
FIRST = [f"{kind}:both:{what}" for kind in KINDS for what in ("plain", "linear")]
OPTIONS = {
    "smoothing": SPREAD, "others": SPREAD, "weight": PLAIN, "z_loss": PLAIN, "softcap": PLAIN,
    "temperature": PLAIN + 1, "none": PLAIN, "stats": PLAIN, "soft": SPREAD,
}  # fmt: skip
LATER = [f"{kind}:both:{option}" for kind in ("named", "Auto") for option in OPTIONS]
ONE_AXIS = ("classes", "rows", "classes twice")
LATER += [f"{kind}:{along}:plain" for kind in ("named", "Auto") for along in ONE_AXIS]
LATER += [f"{kind}:{along}:linear" for kind in ("named", "Auto") for along in ("classes", "rows")]


@cache
def exchanged(asked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """What the calls exchange, each a kind of axes, what is split over them, and an option."""
    return subprocess.run(
        [sys.executable, SCRIPT, *asked],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, check=False, text=True, timeout=500,
    )  # fmt: skip


def of_call(name: str) -> dict[str, Any]:
    finished = exchanged(tuple(FIRST if name in FIRST else LATER))
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1])[name])


def is_linear(name: Any) -> bool:
    return str(getattr(name, "values", name)).strip("(),'").endswith("linear")


names = [*FIRST, *[pytest.param(name, marks=pytest.mark.full) for name in LATER]]


@pytest.mark.parametrize("name", [x for x in names if not is_linear(x)])
def test_losses_exchange_numbers_of_rows(name: str) -> None:
    """At most so many bytes a device; a gradient is split as the logits are."""
    kind, along, option = name.split(":")
    numbers = OPTIONS.get(option, PLAIN)
    numbers = GATHERED if numbers == SPREAD and kind == "Auto" else numbers
    limit = 392 if (along, option) == ("both", "plain") else numbers * OF_ROWS[along] + ONCE
    for way, found in of_call(name).items():
        assert sum(found["bytes"]) <= limit, (way, found["bytes"])
        assert found["error"] < 1e-6
        if way == "grad":
            assert found["whole"] == [False]


@pytest.mark.parametrize("name", [x for x in names if is_linear(x)])
def test_a_linear_layer_exchanges_numbers_of_rows_and_gradients(name: str) -> None:
    """What several devices have the same of is added up: its gradient, and no more."""
    _, along, _ = name.split(":")
    rows, classes = {"both": (2, 4), "classes": (1, 8), "rows": (8, 1)}[along]
    features, classifier = 64 * 96 * 4 // rows, 4096 * 96 * 4 // classes
    found = of_call(name)
    small = 16 * OF_ROWS[along] + ONCE
    assert sum(found["value"]["bytes"]) <= small
    for way in ("grad", "closed"):
        large = [size for size in found[way]["bytes"] if size > small]
        assert sum(large) <= features * (classes > 1) + classifier * (rows > 1)
        assert found[way]["whole"] == [rows == 1, classes == 1]
    assert max(x["error"] for x in found.values()) < 1e-5
