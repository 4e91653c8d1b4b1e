"""Numbers with units, and Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Record = dict[str, Any]


def seconds(value: float) -> str:
    """Write a duration with three digits and its unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def size(value: float) -> str:
    """Write a number of bytes."""
    return f"{value / 1e6:.0f} MB" if value >= 1e7 else f"{value / 1e6:.1f} MB"


def rows(heading: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Write a table whose first column is text and whose others are numbers."""
    head, listed = list(heading), list(map(list, body))
    if not listed:
        return EMPTY
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *listed]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def against(text: str, value: float, goal: float | None, named: str | None = None) -> str:
    """Write a value beside its goal: bold if it is met."""
    if goal is None:
        return text
    named = f"{goal:g}" if named is None else named
    return f"**{text}** ≤ {named}" if value <= goal else f"{text} > {named}"


EMPTY = "None."


def good(records: Iterable[Record]) -> list[Record]:
    """Leave out the measurements that failed."""
    return [one for one in records if "error" not in one]


def beside_copy(records: Iterable[Record]) -> list[Record]:
    """Leave out what failed, and give the others the fastest copy of their size that there was."""
    kept = good(records)
    fastest: dict[tuple[Any, ...], Record] = {}
    for one in kept:
        key, copy = (one["elements"], one["device"], one["dtype"]), one["copy"]
        if key not in fastest or copy["median"] < fastest[key]["median"]:
            fastest[key] = copy
    return [one | {"copy": fastest[one["elements"], one["device"], one["dtype"]]} for one in kept]


def grid(records: list[Record], of: Callable[[Record], str]) -> str:
    """Write a line a case and a column a shape."""
    shapes = dict.fromkeys(one["shape"] for one in records)
    body = []
    for name in dict.fromkeys(one["line"] for one in records):
        cells = {one["shape"]: of(one) for one in records if one["line"] == name}
        body.append([name, *(cells.get(shape, "–") for shape in shapes)])
    return rows(["", *shapes], body)


def floor(one: Record, limits: Record) -> float:
    """Give the seconds below which nothing goes: a copy of the logits, or one exp an element."""
    copied = float(one["copy"]["median"])
    if one["device"] != "cpu":
        return copied
    dtype = one["dtype"] if one["dtype"] == "float64" else "float32"
    return max(copied, limits["exp_seconds"][dtype] * one["elements"] / limits["threads"])
