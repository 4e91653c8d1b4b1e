"""Judge a subject by every vector and every check."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from xp_xent.conformance._checks import Check, checks
from xp_xent.conformance._formats import FORMATS
from xp_xent.conformance._judge import judge
from xp_xent.conformance._load import Host, Vector, load, names
from xp_xent.conformance._map_checks import map_checks
from xp_xent.conformance._result import BY_DESIGN, FAILED, Report, Result
from xp_xent.conformance._subject import Subject


@cache
def every() -> tuple[Vector | Check, ...]:
    """Give every vector and every check.

    Returns
    -------
    tuple of Vector or Check

    Examples
    --------
    >>> from xp_xent import conformance
    >>> "check-symmetry-binary-float32" in [case.id for case in conformance.cases()]
    True
    """
    return (*(vector for name in names() for vector in load(name)), *checks(), *map_checks())


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """Give the rules of peers that differ by design."""
    text = (files("xp_xent.conformance") / "rules.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def by_rule(subject: Subject, case: Vector | Check, result: Result) -> Result:
    """Name the rule by which a peer differs, where it has documented another one."""
    if result.outcome != FAILED:
        return result
    answers = [x.array for x in result.got.values() if x.dtype in FORMATS]
    traits = {
        "subjects": {subject.name},
        "topics": {case.topic},
        "dtypes": {case.dtype},
        "flags": set(case.flags),
        "cases": {case.id, case.id.removesuffix(f"-{case.dtype}")},
        "answers": {"nan"} if any(np.isnan(x).any() for x in answers) else set(),
    }
    for rule in rules():
        fits = all(set(rule[name]) & traits[name] for name in traits if name in rule)
        if fits and set(result.kinds) <= set(rule["kinds"]):
            reason = f"{rule['rule']} ({result.reason})"
            return replace(result, outcome=BY_DESIGN, reason=reason)
    return result


def signature(case: Vector | Check) -> str:
    """Name what a compiler sees of a vector: dtypes, shapes and options that are no arrays."""
    if isinstance(case, Check):
        return case.id
    given = [*case.arguments.items(), *sorted(case.options.items())]
    seen = [(k, (x.dtype, x.array.shape) if isinstance(x, Host) else x) for k, x in given]
    return repr((case.function, seen))


def groups(subject: Subject, cases: Sequence[Vector | Check]) -> Iterable[list[int]]:
    """Give the places of the cases, those together for which the same is compiled."""
    if subject.forget is None:
        return [list(range(len(cases)))]
    found: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        found.setdefault(signature(case), []).append(place)
    return found.values()


def run(
    subject: Subject,
    *,
    cases: Iterable[Vector | Check] | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Report:
    """Judge a subject.

    Parameters
    ----------
    subject : Subject
    cases : iterable of Vector or Check, optional
        Some of `xp_xent.conformance.cases`, which is the default.
    progress : callable, optional
        Called with each result.

    Returns
    -------
    Report

    Examples
    --------
    >>> import xp_xent
    >>> from xp_xent.conformance import Subject, load, run
    >>> mine = Subject("mine", "numpy", {"cross_entropy": xp_xent.cross_entropy})
    >>> run(mine, cases=load("agreement")[:20]).failed
    []
    """
    cases = every() if cases is None else tuple(cases)
    results: dict[int, Result] = {}
    # A warning is no answer; under a test runner it may be an error.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for group in groups(subject, cases):
            for place in group:
                result = by_rule(subject, cases[place], judge(subject, cases[place]))
                results[place] = result
                if progress is not None:
                    progress(result)
            if subject.forget is not None:
                subject.forget()
    return Report(subject, tuple(results[place] for place in range(len(cases))))
