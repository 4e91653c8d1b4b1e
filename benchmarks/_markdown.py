"""A report as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

Record = dict[str, Any]
Report = dict[str, Any]


def seconds(value: float) -> str:
    """Write a duration with three digits and its unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 999.5 * scale else f"{value:.0f} s"
    return f"{value * 1e9:.3g} ns"


def size(value: float) -> str:
    """Write a number of bytes."""
    return f"{value / 1e6:.0f} MB" if value >= 1e7 else f"{value / 1e6:.1f} MB"


def rows(heading: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Write a table whose first column is text and whose others are numbers."""
    head = list(heading)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *map(list, body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _good(records: Iterable[Record]) -> list[Record]:
    return [one for one in records if "error" not in one]


def _grid(records: list[Record], of: Callable[[Record], str]) -> str:
    """Write a line a case and a column a shape."""
    shapes = dict.fromkeys(one["shape"] for one in records)
    body = []
    for name in dict.fromkeys(one["line"] for one in records):
        cells = {one["shape"]: of(one) for one in records if one["line"] == name}
        body.append([name, *(cells.get(shape, "–") for shape in shapes)])
    return rows(["", *shapes], body)


def _ratio(one: Record) -> str:
    found, wanted = one["peers"][0]["ratio"], one["goal"]
    text = f"{found['median']:.2f}"
    if wanted is None:
        return text
    return f"**{text}** ≤ {wanted:g}" if found["median"] <= wanted else f"{text} > {wanted:g}"


def table(report: Report) -> str:
    """Write the ratios beside their goals; bold where the goal is met."""
    return _grid(_good(report["sections"]["table"]), _ratio)


def spreads(report: Report) -> str:
    """Write the quartiles of the rounds' ratios."""
    return _grid(
        _good(report["sections"]["table"]),
        lambda one: "{q1:.2f}–{q3:.2f}".format(**one["peers"][0]["ratio"]),
    )


def times(report: Report) -> str:
    """Write the medians: ours / the peer's."""
    return _grid(
        _good(report["sections"]["table"]),
        lambda one: f"{seconds(one['ours']['median'])} / {seconds(one['peers'][0]['median'])}",
    )


def floor(one: Record, limits: Record) -> float:
    """Give the seconds below which nothing goes: a copy of the logits, or one exp an element."""
    copied = float(one["copy"]["median"])
    if one["device"] != "cpu":
        return copied
    dtype = one["dtype"] if one["dtype"] == "float64" else "float32"
    return max(copied, limits["exp_seconds"][dtype] * one["elements"] / limits["threads"])


def floors(report: Report) -> str:
    """Write how many times the floor each line takes, and its peer."""
    (limits,) = _good(report["sections"]["limits"])

    def of(one: Record) -> str:
        least = floor(one, limits)
        return f"{one['ours']['median'] / least:.1f} / {one['peers'][0]['median'] / least:.1f}"

    return _grid(_good(report["sections"]["table"]), of)


def bandwidth(report: Report) -> str:
    """Write the share of the measured copy bandwidth that each line reaches, in percent."""
    return _grid(
        _good(report["sections"]["table"]),
        lambda one: f"{100 * one['copy']['median'] / one['ours']['median']:.0f}%",
    )


def others(report: Report) -> str:
    """Write the ratios to further peers, a line for each."""
    found = [
        one | {"line": f"{one['line']} / {peer['name']}", "peers": [peer], "goal": None}
        for one in _good(report["sections"]["table"])
        for peer in one["peers"][1:]
    ]
    return _grid(found, _ratio)


def limits(report: Report) -> str:
    """Write what the host allows."""
    (one,) = _good(report["sections"]["limits"])
    giga = {
        name: f"{value / 1e9:.1f} GB/s"
        for name, value in one.items()
        if "second" in name and "exp" not in name
    }
    body = [
        ["memory read and written, 1 thread", giga["copy_1_thread_bytes_per_second"]],
        [f"memory read and written, threads: {one['threads']}", giga["copy_bytes_per_second"]],
        ["the same to new memory, 1 thread", giga["copy_to_new_memory_bytes_per_second"]],
    ]
    body += [
        [f"exp in cache, {dtype}, 1 thread", f"{1e-9 / value:.2f} G/s"]
        for dtype, value in one["exp_seconds"].items()
    ]
    return rows(["limit", "here"], body)


def memory(report: Report) -> str:
    """Write the peaks: in gradients for loss and gradient, in bytes for the loss alone."""
    found: dict[tuple[str, str], dict[str, Record]] = {}
    records = _good(report["sections"]["memory"])
    for one in records:
        found.setdefault((one["name"], one["device"]), {})[one["what"]] = one
    body = []
    for (name, device), by in found.items():
        both, loss = by.get("both"), by.get("loss")
        times = f"{both['bytes'] / both['gradient_bytes']:.2f}" if both else "–"
        body.append([
            name if device == "cpu" else f"{name}, {device}",
            size(both["bytes"]) if both else "–", times, size(loss["bytes"]) if loss else "–",
        ])  # fmt: skip
    return rows(["", "loss and gradient", "in gradients", "loss alone"], body)


def linear(report: Report) -> str:
    """Write time and memory of the loss behind a linear layer."""
    body = []
    for one in _good(report["sections"]["linear"]):
        mine = one["ours"]
        body.append([one["line"], seconds(mine["median"]), "", _bytes(mine)])
        body += [
            [
                f"… {peer['name']}",
                seconds(peer["median"]),
                f"{peer['ratio']['median']:.2f}",
                _bytes(peer),
            ]
            for peer in one["peers"]
        ]
    return rows(["", "time", "ours / it", "extra memory"], body)


def _bytes(one: Record) -> str:
    return size(one["bytes"]) if "bytes" in one else "–"


def compiling(report: Report) -> str:
    """Write XLA's compile time over the number of rows."""
    records = _good(report["sections"]["compiling"])
    return rows(
        ["rows", *(str(one["rows"]) for one in records)],
        [["compile time", *(seconds(one["seconds"]) for one in records)]],
    )


def machine(report: Report) -> str:
    """Write what it was measured on."""
    about = report["machine"]
    known = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    devices = "".join(f"; {library}: {what}" for library, what in about["devices"].items())
    return (
        f"{about['processor']}, {about['processors']} processors, {about['memory_gb']} GB, "
        f"{about['system']}{devices}. {known}. {report['settings']['dtype']}."
    )


# block of the page -> (its heading in a report, the section that it needs, what writes it)
BLOCKS: Final[dict[str, tuple[str, str, Callable[[Report], str]]]] = {
    "machine": ("Machine", "", machine),
    "limits": ("Limits of the machine", "limits", limits),
    "table": ("Time, ours over the peer's, and the goal", "table", table),
    "spreads": ("The middle half of the rounds' ratios", "table", spreads),
    "times": ("Time of loss and gradient, ours / the peer's", "table", times),
    "floors": ("Multiples of the floor, ours / the peer's", "limits table", floors),
    "bandwidth": ("Share of the copy bandwidth", "table", bandwidth),
    "others": ("Further peers", "table", others),
    "memory": ("Extra memory at the peak", "memory", memory),
    "linear": ("Behind a linear layer", "linear", linear),
    "compiling": ("Compile time behind a linear layer, JAX", "compiling", compiling),
}


def blocks(report: Report) -> dict[str, str]:
    """Write every block whose sections have been measured."""
    measured = {name for name, records in report["sections"].items() if _good(records)}
    return {
        name: write(report)
        for name, (_, needs, write) in BLOCKS.items()
        if set(needs.split()) <= measured
    }


def to_markdown(report: Report) -> str:
    """Write the whole report."""
    parts = [
        f"## {BLOCKS[name][0]}\n\n{text}\n"
        for name, text in blocks(report).items()
        if text.count("\n") != 1
    ]
    return "\n".join(parts)
