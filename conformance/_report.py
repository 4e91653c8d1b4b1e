"""Write reports of subjects as JSON, Markdown and one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

import numpy as np

from xp_xent.conformance._checks import Check
from xp_xent.conformance._load import Expected, Host, Vector
from xp_xent.conformance._result import (
    BY_DESIGN,
    FAILED,
    PASSED,
    UNSUPPORTED,
    Report,
    Result,
)
from xp_xent.conformance._run import every
from xp_xent.conformance._subject import Answer, Subject

FORMAT_VERSION = 1
KEYS = {PASSED: "passed", FAILED: "failed", UNSUPPORTED: "unsupported", BY_DESIGN: "by_design"}
EXAMPLES = 3  # tests of a topic and its flags that Markdown lists
LONGEST = 24  # numbers of an array that are shown
DIGITS = {"float16": 5, "bfloat16": 4, "float32": 9, "float64": 17}
Summary = dict[str, Any]


# What a report says, as plain data


def _number(x: float) -> Any:
    return x if math.isfinite(x) else str(x)


def _array(array: np.ndarray[Any, Any], dtype: str) -> dict[str, Any]:
    flat = array.ravel()[:LONGEST].tolist()
    digits = DIGITS.get(dtype)
    data = [f"{x:.{digits}g}" if digits else str(x) for x in flat]
    return {"dtype": dtype, "shape": list(array.shape), "data": data, "size": int(array.size)}


def _shown(value: Any) -> Any:
    if isinstance(value, Host | Answer):
        return _array(value.array, value.dtype)
    if isinstance(value, Expected):
        allowed = [f"{x:g}" for x in value.ulps.ravel()[:LONGEST].tolist()]
        return _array(value.data, value.dtype) | {"ulps": allowed}
    return str(value)


def _case(case: Vector | Check) -> dict[str, Any]:
    """Say what a test is about."""
    said = {
        "function": case.function,
        "dtype": case.dtype,
        "topic": case.topic,
        "comment": case.comment,
        "flags": list(case.flags),
    }
    if isinstance(case, Check):
        return said
    given = {**case.arguments, **case.options}
    if case.cotangent is not None:
        given["cotangent"] = case.cotangent
    results = {"value": case.value, "gradient": case.gradient}
    expected = {name: _shown(x) for name, x in results.items() if x is not None}
    if case.raises:
        expected["raises"] = case.raises
    return said | {"inputs": {name: _shown(x) for name, x in given.items()}, "expected": expected}


def _result(result: Result) -> dict[str, Any]:
    said: dict[str, Any] = {"id": result.case_id, "outcome": KEYS[result.outcome]}
    if result.ulps is not None:
        said["ulps"] = _number(float(f"{result.ulps:.3g}"))
    if result.reason:
        said["reason"] = result.reason
    if result.outcome in (FAILED, BY_DESIGN):
        said["kind"] = result.kind
        said["got"] = {name: _shown(answer) for name, answer in result.got.items()}
    return said


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cells(results: Sequence[Result], topics: Mapping[str, str]) -> dict[str, Any]:
    """Count by topic, with the largest error."""
    cells: dict[str, Any] = {}
    for result in results:
        empty = dict.fromkeys(KEYS.values(), 0) | {"ulps": None}
        cell = cells.setdefault(topics[result.case_id], empty)
        cell[KEYS[result.outcome]] += 1
        if result.ulps is not None and result.outcome in (PASSED, FAILED):
            known = -1.0 if cell["ulps"] is None else float(cell["ulps"])
            cell["ulps"] = _number(float(f"{max(known, result.ulps):.3g}"))
    return cells


def _subject(subject: Subject, results: Sequence[Result], topics: Mapping[str, str]) -> Summary:
    count = {key: sum(r.outcome == outcome for r in results) for outcome, key in KEYS.items()}
    return {
        "name": subject.name,
        "backend": subject.backend,
        "gradients": bool(subject.gradients),
        "dtypes": list(subject.dtypes or ()),
        "versions": _versions(subject.packages),
        "counts": count,
        "topics": _cells(results, topics),
        "results": [_result(result) for result in results],
    }


def summary(reports: Iterable[Report], absent: Mapping[str, str] | None = None) -> Summary:
    """Bring reports into one, as data that JSON can hold.

    Parameters
    ----------
    reports : iterable of Report
    absent : mapping of str to str, optional
        Who could not be asked, and why.

    Returns
    -------
    dict
    """
    reports = list(reports)
    cases = {case.id: case for case in every()}
    asked = {r.case_id for report in reports for r in report.results}
    topics = {name: cases[name].topic for name in cases if name in asked}
    wrong = {
        r.case_id for report in reports for r in report.results if r.outcome in (FAILED, BY_DESIGN)
    }
    notes = json.loads((files("xp_xent.conformance") / "flags.json").read_text(encoding="utf-8"))
    return {
        "formatVersion": FORMAT_VERSION,
        "topics": list(dict.fromkeys(topics.values())),
        "numberOfTests": len(asked),
        "subjects": [_subject(r.subject, r.results, topics) for r in reports],
        "absent": dict(absent or {}),
        "cases": {name: _case(cases[name]) for name in cases if name in wrong},
        "notes": {flag: notes[flag] for name in cases if name in wrong
                  for flag in cases[name].flags if flag in notes},
    }  # fmt: skip


def merged(first: Summary, second: Summary) -> Summary:
    """Add the subjects of another report, of another machine or another process."""
    names = {subject["name"] for subject in first["subjects"]}
    more = [subject for subject in second["subjects"] if subject["name"] not in names]
    names |= {subject["name"] for subject in more}
    return first | {
        "subjects": [*first["subjects"], *more],
        "topics": list(dict.fromkeys([*first["topics"], *second["topics"]])),
        "numberOfTests": max(first["numberOfTests"], second["numberOfTests"]),
        "cases": second["cases"] | first["cases"],
        "notes": second["notes"] | first["notes"],
        "absent": {k: v for k, v in (second["absent"] | first["absent"]).items()
                   if not any(name.startswith(k) for name in names)},
    }  # fmt: skip


# Ways to write it

LEGEND = (
    "A cell has the tests that passed / that were taken, and the largest error in ULP; "
    "“–”: nothing that the subject takes."
)


def to_json(said: Summary) -> str:
    """Write everything, one line."""
    return json.dumps(said, ensure_ascii=False) + "\n"


def ulps_text(ulps: Any) -> str:
    """Write a largest error shortly."""
    if ulps is None:
        return ""
    x = float(ulps)
    if not math.isfinite(x):
        return "∞"
    return f"{x:.3g}" if x < 1e4 else f"{x:.0e}".replace("e+0", "e").replace("e+", "e")


def words(topic: str) -> str:
    """Write a topic as a heading."""
    return topic.replace("_", " ")


def to_markdown(said: Summary) -> str:
    """Write the table, and examples of what was wrong."""
    topics = said["topics"]
    lines = [
        "# Conformance",
        "",
        f"{said['numberOfTests']} tests. {LEGEND}",
        "",
        "| subject | passed | failed | by design | unsupported | "
        + " | ".join(words(topic) for topic in topics) + " |",
        "|" + " --- |" * (5 + len(topics)),
    ]  # fmt: skip
    for subject in said["subjects"]:
        counts = subject["counts"]
        cells = [_markdown_cell(subject["topics"].get(topic)) for topic in topics]
        numbers = [str(counts[k]) for k in ("passed", "failed", "by_design", "unsupported")]
        lines.append("| " + " | ".join([subject["name"], *numbers, *cells]) + " |")
    lines += ["", "Versions: " + "; ".join(_versions_text(s) for s in said["subjects"]) + "."]
    absent = [f"{name} ({why})" for name, why in said["absent"].items()]
    lines += ["", "Not asked: " + "; ".join(absent) + "."] if absent else []
    for subject in said["subjects"]:
        lines += _markdown_failures(subject, said)
    return "\n".join(lines) + "\n"


def _versions_text(subject: Summary) -> str:
    return f"{subject['name']}: " + ", ".join(f"{k} {v}" for k, v in subject["versions"].items())


def _markdown_cell(cell: Mapping[str, Any] | None) -> str:
    taken = sum(cell[k] for k in ("passed", "failed", "by_design")) if cell else 0
    if not cell or not taken:
        return "–"
    ulps = f", {ulps_text(cell['ulps'])}" if cell["ulps"] is not None else ""
    return f"{cell['passed']}/{taken}{ulps}"


def _markdown_failures(subject: Summary, said: Summary) -> list[str]:
    """List what was wrong by topic and flags, with a few examples of each."""
    lines: list[str] = []
    for outcome, title in (("failed", "fails"), ("by_design", "differs by design")):
        groups: dict[tuple[str, ...], list[Summary]] = {}
        for result in subject["results"]:
            if result["outcome"] == outcome:
                case = said["cases"][result["id"]]
                groups.setdefault((case["topic"], *case["flags"]), []).append(result)
        lines += ["", f"## {subject['name']} {title}", ""] if groups else []
        for (topic, *flags), results in groups.items():
            links = [x for flag in flags for x in said["notes"].get(flag, {}).get("links", [])]
            about = ", ".join([words(topic), *flags])
            bugs = [f"[{_bug(link)}]({link})" for link in links]
            lines.append(f"- {len(results)} × {about}" + (f" ({', '.join(bugs)})" if bugs else ""))
            for result in results[:EXAMPLES]:
                reason = result["reason"].replace("<", "&lt;").replace("`", "'")
                lines.append(f"  - `{result['id']}`: {reason}")
    return lines


def _bug(link: str) -> str:
    """Shorten a link to an issue: repository#number."""
    parts = link.rstrip("/").split("/")
    return f"{parts[-3]}#{parts[-1]}" if parts[-2] in ("issues", "pull") else parts[-1]


def to_html(said: Summary) -> str:
    """Write one page that needs nothing else.

    Raises
    ------
    ImportError
        jinja2 is not installed.
    """
    import jinja2

    text = (files("xp_xent.conformance") / "report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"ulps": ulps_text, "heat": heat, "words": words}
    shown = said | {"subjects": [_without_passed(subject) for subject in said["subjects"]]}
    data = json.dumps(shown, ensure_ascii=False).replace("</", "<\\/")
    return environment.from_string(text).render(said=said, data=data)


def _without_passed(subject: Summary) -> Summary:
    kept = [r for r in subject["results"] if r["outcome"] in ("failed", "by_design")]
    return subject | {"results": kept}


def heat(cell: Mapping[str, Any]) -> str:
    """Give the class of a cell's colour: by the largest error, and whether anything failed."""
    taken = cell["passed"] + cell["failed"] + cell["by_design"]
    if not taken:
        return "none"
    ulps = float(cell["ulps"] or 0.0)
    level = 4 if not math.isfinite(ulps) else min(4, int(math.log10(max(ulps, 1.0)) / 1.7))
    if cell["failed"]:
        return f"bad{level}"
    return f"good{min(level, 2)}" if cell["passed"] else "design"
