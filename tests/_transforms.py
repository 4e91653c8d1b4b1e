"""The table of docs/transforms.md: what a test registers is a row, and a row is a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from _registry import FORMS, MAPS, Entry, entries, fullest

Check = Callable[[Entry], None]


@dataclass(frozen=True)
class Row:
    """A transform, in one framework: `without` says why a column has no test."""

    framework: str
    title: str
    once: str | None
    without: Mapping[str, str] = field(default_factory=dict)


ONCE = (
    "One call with all options that go together, to keep the tests short; rows without this note "
    "have each option alone."
)
TABLE: list[Row] = []
SINGLE: list[tuple[str, str]] = []  # framework, and what a test of no particular loss checks


def column(function: str) -> str:
    """Give the column of a public function: itself, or "maps"."""
    return "maps" if function in MAPS else function


def transform(
    framework: str, title: str, *, once: str | None = None, without: Mapping[str, str] | None = None
) -> Callable[[Check], Any]:
    """Make a check of one call a test of every loss, and a row of the table.

    It runs on every loss with every option; where a reason `once` is given, on every loss with
    all options at one time; and on no loss that is in `without`, which maps columns to reasons.
    """
    row = Row(framework, title, once, without or {})
    TABLE.append(row)

    def register(check: Check) -> Any:
        forms = [form for form in FORMS if column(form.function) not in row.without]

        @pytest.mark.parametrize("form", forms, ids=[form.name for form in forms])
        def test(form: Any) -> None:
            if framework in ("torch", "jax"):
                pytest.importorskip(framework)
            for case in [fullest(form)] if once else entries(form):
                try:
                    check(case)
                except Exception as error:
                    error.add_note(f"in {case.name}")
                    raise

        test.__doc__ = check.__doc__
        return test

    return register


def also(framework: str, title: str) -> Callable[[Any], Any]:
    """List a test that stands for itself under the framework's table."""
    SINGLE.append((framework, title))
    return lambda test: test
