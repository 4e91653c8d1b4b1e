"""The table of docs/transforms.md: what a test registers is a row, and a row is a test."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from _forms import ALONE, FORMS, MAPS, Form
from _registry import Entry, entries, fullest

Check = Callable[[Entry], None]


@dataclass(frozen=True)
class Row:
    """A transform, in one framework: `without` says why a column has no test."""

    framework: str
    title: str
    once: str | None
    thin: bool = False
    without: Mapping[str, str] = field(default_factory=dict)
    half: int | None = None
    test: str = ""  # file::function

    @property
    def note(self) -> str | None:
        """What the page says of a row that has not each option alone, on each loss."""
        note = THINNED if self.thin else self.once
        return note if self.half is None else f"{note} {HALVED}"

    def has(self, form: Form) -> bool:
        """Whether the first tier asks this of a loss at all."""
        return self.half in (None, COLUMNS.index(column(form.function)) % 2)

    def drawn(self, form: Form) -> tuple[Entry, ...]:
        """Draw the first tier's cases of a loss.

        A row without a note has each option alone. Others have all options that go together, with
        one of the kinds of targets that the function takes and on one of the maps, and, where the
        row is thin, each alone option on one of the losses that have it. Whose turn it is, the
        transform's name decides: so each loss and each option meets each transform. Of two rows
        that compile for long, one has every second column, and the other the rest.
        """
        if self.note is None:
            return entries(form)
        if not self.has(form):
            return ()
        turn = zlib.crc32(f"{self.framework} {self.title}".encode())

        def has_turn(forms: list[Form]) -> bool:
            return forms[turn % len(forms)] is form

        alike = [f for f in FORMS if column(f.function) == column(form.function)]
        first = [fullest(form)] * has_turn(alike)
        if self.thin:
            alone = [name for name in form.options if name in ALONE]
            asked = [f for f in FORMS if self.has(f)]
            turns = [name for name in alone if has_turn([f for f in asked if name in f.options])]
            first += [case for case in entries(form) if case.option in turns]
        return tuple(first)

    def tiers(self, form: Form) -> list[Any]:
        """Give a loss's parameters: its cases of the first tier, and those that the second adds."""
        first = self.drawn(form)
        rest = entries(form) if self.thin else () if first else (fullest(form),)
        rest = tuple(case for case in rest if case.option not in {other.option for other in first})
        tiers = [pytest.param(first, id=form.name)] if first else []
        if rest and (not first or len(entries(form)) > 1):
            tiers += [pytest.param(rest, id=f"{form.name}-rest", marks=pytest.mark.full)]
        return tiers


ONCE = (
    "One call with all options that go together, to keep the tests short; rows without a note have "
    "each option alone. Of two kinds of targets, and of the maps, the first tier of tests has one."
)
THINNED = (
    "The first tier of tests has one call with all options that go together and one kind of "
    "targets, on one of the maps, and each *alone* option on one of the losses that have it; the "
    "second tier has each option alone on each loss."
)
HALVED = (
    "The first tier has every second column of it; another row that is compiled has the others."
)
TABLE: list[Row] = []
MODULES = {"mlx": "mlx.core"}  # what to import where it is not the framework's name
SINGLE: list[tuple[str, str]] = []  # framework, and what a test of no particular loss checks


def column(function: str) -> str:
    """Give the column of a public function: itself, or "maps"."""
    return "maps" if function in MAPS else function


COLUMNS = list(dict.fromkeys(column(form.function) for form in FORMS))


def transform(
    framework: str,
    title: str,
    *,
    once: str | None = None,
    thin: bool = False,
    without: Mapping[str, str] | None = None,
    half: int | None = None,
) -> Callable[[Check], Any]:
    """Make a check of one call a test of every loss, and a row of the table.

    It runs on every loss with every option, thinned in the first tier where it is `thin`; where a
    reason `once` is given, on every loss with all options at one time; and on no loss that is in
    `without`, which maps columns to reasons. Where it is one `half`, 0 or 1, the first tier has the
    columns of even or odd places.
    """
    row = Row(framework, title, once, thin, without or {}, half)

    def register(check: Check) -> Any:
        file = check.__module__.rpartition(".")[2]
        TABLE.append(replace(row, test=f"transforms/{file}.py::{check.__name__}"))
        forms = [form for form in FORMS if column(form.function) not in row.without]

        @pytest.mark.parametrize("cases", [tier for form in forms for tier in row.tiers(form)])
        def test(cases: Any) -> None:
            if framework != "closed":
                pytest.importorskip(MODULES.get(framework, framework))
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
