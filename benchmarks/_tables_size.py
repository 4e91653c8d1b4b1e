"""The tables of memory, of limits, and of what grows."""

from __future__ import annotations

import math
from typing import Any

from xp_xent.benchmarks._text import Record, against, good, rows, seconds, size

Report = dict[str, Any]


def limits(report: Report) -> str:
    """Write what the host allows."""
    (one,) = good(report["sections"]["limits"])
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
    records = good(report["sections"]["memory"])
    for one in records:
        found.setdefault((one["name"], one["device"]), {})[one["what"]] = one
    body = [
        [
            name if device == "cpu" else f"{name}, {device}",
            size(by["both"]["bytes"]) if "both" in by else "–",
            _gradients(by["both"]) if "both" in by else "–",
            _goal_of_bytes(by["loss"], by["loss"]["goal"]) if "loss" in by else "–",
        ]
        for (name, device), by in found.items()
    ]
    return rows(["", "loss and gradient", "in gradients", "loss alone"], body)


def _gradients(one: Record) -> str:
    times = one["bytes"] / one["gradient_bytes"]
    return against(f"{times:.2f}", times, one["goal"])


def _goal_of_bytes(one: Record, goal: float | None) -> str:
    if "bytes" not in one:
        return "–"
    return against(size(one["bytes"]), one["bytes"], goal, size(goal) if goal else None)


def linear(report: Report) -> str:
    """Write time and memory of the loss behind a linear layer; the first peer sets the goal."""
    body = []
    for one in good(report["sections"]["linear"]):
        mine, goal = one["ours"], one["goal"] or {}
        memory = _goal_of_bytes(mine, goal.get("bytes"))
        body.append([one["line"], seconds(mine["median"]), "", memory])
        for peer in one["peers"]:
            ratio = peer["ratio"]["median"]
            wanted = goal.get("ratio") if peer is one["peers"][0] else None
            against_it = against(f"{ratio:.2f}", ratio, wanted)
            cells = (seconds(peer["median"]), against_it, _goal_of_bytes(peer, None))
            body.append([f"… {peer['name']}", *cells])
    return rows(["", "time", "ours / it", "extra memory"], body)


def compiling(report: Report) -> str:
    """Write XLA's compile time over the number of rows."""
    records = good(report["sections"]["compiling"])
    return rows(
        ["rows", *(str(one["rows"]) for one in records)],
        [["compile time", *(seconds(one["seconds"]) for one in records)]],
    )


def threads(report: Report) -> str:
    """Write the times by number of threads."""
    records = good(report["sections"]["threads"])
    counts = list(dict.fromkeys(c for one in records for by in one["seconds"].values() for c in by))
    body = [
        [f"{who}, {one['shape']}", *(seconds(by[count]["median"]) for count in counts)]
        for one in records
        for who, by in one["seconds"].items()
    ]
    return rows(["threads", *counts], body)


def scaling(report: Report) -> str:
    """Write the nanoseconds an element along both curves, ours / the peer's."""
    records = good(report["sections"]["scaling"])
    powers = sorted({_power(one) for one in records})
    body = []
    for curve, name in dict.fromkeys((one["curve"], one["line"]) for one in records):
        cells = {
            _power(one): one for one in records if (one["curve"], one["line"]) == (curve, name)
        }
        body.append([f"{name}, more {curve}", *(_each(cells.get(power)) for power in powers)])
    return rows(["ns an element, at about", *(f"10^{power}" for power in powers)], body)


def _power(one: Record) -> int:
    return round(math.log10(one["elements"]))


def _each(one: Record | None) -> str:
    if one is None:
        return "–"
    both = (one["ours"]["median"], one["peers"][0]["median"])
    return " / ".join(f"{1e9 * value / one['elements']:.3g}" for value in both)


def large(report: Report) -> str:
    """Write what the file of more than 2^31 elements took."""
    body = [
        [
            one["shape"], f"{one['elements']:,}", seconds(one["seconds"]),
            size(one["file_bytes"]), size(one["bytes"]),
        ]
        for one in good(report["sections"]["large"])
    ]  # fmt: skip
    return rows(["float16 file", "elements", "loss", "file", "memory beside it"], body)
