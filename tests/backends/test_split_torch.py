"""Losses of tensors whose rows or classes lie with several ranks, beside those of one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed.tensor")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it forks"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without ranks"),
]

GROUPS = (
    "options", "blocks", "confident", "texts", "others", "faults", "ways", "vectors",
    "weights", "metrics",
)  # fmt: skip
OF_FOUR = ("options", "faults", "ways", "vectors", "weights", "metrics")  # what two cannot show
HERE = Path(__file__).parent


@pytest.fixture(
    scope="module",
    params=[
        (2, "some"), (4, "some"),
        pytest.param((2, "every"), marks=pytest.mark.full),
        pytest.param((4, "every"), marks=pytest.mark.full),
    ],
    ids=lambda x: f"{x[0]}-{x[1]}",
)  # fmt: skip
def found(request: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run all groups on ranks, which start once; give what each rank found."""
    ranks, every = request.param
    folder = tmp_path_factory.mktemp("ranks")
    groups = OF_FOUR if (ranks, every) == (4, "some") else GROUPS
    done = subprocess.run(
        [sys.executable, HERE / "_split_ranks.py", str(ranks), folder, every, *groups],
        env={**os.environ, "PYTHONPATH": str(HERE.parent / "helpers")},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.parametrize("group", GROUPS)
def test_a_split_loss_is_the_whole_one(
    found: list[dict[str, Any]], group: str, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["found"] == (4, "some") and group not in OF_FOUR:
        pytest.skip("two ranks show it")
    for rank, groups in enumerate(found):
        assert groups[group]["count"] > 0
        assert not groups[group]["failed"], (rank, groups[group]["failed"][:3])
