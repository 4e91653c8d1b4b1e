"""docs/tests.md is what pytest collects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.full  # it collects half of the tests in a process of its own
def test_page_is_current() -> None:
    """It names no test that the first tier has not, and misses no function, option or library."""
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("_tests_page.py")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = (ROOT / "docs" / "tests.md").read_text(encoding="utf-8")
    assert run.stdout == written, "run python tests/_tests_page.py > docs/tests.md"
