"""The code of docs/integrations/ runs, page by page, where the framework is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "integrations").glob("*.md"))


def run_apart(code: str) -> None:
    pytest.importorskip("jax")
    if find_spec("keras") is None:
        pytest.skip("could not import 'keras'")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings(
    "ignore:Failed to import numba:UserWarning",
    "ignore:The '.*_dataloader' does not have many workers",  # of Lightning; and what it does:
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    if page.stem == "keras":  # it reads its backend once, and another test may have imported it
        run_apart("\n".join(blocks))
        return
    names: dict[str, object] = {"__name__": page.stem}
    with patch.dict(os.environ):
        for block in blocks:
            try:
                exec(compile(block, str(page), "exec"), names)
            except ModuleNotFoundError as missing:
                if str(missing.name).startswith("xp_xent"):
                    raise
                pytest.skip(f"could not import '{missing.name}'")
