"""Each section of docs/coming-from.md runs beside the library that it is about."""

from __future__ import annotations

import os
import re
from pathlib import Path
from unittest.mock import patch

import _pages
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
SECTIONS = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)


@pytest.mark.parametrize("library", SECTIONS)
def test_section(library: str) -> None:
    (code,) = _pages.BLOCK.findall(SECTIONS[library])
    with patch.dict(os.environ):
        try:
            exec(compile(code, str(PAGE), "exec"), {})
        except ModuleNotFoundError as missing:
            pytest.skip(f"could not import '{missing.name}'")


def test_five_libraries() -> None:
    assert list(SECTIONS) == ["PyTorch", "optax", "Keras", "Liger", "scikit-learn"]
