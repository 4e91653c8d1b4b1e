"""A report's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pandas as pd

from xp_xent.benchmarks._report import Report, frame
from xp_xent.benchmarks._sections import FIRST_MEMORY
from xp_xent.benchmarks._shapes import ITEM_BYTES
from xp_xent.benchmarks._tables import beside

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TITLES: Final = {"rows": "1000 classes, more rows", "classes": "64 rows, more classes"}
# The same report gives the same file, and text stays text.
STYLE: Final = {"svg.hashsalt": "xp_xent", "svg.fonttype": "none", "legend.frameon": False,
                "legend.fontsize": 7, "lines.markersize": 3, "lines.linewidth": 1.2}  # fmt: skip


def ratios(report: Report, figure: Any) -> None:
    """Draw the table: ours over the peer's, the middle half of the rounds, and the goals.

    A bar hangs down from 1 where this library is faster.
    """
    found, axes = beside(report, "table"), figure.subplots()
    lines, shapes = list(found["line"].unique()), list(found["shape"].unique())
    width = 0.8 / len(lines)
    for (name, of_line), shade in zip(found.groupby("line", sort=False), COLOURS * 2, strict=False):
        at = of_line["shape"].map(shapes.index) + (lines.index(name) - (len(lines) - 1) / 2) * width
        axes.bar(at, of_line["ratio"] - 1, width * 0.9, bottom=1, color=shade, label=name)
        axes.vlines(at, of_line["ratio_q1"], of_line["ratio_q3"], color="0.2", linewidth=1)
        half = width * 0.45
        axes.hlines(of_line["goal"].astype(float), at - half, at + half, color="0", linewidth=1.5)
    axes.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", ylabel="time, ours / the peer's (a black line is the goal)")
    axes.set_xticks(range(len(shapes)), shapes, fontsize=7)
    axes.legend()


def threads(report: Report, figure: Any) -> None:
    """Draw the time over the number of threads, a panel a shape."""
    by_shape = list(frame(report, "threads").groupby("shape", sort=False))
    panels = figure.subplots(1, len(by_shape), squeeze=False)[0]
    for axes, (shape, found) in zip(panels, by_shape, strict=True):
        for shade, (who, one) in zip(COLOURS, found.groupby("who", sort=False), strict=False):
            low, high = one["median"] - one["q1"], one["q3"] - one["median"]
            bars = 1e3 * pd.concat([low, high], axis=1).to_numpy().T
            axes.errorbar(one["threads"], 1e3 * one["median"], bars, color=shade, marker="o",
                          capsize=2, label=who)  # fmt: skip
        axes.set(xticks=found["threads"].unique(), xlabel="threads", title=shape)
        axes.set(ylabel="milliseconds")
        axes.set_ylim(bottom=0)
        axes.legend()


def curve(report: Report, figure: Any, name: str) -> None:
    """Draw time and memory over the number of elements, both axes logarithmic."""
    found, ours = frame(report, "scaling"), beside(report, "scaling")
    found, ours = found[found["curve"] == name], ours[ours["curve"] == name]
    found = found.reindex(columns=found.columns.union(["bytes"]))
    by_way = found.drop_duplicates(["who", "device", "elements"]).groupby(
        ["who", "device"], sort=False
    )
    axes = figure.subplots(1, 2)
    for shade, ((who, device), one) in zip(COLOURS * 2, by_way, strict=False):
        style = "s--" if one["peer"].iloc[0] else "o-"
        label = who if device == "cpu" else f"{who}, {device}"
        for panel, what in zip(axes, ("median", "bytes"), strict=True):
            known = one.dropna(subset=what)
            panel.plot(known["elements"], known[what], style, color=shade, label=label)
    host = ours[ours["device"] == "cpu"].drop_duplicates("elements")
    if "floor" in host:
        axes[0].plot(host["elements"], host["floor"], ":", color="0.5", label="the floor")
    host = host[host["elements"] >= FIRST_MEMORY]
    gradient = host["elements"] * host["dtype"].map(ITEM_BYTES)
    axes[1].plot(host["elements"], gradient, ":", color="0.5", label="the gradient")
    for panel, what in zip(axes, ("seconds, loss and gradient", "bytes at the peak"), strict=True):
        panel.set(xlabel="elements", ylabel=what, title=TITLES[name])
        if any(len(drawn.get_xdata()) for drawn in panel.lines):  # a quick run has no memory
            panel.set(xscale="log", yscale="log")
        panel.grid(visible=True, which="major", color="0.9")
        panel.legend()


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """Draw every picture whose section has been measured: its name and its file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawings: dict[str, Any] = {"ratios": ratios, "threads": threads} | {
        f"scaling-{name}": lambda report, figure, name=name: curve(report, figure, name)
        for name in TITLES
    }
    sections = {"ratios": "table"} | dict.fromkeys(
        (f"scaling-{name}" for name in TITLES), "scaling"
    )
    written = {}
    for name, drawing in drawings.items():
        if frame(report, sections.get(name, "scaling")).empty:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with rc_context(STYLE):
            figure = Figure((9.0, 4.0), layout="constrained")
            drawing(report, figure)
            written[name] = folder / f"{name}.svg"
            figure.savefig(written[name], metadata={"Date": None})
    return written
