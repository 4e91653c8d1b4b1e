"""A report as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from xp_xent.benchmarks._scaling import FIRST_MEMORY
from xp_xent.benchmarks._shapes import ITEM_BYTES
from xp_xent.benchmarks._text import beside_copy, floor, good

Record = dict[str, Any]
Report = dict[str, Any]
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WIDTH, HEIGHT = 9.0, 4.0
TITLES: Final = {"rows": "1000 classes, more rows", "classes": "64 rows, more classes"}


def _figure(panels: int) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The same report gives the same file, and text stays text.
    with rc_context({"svg.hashsalt": "xp_xent", "svg.fonttype": "none"}):
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "xp_xent", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    return path


def _series(records: list[Record]) -> Iterator[tuple[str, list[Record], bool]]:
    """Give each side of each line, and whether it is ours; a peer of two lines comes once."""
    seen = set()
    for name in dict.fromkeys(one["line"] for one in records):
        mine = [one for one in records if one["line"] == name]
        where = "" if mine[0]["device"] == "cpu" else f", {mine[0]['device']}"
        points = [one["ours"] | {"elements": one["elements"]} for one in mine]
        yield f"{points[0]['name']}{where}", points, True
        peer = f"{mine[0]['peers'][0]['name']}{where}"
        if peer not in seen:
            seen.add(peer)
            yield peer, [one["peers"][0] | {"elements": one["elements"]} for one in mine], False


def curve(report: Report, name: str, path: Path) -> Path:
    """Draw time and memory over the number of elements, both axes logarithmic."""
    records = [one for one in beside_copy(report["sections"]["scaling"]) if one["curve"] == name]
    figure, (time, memory) = _figure(2)
    shades = iter(COLOURS * 2)
    for label, points, mine in _series(records):
        style: dict[str, Any] = {
            "color": next(shades), "marker": "o" if mine else "s", "markersize": 3,
            "linestyle": "-" if mine else "--", "linewidth": 1.2, "label": label,
        }  # fmt: skip
        time.plot([x["elements"] for x in points], [x["median"] for x in points], **style)
        known = [x for x in points if x.get("bytes")]
        if known:
            memory.plot([x["elements"] for x in known], [x["bytes"] for x in known], **style)
    on_host = [one for one in records if one["device"] == "cpu"]
    limits = good(report["sections"].get("limits", []))
    if limits and on_host:
        least = {one["elements"]: floor(one, limits[0]) for one in on_host}
        time.plot(list(least), list(least.values()), color="0.5", linestyle=":", label="the floor")
    one = {x["elements"]: x["elements"] * ITEM_BYTES[x["dtype"]] for x in on_host}
    one = {elements: size for elements, size in one.items() if elements >= FIRST_MEMORY}
    if one:
        memory.plot(list(one), list(one.values()), color="0.5", linestyle=":", label="the gradient")
    for axes, what in ((time, "seconds, loss and gradient"), (memory, "bytes at the peak")):
        axes.set(xlabel="elements", ylabel=what, title=TITLES[name])
        axes.grid(visible=True, which="major", color="0.9")
        if axes.lines:  # a quick run has no memory
            axes.set(xscale="log", yscale="log")
            axes.legend(fontsize=7, frameon=False)
    return _save(figure, path)


def threads(report: Report, path: Path) -> Path:
    """Draw the time over the number of threads, a panel a shape."""
    records = good(report["sections"]["threads"])
    figure, panels = _figure(len(records))
    for axes, one in zip(panels, records, strict=True):
        for shade, (label, by_count) in zip(COLOURS, one["seconds"].items(), strict=False):
            counts = [int(count) for count in by_count]
            middle = [1e3 * times["median"] for times in by_count.values()]
            low = [1e3 * (times["median"] - times["q1"]) for times in by_count.values()]
            high = [1e3 * (times["q3"] - times["median"]) for times in by_count.values()]
            axes.errorbar(
                counts, middle, yerr=[low, high], color=shade, marker="o", markersize=3,
                linewidth=1.2, capsize=2, label=label,
            )  # fmt: skip
        axes.set(xticks=counts, xlabel="threads", title=one["shape"], ylabel="milliseconds")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, frameon=False)
    return _save(figure, path)


def ratios(report: Report, path: Path) -> Path:
    """Draw the table: ours over the peer's, with the middle half of the rounds, and the goals.

    A bar hangs down from 1 where this library is faster.
    """
    records = good(report["sections"]["table"])
    lines = list(dict.fromkeys(one["line"] for one in records))
    shapes = list(dict.fromkeys(one["shape"] for one in records))
    figure, (axes,) = _figure(1)
    width = 0.8 / len(lines)
    for index, (name, shade) in enumerate(zip(lines, COLOURS * 2, strict=False)):
        for one in (one for one in records if one["line"] == name):
            at = shapes.index(one["shape"]) + (index - (len(lines) - 1) / 2) * width
            found = one["peers"][0]["ratio"]
            first = one["shape"] == shapes[0]
            label = name if first else None
            axes.bar(at, found["median"] - 1, width * 0.9, bottom=1, color=shade, label=label)
            axes.vlines(at, found["q1"], found["q3"], color="0.2", linewidth=1)
            if one["goal"] is not None:
                half = width * 0.45
                axes.hlines(one["goal"], at - half, at + half, color="0", linewidth=1.5)
    axes.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", ylabel="time, ours / the peer's (a black line is the goal)")
    axes.set_xticks(range(len(shapes)), shapes, fontsize=7)
    axes.legend(fontsize=7, frameon=False)
    return _save(figure, path)


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """Draw every picture whose sections have been measured: its name and its file."""
    sections, found = report["sections"], {}
    if good(sections.get("table", [])):
        found["ratios"] = ratios(report, folder / "ratios.svg")
    if good(sections.get("threads", [])):
        found["threads"] = threads(report, folder / "threads.svg")
    for name in TITLES:
        if any(one["curve"] == name for one in good(sections.get("scaling", []))):
            found[f"scaling-{name}"] = curve(report, name, folder / f"scaling-{name}.svg")
    return found
