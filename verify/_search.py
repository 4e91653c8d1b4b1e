"""Find the rules, singly and in pairs, that explain what a side claims: the simplest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from xp_xent.verify._changes import Change, Facts
from xp_xent.verify._evidence import Evidence
from xp_xent.verify._fit import digits, fit
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._rules import changes

MOST = 3  # explanations that are named
# A pair is one of some thousands: a number with fewer bits than this would fit some of them.
BITS = 14.0
# How near to it one number has to be, of what is allowed, to be that of a pair for the same reason,
# or that of logits which were rounded: this changes a loss hardly more than a computation may err.
CLOSE = 0.1
WORSE = 0.3  # up to here of what is allowed, one explanation fits as well as another


@dataclass(frozen=True)
class Explanation:
    """A pipeline that gives the claimed numbers, and how it differs from what is asked.

    Attributes
    ----------
    rules : tuple of (str, dict)
        Rule ids with their options; empty where the asked pipeline itself gives the numbers.
    said : tuple of str
        What a change says of itself, in place of its rule's words.
    pipeline : Pipeline
    misfit : float
        The largest distance, in what is allowed.
    fitted : int
        How many options have no value that people use.
    """

    rules: tuple[tuple[str, dict[str, Any]], ...]
    said: tuple[str, ...]
    pipeline: Pipeline
    misfit: float
    fitted: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """The rules' ids."""
        return tuple(rule for rule, _ in self.rules)

    @property
    def length(self) -> int:
        """How many digits its options take."""
        values = [x for _, options in self.rules for x in options.values() if isinstance(x, float)]
        return sum(len(f"{x:.15g}".strip("0.")) for x in values)


def search(
    evidence: Evidence, base: Pipeline, facts: Facts, *, deep: bool = True
) -> list[Explanation]:
    """Search what explains all the evidence.

    Parameters
    ----------
    evidence : Evidence
    base : Pipeline
        What is asked for.
    facts : Facts
    deep : bool, default True
        Try pairs too.

    Returns
    -------
    list of Explanation
        Those of the fewest rules, three at the most, the likeliest first.
    """
    misfit = evidence.misfit(base)
    if misfit <= 1.0 and evidence.confirmed(base):
        return [Explanation((), (), base, misfit)]
    singles = [((change,), place) for place, change in changes(base, facts)]
    found = _matching(evidence, base, [changed for changed, _ in singles])
    deep = deep and not (evidence.alone and evidence.bits(base) < BITS)
    if not found and deep:
        found = _matching(evidence, base, _pairs(evidence, base, facts, singles))
    return found[:MOST]


def _pairs(
    evidence: Evidence, base: Pipeline, facts: Facts, singles: Sequence[tuple[tuple[Change], int]]
) -> Iterator[tuple[Change, ...]]:
    """Put two changes together, each pair of rules in one order."""
    for (first,), place in singles:
        if evidence.alone and first.rule == "rounded":
            continue  # a small change beside each of the others: one number is always near one
        after = first.apply(base, _start(first))
        for _, second in changes(after, facts, place):
            if second.rule == (first.rule if first.rule != "rounded" else ""):
                continue
            if evidence.alone and second.rule == "rounded":
                continue
            yield first, second


def _start(change: Change) -> float:
    return change.free.starts[0] if change.free else 0.0


def _matching(
    evidence: Evidence, base: Pipeline, candidates: Iterator[Any] | list[Any]
) -> list[Explanation]:
    """Give those that explain the evidence, each pipeline once, the best first."""
    found: dict[Pipeline, Explanation] = {}
    tried: set[Pipeline] = {base}
    for changed in candidates:
        for values in _values(evidence, base, changed):
            pipeline = _applied(base, changed, values)
            if pipeline in tried:
                continue
            tried.add(pipeline)
            misfit = evidence.misfit(pipeline)
            small = len(changed) > 1 or changed[0].rule == "rounded"
            allowed = CLOSE if evidence.alone and small else 1.0
            if misfit <= allowed and evidence.confirmed(pipeline):
                pairs = list(zip(changed, values, strict=True))
                rules = tuple((change.rule, change.options(x)) for change, x in pairs)
                fitted = sum(c.free is not None and x not in c.usual for c, x in pairs)
                said = tuple(change.did for change in changed)
                found[pipeline] = Explanation(rules, said, pipeline, misfit, fitted)
    # Sorting is stable: what fits equally stays in the order of the rules.
    ranked = sorted(found.values(), key=lambda one: (one.fitted, one.length))
    shortest: dict[tuple[str, ...], int] = {}
    for one in ranked:
        shortest.setdefault(one.ids, one.length)
    best = min((one.misfit for one in ranked), default=0.0)
    return [
        one for one in ranked
        # Of one formula in two words, the right one has a short number.
        if one.length == shortest[one.ids] and one.misfit <= max(WORSE, 5.0 * best)
    ]  # fmt: skip


def _applied(base: Pipeline, changed: tuple[Change, ...], values: Sequence[float]) -> Pipeline:
    for change, value in zip(changed, values, strict=True):
        base = change.apply(base, value)
    return base


def _values(
    evidence: Evidence, base: Pipeline, changed: tuple[Change, ...]
) -> Iterator[tuple[float, ...]]:
    """Give the values of the options to try: what is used, or what fits where that says more."""
    free = [i for i, change in enumerate(changed) if change.free is not None]
    whole = [0.0] * len(changed)
    if not free:
        yield tuple(whole)
        return
    if evidence.alone or evidence.count <= len(free):
        yield from product(*(change.usual if change.free else (0.0,) for change in changed))
        return

    def with_free(x: Any) -> Pipeline:
        values = list(whole)
        for i, value in zip(free, x, strict=True):
            values[i] = float(value)
        return _applied(base, changed, values)

    started = with_free([_start(changed[i]) for i in free])
    if not evidence.possible(replace(started, unscaled=None)):  # of a factor that is not known yet
        return
    frees = [f for f in (changed[i].free for i in free) if f is not None]
    fitted = fit(lambda x: evidence.residuals(with_free(x)), frees)
    if fitted is None or not all(f.takes(x) for f, x in zip(frees, fitted, strict=True)):
        return
    yield _rounded(evidence, with_free, whole, changed, free, fitted)


def _rounded(
    evidence: Evidence, with_free: Any, whole: list[float], changed: tuple[Change, ...],
    free: list[int], fitted: Any,
) -> tuple[float, ...]:  # fmt: skip
    """Give fitted values with as few digits as explain the numbers; of those in use, that."""
    best = [float(x) for x in fitted]
    for k, i in enumerate(free):
        value = best[k]
        usual = [x for x in changed[i].usual if abs(x - value) <= 2e-2 * abs(value)]
        for shorter in (*usual, *digits(value)):
            tried = [*best[:k], shorter, *best[k + 1 :]]
            if evidence.fits(with_free(tried)):
                best[k] = shorter
                break
    values = list(whole)
    for i, value in zip(free, best, strict=True):
        values[i] = value
    return tuple(values)
