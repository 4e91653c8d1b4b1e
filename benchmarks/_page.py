"""Writes a report's tables and pictures between the markers of a page of the documentation.

A block is everything between ``<!-- bench: name -->`` and ``<!-- bench: end -->``: a table of
`_tables.BLOCKS`, or one of the `PICTURES`. A page is always of one report: what was not measured
says so, and no figure of another day stays.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from xp_xent.benchmarks import _tables
from xp_xent.benchmarks._sections import FIRST_MEMORY, Report
from xp_xent.benchmarks._shapes import ITEM_BYTES

_BLOCK: Final = re.compile(r"(?ms)^<!-- bench: ((?!end)[\w-]+) -->\n.*?^<!-- bench: end -->$")
NOT_MEASURED: Final = "Not measured.\n"
# The same report gives the same file, and text stays text.
STYLE: Final = {"svg.hashsalt": "xp_xent", "svg.fonttype": "none", "legend.frameon": False,
                "legend.fontsize": 7, "lines.markersize": 3, "lines.linewidth": 1.2}  # fmt: skip


def ratios(report: Report, figure: Any) -> None:
    """Draw the table: ours over the peer's, the middle half of the rounds, and the goals."""
    found, axes = _tables.beside(report, "table"), figure.subplots()
    lines, shapes = list(found["line"].unique()), list(found["shape"].unique())
    width = 0.8 / len(lines)
    for at, (name, one) in enumerate(found.groupby("line", sort=False)):
        x = one["shape"].map(shapes.index) + (at - (len(lines) - 1) / 2) * width
        axes.bar(x, one["ratio"] - 1, width * 0.9, bottom=1, label=name)
        axes.vlines(x, one["ratio_q1"], one["ratio_q3"], color="0.2", linewidth=1)
        half = width * 0.45
        axes.hlines(one["goal"].astype(float), x - half, x + half, color="0", linewidth=1.5)
    axes.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", ylabel="time, ours / the peer's (a black line is the goal)")
    axes.set_xticks(range(len(shapes)), shapes, fontsize=7)
    axes.legend()


def threads(report: Report, figure: Any) -> None:
    """Draw the time over the number of threads, a panel a shape."""
    by_shape = list(_tables.frame(report, "threads").groupby("shape", sort=False))
    panels = figure.subplots(1, len(by_shape), squeeze=False)[0]
    for axes, (shape, found) in zip(panels, by_shape, strict=True):
        for who, one in found.groupby("who", sort=False):
            bars = 1e3 * np.stack([one["median"] - one["q1"], one["q3"] - one["median"]])
            axes.errorbar(one["threads"], 1e3 * one["median"], bars, fmt="o-", capsize=2, label=who)
        axes.set(xticks=found["threads"].unique(), xlabel="threads", title=shape)
        axes.set(ylabel="milliseconds", ylim=(0, None))
        axes.legend()


def curve(name: str, title: str, report: Report, figure: Any) -> None:
    """Draw time and memory over the number of elements, both axes logarithmic."""
    found = _tables.frame(report, "scaling").query("curve == @name")
    found = found.drop_duplicates(["who", "device", "elements"])
    host = _tables.beside(report, "scaling").query("curve == @name and device == 'cpu'")
    host = host.drop_duplicates("elements")
    large = host[host["elements"] >= FIRST_MEMORY]
    floors = {
        "the floor": (host["elements"], host.get("floor")),
        "the gradient": (large["elements"], large["elements"] * large["dtype"].map(ITEM_BYTES)),
    }
    panels = zip(figure.subplots(1, 2), ("median", "bytes"), floors.items(), strict=True)
    for axes, what, (label, (x, y)) in panels:
        for (who, device), one in found.dropna(subset=what).groupby(["who", "device"], sort=False):
            style = "s--" if one["peer"].iloc[0] else "o-"
            known = who if device == "cpu" else f"{who}, {device}"
            axes.plot(one["elements"], one[what], style, label=known)
        if y is not None:
            axes.plot(x, y, ":", color="0.5", label=label)
        if any(len(line.get_xdata()) for line in axes.lines):  # a quick run has no memory
            axes.set(xscale="log", yscale="log")
        seconds = "seconds, loss and gradient" if what == "median" else "bytes at the peak"
        axes.set(xlabel="elements", ylabel=seconds, title=title)
        axes.grid(visible=True, which="major", color="0.9")
        axes.legend()


# name -> the section that it needs, what draws it, and what it shows
PICTURES: Final[dict[str, tuple[str, Any, str]]] = {
    "ratios": ("table", ratios,
               "Time over the peer's, by shape and library: bars that hang below 1 are faster."),
    "threads": ("threads", threads, "Time over the number of threads, for three shapes."),
    "scaling-rows": ("scaling", partial(curve, "rows", "1000 classes, more rows"),
                     "Time and memory over the number of elements, with 1000 classes."),
    "scaling-classes": ("scaling", partial(curve, "classes", "64 rows, more classes"),
                        "Time and memory over the number of elements, with 64 rows."),
}  # fmt: skip


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """Draw every picture whose section has been measured: its name and its file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = {}
    for name, (section, drawing, _) in PICTURES.items():
        if not _tables.frame(report, section).empty:
            folder.mkdir(parents=True, exist_ok=True)
            with rc_context(STYLE):
                figure = Figure((9.0, 4.0), layout="constrained")
                drawing(report, figure)
                written[name] = folder / f"{name}.svg"
                figure.savefig(written[name], metadata={"Date": None})
    return written


def names(text: str) -> list[str]:
    """List the blocks of a page; ValueError if it has unknown ones, or none."""
    found = _BLOCK.findall(text)
    unknown = set(found) - set(_tables.BLOCKS) - set(PICTURES)
    if unknown or not found:
        raise ValueError(f"the page has unknown blocks: {sorted(unknown)}" if found else "no block")
    return found


def filled(text: str, report: Report, pictures: dict[str, str]) -> str:
    """Replace the content of every block; `pictures` maps names to addresses."""
    content = {name: f"{table}\n" for name, table in _tables.blocks(report).items()}
    content |= {name: f"![{PICTURES[name][2]}]({path})\n" for name, path in pictures.items()}

    def block(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- bench: {name} -->\n{content.get(name, NOT_MEASURED)}<!-- bench: end -->"

    return _BLOCK.sub(block, text)


def write(page: Path, report: Report) -> None:
    """Write the page, and its pictures into the folder of its name beside it."""
    drawn = draw(report, page.with_suffix(""))
    addresses = {name: path.relative_to(page.parent).as_posix() for name, path in drawn.items()}
    page.write_text(filled(page.read_text("utf-8"), report, addresses), encoding="utf-8")
