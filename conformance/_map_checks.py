"""Checks of the maps beyond values: what must hold whatever the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from xp_xent.conformance._checks import OFFSETS, Asker, Check, Floats, _host, _inputs, _require
from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.conformance._load import Host
from xp_xent.conformance._subject import ask
from xp_xent.conformance.tolerance import log_odds, row_tolerance


def _ask(asker: Asker, what: str, x: Floats, cotangent: Floats | None = None) -> Floats:
    options = {}
    if cotangent is not None:
        options["cotangent"] = Host(asker.dtype, _host(cotangent, asker.dtype))
    given = {"x": Host(asker.dtype, _host(x, asker.dtype))}
    answer = ask(asker.subject, what, asker.function, given, options)
    return np.asarray(answer.array.astype(np.float64))


def _relative(asker: Asker, x: Floats) -> Floats:
    """What two right answers may differ by, each rounded to its dtype."""
    odds = np.max(np.abs(log_odds(x)), axis=-1, keepdims=True)
    own = 2.0 * FORMATS[asker.dtype].eps
    return 2.0 * row_tolerance(COMPUTE[asker.dtype], x.shape[-1], odds) + own


def offset(asker: Asker) -> None:
    """A constant added to a row, without rounding, changes neither value nor derivative."""
    x, _ = _inputs(asker)
    pull = np.eye(x.shape[-1])[np.arange(len(x)) % x.shape[-1]]
    calls: list[Callable[[Floats], Floats]] = [lambda x: _ask(asker, "value", x)]
    if asker.function in asker.subject.gradients:
        calls.append(lambda x: _ask(asker, "gradient", x, pull))
    for call in calls:
        near = call(x)
        for sign in (1, -1):
            moved = call(x + sign * OFFSETS[asker.dtype])
            wrong = f"an offset of {sign * OFFSETS[asker.dtype]:g} changes it"
            _require(np.abs(moved - near) <= _relative(asker, x) * np.abs(near), wrong)


def total(asker: Asker) -> None:
    """Probabilities add up to 1, and a constant cotangent pulls nothing."""
    x, _ = _inputs(asker)
    p, slack = _ask(asker, "value", x), _relative(asker, x)
    _require(np.abs(np.sum(p, axis=-1, keepdims=True) - 1.0) <= slack, "value: not 1 in all")
    if asker.function in asker.subject.gradients:
        pulled = _ask(asker, "gradient", x, np.ones(x.shape))
        least = FORMATS[COMPUTE[asker.dtype]].smallest_normal
        _require(np.abs(pulled) <= slack * 2.0 * p + least, "gradient: a constant pulls")


def map_checks() -> Iterator[Check]:
    """Give every check of a map.

    Yields
    ------
    Check
    """
    for holds, flag, functions in (
        (offset, "SharedOffset", ("softmax", "log_softmax")),
        (total, "MapDerivative", ("softmax",)),
    ):
        comment = (holds.__doc__ or "").rstrip(".")
        for function in functions:
            for dtype in FORMATS:
                case_id = f"check-{holds.__name__}-of-{function.replace('_', '-')}-{dtype}"
                yield Check(case_id, function, dtype, comment, (flag,), holds)
