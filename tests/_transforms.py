"""The table of docs/transforms.md: what a test registers is a row, and a row is a test."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from _registry import ALONE, FORMS, MAPS, Entry, Form, entries, fullest

Check = Callable[[Entry], None]


@dataclass(frozen=True)
class Row:
    """A transform, in one framework: `without` says why a column has no test."""

    framework: str
    title: str
    once: str | None
    thin: bool = False
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str | None:
        """What the page says of a row that has not each option alone, on each loss."""
        return THINNED if self.thin else self.once

    def drawn(self, form: Form) -> tuple[Entry, ...]:
        """Draw the first tier's cases of a loss, where the row is thin.

        All options that go together, and each alone option whose turn it is: a transform has it
        on one of the losses that have it, by the transform's name. So each loss and each option
        meets each transform.
        """
        turn = zlib.crc32(f"{self.framework} {self.title}".encode())
        hosts = {name: [f for f in FORMS if name in f.options] for name in ALONE}
        alone = [name for name in form.options if name in ALONE]
        turns = {name for name in alone if hosts[name][turn % len(hosts[name])] is form}
        return (fullest(form), *[case for case in entries(form) if case.option in turns])

    def tiers(self, form: Form) -> list[Any]:
        """Give a loss's parameters: its cases of the first tier, and those that the second adds."""
        if not self.thin:
            return [pytest.param((fullest(form),) if self.once else entries(form), id=form.name)]
        first = self.drawn(form)
        rest = tuple(case for case in entries(form) if case not in first)
        tiers = [pytest.param(first, id=form.name)]
        if len(entries(form)) > len(first):  # else it has one option at most
            tiers += [pytest.param(rest, id=f"{form.name}-rest", marks=pytest.mark.full)]
        return tiers


ONCE = (
    "One call with all options that go together, to keep the tests short; rows without this note "
    "have each option alone."
)
THINNED = (
    "The first tier of tests has one call with all options that go together, and each *alone* one "
    "on one of the losses that have it; the second tier has each option alone on each loss."
)
TABLE: list[Row] = []
SINGLE: list[tuple[str, str]] = []  # framework, and what a test of no particular loss checks


def column(function: str) -> str:
    """Give the column of a public function: itself, or "maps"."""
    return "maps" if function in MAPS else function


def transform(
    framework: str,
    title: str,
    *,
    once: str | None = None,
    thin: bool = False,
    without: Mapping[str, str] | None = None,
) -> Callable[[Check], Any]:
    """Make a check of one call a test of every loss, and a row of the table.

    It runs on every loss with every option, thinned in the first tier where it is `thin`; where a
    reason `once` is given, on every loss with all options at one time; and on no loss that is in
    `without`, which maps columns to reasons.
    """
    row = Row(framework, title, once, thin, without or {})
    TABLE.append(row)

    def register(check: Check) -> Any:
        forms = [form for form in FORMS if column(form.function) not in row.without]

        @pytest.mark.parametrize("cases", [tier for form in forms for tier in row.tiers(form)])
        def test(cases: Any) -> None:
            if framework in ("torch", "jax"):
                pytest.importorskip(framework)
            for case in cases:
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
