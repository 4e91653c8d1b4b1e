"""A run: every measurement of the chosen sections, and one JSON document of their records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pandas as pd
from rich.progress import Progress

from xp_xent.benchmarks import _machine
from xp_xent.benchmarks._sections import Settings, Task

Report = dict[str, Any]
FORMAT: Final = 2


def execute(settings: Settings, tasks: list[tuple[str, Task]], progress: Progress) -> Report:
    """Measure everything; one that fails is recorded with its error, and the others go on.

    An interrupt ends the run, and what was measured before it is kept.
    """
    asked = {"dtype": settings.dtype, "quick": settings.quick, "seconds": settings.effort.seconds}
    report: Report = {
        "format": FORMAT, "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine.describe(), "settings": asked, "sections": {},
    }  # fmt: skip
    bar = progress.add_task("", total=len(tasks))
    try:
        for name, task in tasks:
            progress.update(bar, description=task.label)
            records = report["sections"].setdefault(name, [])
            try:
                records += task.measure()
            except Exception as error:  # noqa: BLE001 (a library's own errors are of any kind)
                records.append({"label": task.label, "error": f"{type(error).__name__}: {error}"})
            progress.advance(bar)
    except KeyboardInterrupt:
        report["interrupted"] = True
    return report


def frame(report: Report, section: str) -> pd.DataFrame:
    """Return the records of a section that were measured; empty where there are none."""
    records = report["sections"].get(section, ())
    return pd.DataFrame([one for one in records if not {"error", "failed"} & set(one)])


def errors(report: Report) -> list[str]:
    """List what went wrong."""
    everything = [one for records in report["sections"].values() for one in records]
    return [f"{one['label']}: {one['error']}" for one in everything if "error" in one]


def missed(report: Report) -> list[str]:
    """List what is above its goal: times, peaks of memory, and the loss behind a linear layer."""
    found = []
    for section in ("table", "memory", "linear"):
        for one in frame(report, section).to_dict("records"):
            name = ", ".join(str(one[x]) for x in ("line", "who", "shape", "what") if x in one)
            value = one.get("ratio")
            if section == "memory":
                value = one["bytes"] / (one["gradient_bytes"] if one["what"] == "both" else 1)
            at_peak = (one.get("bytes"), one.get("bytes_goal") if one.get("peer") == 0 else None)
            for got, goal in ((value, one.get("goal")), at_peak):
                if pd.notna(goal) and pd.notna(got) and got > goal:
                    found.append(f"{section}, {name}: {got:.4g}, goal {goal:g}")
    return found


def merged(report: Report, earlier: Report) -> Report:
    """Add the sections of an earlier run of this machine that this one did not measure."""
    if earlier.get("format") != FORMAT:
        raise ValueError(f"format {earlier.get('format')!r}, wanted {FORMAT}")
    for about, key in (("machine", "processor"), ("machine", "versions"), ("settings", "dtype")):
        if earlier[about][key] != report[about][key]:
            raise ValueError(f"the earlier report was measured elsewhere: another {key}")
    measured = {name: records for name, records in report["sections"].items() if records}
    return report | {"sections": earlier["sections"] | measured}
