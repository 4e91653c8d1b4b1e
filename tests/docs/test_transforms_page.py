"""docs/transforms.md is what the tests say, and the tests cover what is public."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from _forms import ALONE, FORMS
from _transforms import COLUMNS, Row, column

import xp_xent

ROOT = Path(__file__).parents[2]


def test_page_is_current() -> None:
    """In a process of its own: pytest has imported the tests under other names."""
    run = subprocess.run(
        [sys.executable, ROOT / "tests" / "helpers" / "_transforms_page.py"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    written = (ROOT / "docs" / "transforms.md").read_text(encoding="utf-8")
    assert run.stdout == written, "python tests/helpers/_transforms_page.py > docs/transforms.md"


@pytest.mark.parametrize("name", sorted({form.function for form in FORMS}))
def test_every_option_is_in_the_registry(name: str) -> None:
    """A new keyword of a public function must be tested under every transform."""
    public = inspect.signature(getattr(xp_xent, name)).parameters.values()
    keywords = {p.name for p in public if p.kind is inspect.Parameter.KEYWORD_ONLY}
    options = {o.split()[0] for form in FORMS if form.function == name for o in form.options}
    known = {"element": "weight", "entries": "where", "sum": "reduction", "none": "reduction"}
    found = {known.get(option, option) for option in options}
    # A pair of results, and another loss: losses/test_return_stats.py has the first, and
    # flow/test_linear_steps.py the second.
    assert found == keywords - {"return_stats", "shift"}


def test_every_loss_is_in_the_registry() -> None:
    """Every public function whose first argument is scores."""
    scores = ("logits", "log_probs", "probabilities", "features", "x")
    public = {
        name
        for name in xp_xent.__all__
        if inspect.isfunction(function := getattr(xp_xent, name))
        and next(iter(inspect.signature(function).parameters)) in scores
    }
    # Bits per byte are losses divided by a number; test_metrics.py has them under transforms.
    assert public - {"diagnose", "bits_per_byte"} == {form.function for form in FORMS}


def test_options_that_exclude_one_another_are_alone() -> None:
    names = {option for form in FORMS for option in form.options}
    assert set(ALONE) <= names


@pytest.mark.parametrize("title", ["`grad`", "`jit`", "`vmap`"])
def test_a_thinned_row_has_every_function_and_every_option(title: str) -> None:
    """One of the maps stands for all of them; and the second tier has the rest."""
    row = Row("jax", title, None, thin=True)
    drawn = [case for form in FORMS for case in row.drawn(form)]
    together = [column(case.loss) for case in drawn if case.option == "all"]
    assert sorted(together) == sorted(COLUMNS)
    alone = [case.option for case in drawn if case.option != "all"]
    assert sorted(alone) == sorted(ALONE)
    for form in FORMS:
        options = {case.option for tier in row.tiers(form) for case in tier.values[0]}
        assert set(form.options) <= options


@pytest.mark.parametrize("title", ["`grad`", "`jit`", "`vmap`"])
def test_a_pair_of_rows_has_every_function(title: str) -> None:
    """Each half has what the other has not, and the second tier all of both."""
    halves = [Row("jax", title, None, thin=True, half=half) for half in (0, 1)]
    found = [
        {column(form.function) for form in FORMS if any(c.option == "all" for c in row.drawn(form))}
        for row in halves
    ]
    assert found[0] | found[1] == set(COLUMNS)
    assert not found[0] & found[1]
    for row in halves:
        for form in FORMS:
            options = {case.option for tier in row.tiers(form) for case in tier.values[0]}
            assert set(form.options) <= options
