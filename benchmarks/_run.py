"""A run: every measurement of the chosen sections, and one JSON document of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from xp_xent.benchmarks import _machine
from xp_xent.benchmarks._sections import SECTIONS, Settings, Task

Report = dict[str, Any]
FORMAT: Final = 1


def plan(settings: Settings, sections: Iterable[str]) -> dict[str, list[Task]]:
    """List the measurements of each section."""
    return {name: SECTIONS[name](settings) for name in sections}


def execute(
    settings: Settings, tasks: dict[str, list[Task]], say: Callable[[str | None], None]
) -> Report:
    """Measure everything; one that fails is recorded with its error, and the others go on.

    An interrupt ends the run, and what was measured before it is kept.

    Parameters
    ----------
    settings : Settings
        What was asked for.
    tasks : dict of str to list of Task
        From `plan`.
    say : callable
        Told the label of each task before it, and None after it.
    """
    report: Report = {
        "format": FORMAT,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine.describe(),
        "settings": {
            "dtype": settings.dtype, "quick": settings.quick, "seconds": settings.effort.seconds,
            "least_rounds": settings.effort.least,
        },
        "sections": {},
    }  # fmt: skip
    try:
        for name, listed in tasks.items():
            records = report["sections"][name] = []
            for task in listed:
                say(task.label)
                records.append(_record(task))
                say(None)
    except KeyboardInterrupt:
        report["interrupted"] = True
    return report


def _record(task: Task) -> dict[str, Any]:
    try:
        return task.measure()
    except Exception as error:  # noqa: BLE001 (a library's own errors are of any kind)
        return {"label": task.label, "error": f"{type(error).__name__}: {error}"}


def errors(report: Report) -> list[str]:
    """List what went wrong."""
    return [
        f"{one['label']}: {one['error']}"
        for records in report["sections"].values()
        for one in records
        if "error" in one
    ]


def missed(report: Report) -> list[str]:
    """List what is above its goal: times, peaks of memory, and the loss behind a linear layer."""
    sections, found = report["sections"], []
    for one in sections.get("table", ()):
        if one.get("goal") is not None:
            name = f"{one['line']}, {one['shape']}"
            found.append((name, one["peers"][0]["ratio"]["median"], one["goal"]))
    for one in sections.get("memory", ()):
        if one.get("goal") is not None:
            unit = one["gradient_bytes"] if one["what"] == "both" else 1
            found.append(
                (f"memory, {one['name']}, {one['what']}", one["bytes"] / unit, one["goal"])
            )
    for one in sections.get("linear", ()):
        for what, goal in (one.get("goal") or {}).items():
            value = one["peers"][0]["ratio"]["median"] if what == "ratio" else one["ours"].get(what)
            if value is not None:
                found.append((f"linear, {one['line']}, {what}", value, goal))
    return [f"{name}: {value:.4g}, goal {goal:g}" for name, value, goal in found if value > goal]


def merged(report: Report, earlier: Report) -> Report:
    """Add the sections of an earlier run of the same machine that this one did not measure.

    Raises
    ------
    ValueError
        The earlier report is of another format or another machine.
    """
    if earlier.get("format") != FORMAT:
        raise ValueError(f"format {earlier.get('format')!r}, wanted {FORMAT}")
    same = ("processor", "processors", "versions")
    for key in same:
        if earlier["machine"][key] != report["machine"][key]:
            raise ValueError(f"it was measured elsewhere: another {key}")
    if earlier["settings"]["dtype"] != report["settings"]["dtype"]:
        raise ValueError(f"it is of {earlier['settings']['dtype']}")
    measured = {name: records for name, records in report["sections"].items() if records}
    return report | {"sections": earlier["sections"] | measured}


def to_json(report: Report) -> str:
    """Write the report for machines."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"
