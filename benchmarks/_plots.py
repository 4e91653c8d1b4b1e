"""A report's pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from xp_xent.benchmarks._report import Report, frame
from xp_xent.benchmarks._sections import FIRST_MEMORY
from xp_xent.benchmarks._shapes import ITEM_BYTES
from xp_xent.benchmarks._tables import beside

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
    by_shape = list(frame(report, "threads").groupby("shape", sort=False))
    panels = figure.subplots(1, len(by_shape), squeeze=False)[0]
    for axes, (shape, found) in zip(panels, by_shape, strict=True):
        for who, one in found.groupby("who", sort=False):
            bars = 1e3 * np.stack([one["median"] - one["q1"], one["q3"] - one["median"]])
            axes.errorbar(one["threads"], 1e3 * one["median"], bars, fmt="o-", capsize=2, label=who)
        axes.set(xticks=found["threads"].unique(), xlabel="threads", title=shape)
        axes.set(ylabel="milliseconds", ylim=(0, None))
        axes.legend()


def curve(name: str, report: Report, figure: Any) -> None:
    """Draw time and memory over the number of elements, both axes logarithmic."""
    found, ours = frame(report, "scaling"), beside(report, "scaling")
    found = found[found["curve"] == name].drop_duplicates(["who", "device", "elements"])
    found = found.reindex(columns=found.columns.union(["bytes"]))
    host = ours[(ours["curve"] == name) & (ours["device"] == "cpu")].drop_duplicates("elements")
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
        axes.set(xlabel="elements", ylabel=seconds, title=TITLES[name])
        axes.grid(visible=True, which="major", color="0.9")
        axes.legend()


PICTURES: Final[dict[str, tuple[str, Any]]] = {
    "ratios": ("table", ratios),
    "threads": ("threads", threads),
    **{f"scaling-{name}": ("scaling", partial(curve, name)) for name in TITLES},
}


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """Draw every picture whose section has been measured: its name and its file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = {}
    for name, (section, drawing) in PICTURES.items():
        if not frame(report, section).empty:
            folder.mkdir(parents=True, exist_ok=True)
            with rc_context(STYLE):
                figure = Figure((9.0, 4.0), layout="constrained")
                drawing(report, figure)
                written[name] = folder / f"{name}.svg"
                figure.savefig(written[name], metadata={"Date": None})
    return written
