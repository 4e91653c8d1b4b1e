"""Judge a subject by one vector or one check."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np

from xp_xent import backends
from xp_xent.conformance._checks import Asker, Check
from xp_xent.conformance._formats import COMPUTE, FORMATS, ulp_error
from xp_xent.conformance._load import Expected, Vector
from xp_xent.conformance._result import FAILED, PASSED, UNSUPPORTED, Result
from xp_xent.conformance._subject import Answer, Failure, Subject, ask

INPUT_ERRORS: Final = (ValueError, TypeError, LookupError, RuntimeError)


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
    return not subject.traced and backend.can_read_values(backend.asarray(np.zeros(1)))


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
        if failure is not None and isinstance(failure.__cause__, TimeoutError):
            break  # it would not answer the next question either
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


def judge(subject: Subject, case: Vector | Check) -> Result:
    """Judge a subject by one vector or check."""
    if case.dtype not in (subject.dtypes or backends.get(subject.backend).float_dtypes()):
        return Result(case.id, UNSUPPORTED, f"no {case.dtype}")
    if isinstance(case, Check):
        return judge_check(subject, case)
    return judge_vector(subject, case)
