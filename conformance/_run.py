"""Judge a subject by every vector and every check."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from xp_xent import backends
from xp_xent.conformance._checks import Asker, Check, checks
from xp_xent.conformance._load import Expected, Vector, load, names
from xp_xent.conformance._subject import Answer, Failure, Subject, ask
from xp_xent.conformance.tolerance import COMPUTE, FORMATS, ulp_error

PASSED: Final = "passed"
FAILED: Final = "failed"
UNSUPPORTED: Final = "unsupported"
BY_DESIGN: Final = "differs by design"
INPUT_ERRORS: Final = (ValueError, TypeError, LookupError, RuntimeError)


@dataclass(frozen=True)
class Result:
    """What became of one test.

    Attributes
    ----------
    case_id : str
        The vector's or the check's id.
    outcome : str
        ``"passed"``, ``"failed"``, ``"unsupported"`` or ``"differs by design"``.
    reason : str
        Why, unless it passed.
    kinds : tuple of str
        What was wrong: error, mutation, namespace, device, dtype, shape, value, gradient,
        property.
    ulps : float or None
        The largest error of a number, in units in the last place.
    got : mapping of str to Answer
        What was answered, by ``"value"`` and ``"gradient"``.
    """

    case_id: str
    outcome: str
    reason: str = ""
    kinds: tuple[str, ...] = ()
    ulps: float | None = None
    got: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The first of the kinds."""
        return next(iter(self.kinds), "")


@dataclass(frozen=True)
class Report:
    """The results of one subject, in the order of the cases.

    Attributes
    ----------
    subject : Subject
    results : tuple of Result

    Examples
    --------
    >>> from xp_xent import conformance
    >>> mine = conformance.Subject("nothing", "numpy", {})
    >>> report = conformance.run(mine)
    >>> len(report.passed), len(report.failed), len(report.unsupported) > 0
    (0, 0, True)
    """

    subject: Subject
    results: tuple[Result, ...]

    def _of(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]

    @property
    def passed(self) -> list[Result]:
        """Those within every tolerance."""
        return self._of(PASSED)

    @property
    def failed(self) -> list[Result]:
        """Those that are wrong."""
        return self._of(FAILED)

    @property
    def unsupported(self) -> list[Result]:
        """Those that the subject does not take."""
        return self._of(UNSUPPORTED)

    @property
    def by_design(self) -> list[Result]:
        """Those where a peer documents another rule; the reason names it."""
        return self._of(BY_DESIGN)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


@cache
def flushes(backend: str, dtype: str) -> bool:
    """Tell if a library takes subnormal numbers of the dtype it computes in for 0."""
    library, compute = backends.get(backend), COMPUTE[dtype]
    smallest = np.asarray([FORMATS[compute].smallest_normal])
    half = library.asarray(smallest, dtype=compute) * 0.5
    return not library.to_numpy(half * 2.0)[0]


def compare(what: str, got: Answer, expected: Expected, flushing: bool) -> float:
    """Compare dtype, shape and numbers in this order; give the largest error in ULP.

    Raises
    ------
    Failure
        They differ by more than the tolerance.
    """
    if got.dtype != expected.dtype:
        raise Failure("dtype", f"{what}: got {got.dtype}, wanted {expected.dtype}")
    if got.array.shape != expected.data.shape:
        shapes = f"got shape {got.array.shape}, wanted {expected.data.shape}"
        raise Failure("shape", f"{what}: {shapes}")
    numbers = got.array.astype(np.float64)
    if expected.accepts(numbers, flushes=flushing):
        # A flushed subnormal number is no error of 2**23 ULP.
        return 0.0 if flushing and not expected.accepts(numbers) else expected.worst(numbers)
    off = ulp_error(numbers, expected.data, expected.dtype).ravel()
    allowed = np.broadcast_to(expected.ulps, expected.data.shape).ravel()
    worst = int(np.argmax(off / np.maximum(allowed, 0.5)))
    said = f"off by {off[worst]:.3g} ULP where {allowed[worst]:.3g} are allowed"
    raise Failure(what, f"{what}: {said}")


def parts_of(subject: Subject, vector: Vector) -> Iterator[tuple[str, Expected | None]]:
    """List what a vector asks of a subject; a subject without gradients is asked for values."""
    known = vector.function in subject.gradients
    if not known or vector.function in subject.functions:
        yield "value", vector.value
    if known and (vector.gradient is not None or vector.raises):
        yield "gradient", vector.gradient


