"""A rank that dies or stays away ends in an error on the other one, within the group's timeout."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="it forks"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without ranks"),
]
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("dies", ("Connection closed by peer", "Connection reset by peer", "Broken pipe")),
        ("stays away", ("Timed out waiting", "timeout")),
    ],
)
def test_the_other_rank_raises(how: str, words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "_lost_rank.py", tmp_path, how],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *calls, alone = json.loads((tmp_path / "seen.json").read_text())
    for call in calls:
        assert call["said"].startswith("RuntimeError"), call
        assert any(word in call["said"] for word in words), call
        assert not call["left"]  # no call after it is taken for one of a part
        assert call["seconds"] < 30, call  # not PyTorch's own half an hour
    assert math.isfinite(float(alone["said"]))
