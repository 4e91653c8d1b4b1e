"""docs/tests.md is what pytest collects."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from _forms import FORMS
from _tests_page import ON_A_LIBRARY, OPTIONS

import xp_xent

ROOT = Path(__file__).parents[2]
REGISTERED = {form.function for form in FORMS}


@pytest.mark.full  # it collects half of the tests in a process of its own
def test_page_is_current() -> None:
    """It names no test that the first tier has not, and misses no function, option or library."""
    run = subprocess.run(
        [sys.executable, ROOT / "tests" / "helpers" / "_tests_page.py"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = (ROOT / "docs" / "tests.md").read_text(encoding="utf-8")
    assert run.stdout == written, "python tests/helpers/_tests_page.py > docs/tests.md"


def options(function: Any) -> set[str]:
    """Give what may be left out."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty}


def test_every_name_is_listed() -> None:
    """A new one must be asked on each library; `perplexity` is in the registry too."""
    assert set(ON_A_LIBRARY) - {"perplexity"} == set(xp_xent.__all__) - REGISTERED


def test_every_option_is_listed() -> None:
    """A new option of a function that is no loss must have a test."""
    public = {name: getattr(xp_xent, name) for name in set(xp_xent.__all__) - REGISTERED}
    found = {
        (name, option)
        for name, function in public.items()
        if inspect.isfunction(function)
        for option in options(function)
    }
    # Of what they make, beside the loss's own
    own = options(xp_xent.cross_entropy)
    for name in ("value_and_grad", "hvp", "hessian_diagonal", "hessian"):
        found |= {(name, option) for option in options(public[name](xp_xent.cross_entropy)) - own}
    assert set(OPTIONS) == found