def must_raise(subject: Subject, vector: Vector) -> bool:
    """Tell if only an error is right: labels that can be looked at are looked at."""
    if vector.raises is None or vector.value is None:
        return vector.raises is not None
    backend = backends.get(subject.backend)
    return not subject.traced and backend.is_readable(backend.asarray(np.zeros(1)))


def judge_part(
    subject: Subject, vector: Vector, what: str, expected: Expected | None
) -> tuple[Answer | None, float | None, Failure | None]:
    """Ask for a value or a gradient: the answer, its error in ULP and what is wrong with it."""
    options = dict(vector.options)
    if what == "gradient" and vector.cotangent is not None:
        options["cotangent"] = vector.cotangent
    got: Answer | None = None
    try:
        got = ask(subject, what, vector.function, vector.arguments, options)
        if must_raise(subject, vector):
            raise Failure("no error", f"{what}: no error was raised, wanted {vector.raises}")
        if expected is None:
            return got, None, None
        flushing = flushes(subject.backend, vector.dtype)
        return got, compare(what, got, expected, flushing), None
    except Failure as failure:
        # Any exception about the input will do: peers have their own.
        if vector.raises is not None and isinstance(failure.__cause__, INPUT_ERRORS):
            return None, None, None
        numbers = got is not None and expected is not None and failure.kind == what
        return got, distance(got, expected) if numbers else None, failure


def distance(got: Answer | None, expected: Expected | None) -> float:
    """Give the largest error in ULP."""
    assert got is not None
    assert expected is not None
    return expected.worst(got.array.astype(np.float64))


def judge_vector(subject: Subject, vector: Vector) -> Result:
    """Judge a value and a gradient."""
    failures: list[Failure] = []
    answers: dict[str, Answer] = {}
    errors: list[float] = []
    for what, expected in parts_of(subject, vector):
        try:
            got, error, failure = judge_part(subject, vector, what, expected)
        except NotImplementedError as missing:
            return Result(vector.id, UNSUPPORTED, str(missing) or "not implemented")
        answers |= {} if got is None else {what: got}
        errors += [] if error is None else [error]
        failures += [] if failure is None else [failure]
    ulps = max(errors, default=None)
    if failures:
        reason = "; ".join(failure.reason for failure in failures)
        return Result(vector.id, FAILED, reason, tuple(x.kind for x in failures), ulps, answers)
    return Result(vector.id, PASSED, ulps=ulps, got=answers)


def judge_check(subject: Subject, check: Check) -> Result:
    """Judge a property."""
    try:
        check.holds(Asker(subject, check.function, check.dtype))
    except NotImplementedError as missing:
        return Result(check.id, UNSUPPORTED, str(missing) or "not implemented")
    except Failure as failure:
        return Result(check.id, FAILED, failure.reason, (failure.kind,))
    return Result(check.id, PASSED)


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
    return (*(vector for name in names() for vector in load(name)), *checks())


def judge(subject: Subject, case: Vector | Check) -> Result:
    """Judge a subject by one vector or check."""
    if case.dtype not in (subject.dtypes or backends.get(subject.backend).float_dtypes()):
        return Result(case.id, UNSUPPORTED, f"no {case.dtype}")
    if subject.subset is not None and not subject.subset(case):
        return Result(case.id, UNSUPPORTED, "not in the subset that is asked")
    if isinstance(case, Check):
        return judge_check(subject, case)
    return judge_vector(subject, case)


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """Give the rules of peers that differ by design."""
    text = (files("xp_xent.conformance") / "rules.json").read_text(encoding="utf-8")
    return tuple(json.loads(text))


def by_rule(subject: Subject, case: Vector | Check, result: Result) -> Result:
    """Name the rule by which a peer differs, where it has documented another one."""
    if result.outcome != FAILED:
        return result
    traits = {
        "subjects": {subject.name},
        "topics": {case.topic},
        "dtypes": {case.dtype},
        "flags": set(case.flags),
        "cases": {case.id, case.id.removesuffix(f"-{case.dtype}")},
        "answers": {"nan"} if any(np.isnan(x.array).any() for x in result.got.values()) else set(),
    }
    for rule in rules():
        fits = all(set(rule[name]) & traits[name] for name in traits if name in rule)
        if fits and set(result.kinds) <= set(rule["kinds"]):
            reason = f"{rule['rule']} ({result.reason})"
            return replace(result, outcome=BY_DESIGN, reason=reason)
    return result


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
    results = []
    # A warning is no answer; under a test runner it may be an error.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for case in every() if cases is None else cases:
            result = by_rule(subject, case, judge(subject, case))
            results.append(result)
            if progress is not None:
                progress(result)
    return Report(subject, tuple(results))
