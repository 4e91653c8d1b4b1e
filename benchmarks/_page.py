"""Writes a report's tables and pictures between the markers of a page of the documentation.

A block is everything between ``<!-- bench: name -->`` and ``<!-- bench: end -->``: a table of
`_tables.BLOCKS`, or a picture of `_plots.draw`. A page is always of one report: what was not
measured says so, and no figure of another day stays.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from xp_xent.benchmarks import _plots, _tables
from xp_xent.benchmarks._report import Report

_BLOCK: Final = re.compile(
    r"^<!-- bench: (?P<name>(?!end)[\w-]+) -->\n(?P<text>.*?)^<!-- bench: end -->$",
    re.MULTILINE | re.DOTALL,
)
ALT: Final = {  # what each picture of `_plots.PICTURES` shows
    "ratios": "Time over the peer's, by shape and library: bars that hang below 1 are faster.",
    "threads": "Time over the number of threads, for three shapes.",
    "scaling-rows": "Time and memory over the number of elements, with 1000 classes.",
    "scaling-classes": "Time and memory over the number of elements, with 64 rows.",
}
NOT_MEASURED: Final = "Not measured.\n"


def names(text: str) -> list[str]:
    """List the blocks of a page; ValueError if it has unknown ones, or none."""
    found = [found["name"] for found in _BLOCK.finditer(text)]
    unknown = set(found) - set(_tables.BLOCKS) - set(ALT)
    if unknown or not found:
        raise ValueError(f"the page has unknown blocks: {sorted(unknown)}" if found else "no block")
    return found


def filled(text: str, report: Report, pictures: dict[str, str]) -> str:
    """Replace the content of every block; `pictures` maps names to addresses."""
    content = {name: f"{table}\n" for name, table in _tables.blocks(report).items()}
    content |= {name: f"![{ALT[name]}]({path})\n" for name, path in pictures.items()}

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- bench: {name} -->\n{content.get(name, NOT_MEASURED)}<!-- bench: end -->"

    return _BLOCK.sub(block, text)


def write(page: Path, report: Report) -> list[Path]:
    """Write the page, and its pictures into the folder of its name beside it."""
    drawn = _plots.draw(report, page.with_suffix(""))
    addresses = {name: path.relative_to(page.parent).as_posix() for name, path in drawn.items()}
    page.write_text(filled(page.read_text("utf-8"), report, addresses), encoding="utf-8")
    return [page, *drawn.values()]
