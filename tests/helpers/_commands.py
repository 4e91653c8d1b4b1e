"""The command `xp-xent`, called in this process, and what it reads and writes."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from xp_xent import __main__

RNG = np.random.default_rng(29)
LOGITS = (RNG.normal(size=(60, 4)) * 2).astype(np.float32)
LABELS = RNG.integers(0, 4, 60)
SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def invoke(*arguments: Any) -> Any:
    """Call the command, on a terminal of 80 columns."""
    return CliRunner(env={"COLUMNS": "80"}).invoke(__main__.command(), [*map(str, arguments)])


def dump(folder: Path, **arrays: Any) -> Path:
    """Save arrays; logits and labels where none are given."""
    np.savez(folder / "dump.npz", **{"logits": LOGITS, "targets": LABELS, **arrays})
    return folder / "dump.npz"


def schema_of(command: str) -> Any:
    """Read a command's schema."""
    schemas = files("xp_xent.verify") / "schemas"
    return json.loads((schemas / f"{command}.json").read_text("utf-8"))


def valid(file: Path, command: str) -> Any:
    """Read a report, having checked it against its schema."""
    jsonschema = pytest.importorskip("jsonschema")
    report, schema = json.loads(file.read_text("utf-8")), schema_of(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    return report


def loss_of(file: Path, *arguments: str, status: int = 0) -> Any:
    """Give the report of `xp-xent loss`."""
    report = file.with_name("report.json")
    done = invoke("loss", file, "--json", report, *arguments)
    assert done.exit_code == status, done.output
    return valid(report, "loss")
