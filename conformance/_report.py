"""What a report says, as plain data that JSON can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
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
from xp_xent.conformance._subject import Answer

FORMAT_VERSION = 1
KEYS = {PASSED: "passed", FAILED: "failed", UNSUPPORTED: "unsupported", BY_DESIGN: "by_design"}
LONGEST = 12  # numbers of an array that are shown
DIGITS = {"float16": 5, "bfloat16": 4, "float32": 9, "float64": 17}
Summary = dict[str, Any]


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
    if result.outcome == FAILED:
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


def _counts(results: Iterable[Summary]) -> dict[str, int]:
    outcomes = [result["outcome"] for result in results]
    return {key: outcomes.count(key) for key in KEYS.values()}


def _cells(results: Iterable[Summary]) -> dict[str, Any]:
    """Count by topic, with the largest error."""
    found: dict[str, list[Summary]] = {}
    for result in results:
        found.setdefault(_topics()[result["id"]], []).append(result)
    cells = {}
    for topic, own in found.items():
        judged = [r for r in own if r["outcome"] in ("passed", "failed")]
        errors = [float(r["ulps"]) for r in judged if "ulps" in r]
        cells[topic] = _counts(own) | {"ulps": _number(max(errors)) if errors else None}
    return cells


@cache
def _topics() -> dict[str, str]:
    return {case.id: case.topic for case in every()}


def _subject(report: Report) -> Summary:
    subject, results = report.subject, [_result(result) for result in report.results]
    return {
        "name": subject.name,
        "backend": subject.backend,
        "gradients": bool(subject.gradients),
        "dtypes": list(subject.dtypes or ()),
        "versions": _versions(subject.packages),
        "counts": _counts(results),
        "topics": _cells(results),
        "results": results,
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
        "subjects": [_subject(report) for report in reports],
        "absent": dict(absent or {}),
        "cases": {name: _case(cases[name]) for name in cases if name in wrong},
        "notes": {flag: notes[flag] for name in cases if name in wrong
                  for flag in cases[name].flags if flag in notes},
    }  # fmt: skip


def merged(first: Summary, second: Summary) -> Summary:
    """Add the subjects of another report, or the tests that a subject was not asked yet."""
    subjects = {subject["name"]: subject for subject in first["subjects"]}
    for other in second["subjects"]:
        own = subjects.get(other["name"])
        subjects[other["name"]] = other if own is None else _joined(own, other)
    absent = first["absent"] | second["absent"]
    return first | {
        "subjects": list(subjects.values()),
        "topics": list(dict.fromkeys([*first["topics"], *second["topics"]])),
        "numberOfTests": len({r["id"] for s in subjects.values() for r in s["results"]}),
        "cases": second["cases"] | first["cases"],
        "notes": second["notes"] | first["notes"],
        "absent": {name: why for name, why in absent.items() if name not in subjects},
    }


def _joined(own: Summary, other: Summary) -> Summary:
    known = {result["id"] for result in own["results"]}
    results = [*own["results"], *(r for r in other["results"] if r["id"] not in known)]
    places = {name: i for i, name in enumerate(_topics())}
    results.sort(key=lambda result: places[result["id"]])
    return own | {"results": results, "counts": _counts(results), "topics": _cells(results)}
