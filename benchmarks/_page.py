"""Writes a report's tables and pictures between the markers of a page of the documentation.

A block is everything between ``<!-- bench: name -->`` and ``<!-- bench: end -->``: a table of
`_markdown.BLOCKS`, or a picture of `_plots.draw`. A page is always of one report: what was not
measured says so, and no figure of another day stays.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from xp_xent.benchmarks import _markdown, _plots

Report = dict[str, Any]
_BLOCK: Final = re.compile(
    r"^<!-- bench: (?P<name>(?!end)[\w-]+) -->\n(?P<text>.*?)^<!-- bench: end -->$",
    re.MULTILINE | re.DOTALL,
)
PICTURES: Final = {
    "ratios": "Time over the peer's, by shape and library: bars that hang below 1 are faster.",
    "threads": "Time over the number of threads, for three shapes.",
    "scaling-rows": "Time and memory over the number of elements, with 1000 classes.",
    "scaling-classes": "Time and memory over the number of elements, with 64 rows.",
}
NOT_MEASURED: Final = "Not measured.\n"


def names(text: str) -> list[str]:
    """List the blocks of a page."""
    return [found["name"] for found in _BLOCK.finditer(text)]


def check(page: Path | None, pictures: Path | None) -> None:
    """See that a page can be filled and pictures drawn; ValueError if not."""
    if page is not None:
        filled(page.read_text(encoding="utf-8"), {"sections": {}}, {})
    if (page or pictures) and find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib, which is not installed")


def filled(text: str, report: Report, pictures: dict[str, str]) -> str:
    """Replace the content of every block.

    Parameters
    ----------
    text : str
        The page.
    report : dict
        What was measured.
    pictures : dict of str to str
        Name of a picture to its address, as the page sees it.

    Raises
    ------
    ValueError
        The page has a block of an unknown name, or none at all.
    """
    found = names(text)
    unknown = set(found) - set(_markdown.BLOCKS) - set(PICTURES)
    if unknown or not found:
        raise ValueError(f"the page has unknown blocks: {sorted(unknown)}" if found else "no block")
    content = {name: f"{table}\n" for name, table in _markdown.blocks(report).items()}
    content |= {name: f"![{PICTURES[name]}]({path})\n" for name, path in pictures.items()}

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- bench: {name} -->\n{content.get(name, NOT_MEASURED)}<!-- bench: end -->"

    return _BLOCK.sub(block, text)


def write(page: Path, report: Report) -> list[Path]:
    """Write the page, and its pictures into the folder of its name beside it."""
    folder = page.with_suffix("")
    text = page.read_text(encoding="utf-8")
    drawn = _plots.draw(report, folder)
    addresses = {name: path.relative_to(page.parent).as_posix() for name, path in drawn.items()}
    page.write_text(filled(text, report, addresses), encoding="utf-8")
    return [page, *drawn.values()]
