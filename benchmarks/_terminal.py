"""A report in a terminal: a line a cell, for grids are wider than most windows."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from xp_xent.benchmarks import _markdown
from xp_xent.benchmarks._text import EMPTY, beside_copy, floor, good, seconds

Report = dict[str, Any]
# Blocks that the list of cells says already
IN_CELLS: Final = ("table", "spreads", "times", "floors", "bandwidth", "others")


def cells(report: Report) -> Table:
    """List the cells of the table of times."""
    limits = good(report["sections"].get("limits", []))
    table = Table(box=None)
    for heading in ("", "shape", "peer"):
        table.add_column(heading)
    for heading in ("ours", "peer's", "ratio", "middle half", "goal", "× floor"):
        table.add_column(heading, justify="right")
    for one in beside_copy(report["sections"]["table"]):
        for peer in one["peers"]:
            found, goal = peer["ratio"], one["goal"] if peer is one["peers"][0] else None
            least = floor(one, limits[0]) if limits else None
            missed = goal is not None and found["median"] > goal
            table.add_row(
                one["case"] if one["device"] == "cpu" else f"{one['case']}, {one['device']}",
                one["shape"], peer["name"], seconds(one["ours"]["median"]),
                seconds(peer["median"]), f"{found['median']:.2f}",
                f"{found['q1']:.2f}–{found['q3']:.2f}", "" if goal is None else f"{goal:g}",
                f"{one['ours']['median'] / least:.1f}" if least else "",
                style="yellow" if missed else None,
            )  # fmt: skip
    return table


def show(report: Report, console: Console) -> None:
    """Print every block that has content."""
    for name, text in _markdown.blocks(report).items():
        if name == "table":
            console.print(cells(report))
        elif name not in IN_CELLS and text != EMPTY:
            console.print(Markdown(f"## {_markdown.BLOCKS[name][0]}\n\n{text}\n"))
