"""Compare what two sides were given: a port differs there more often than in its loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.conformance.tolerance import AUTODIFF
from xp_xent.verify._case import Case
from xp_xent.verify._result import InputResult, number, place
from xp_xent.verify._steps import NARROW, round_to, spacing


def compare_inputs(name: str, base: Case, own: Case) -> list[InputResult]:
    """Compare each input of a side with the common one."""
    found = [_logits(name, base, own)]
    if base.labels is not None and own.labels is not None:
        found.append(_labels(name, base, own))
    elif (base.labels is None) != (own.labels is None):
        kinds = ["labels" if case.labels is not None else "probabilities" for case in (base, own)]
        said = f"targets.{name} are {kinds[1]}, targets are {kinds[0]}"
        found.append(InputResult("targets", name, True, said=said))
    else:
        found.append(_rows("targets", name, base, base.probabilities, own.probabilities, own.dtype))
    if own.weight is not base.weight and own.weight is not None and base.weight is not None:
        off = np.abs(own.weight - base.weight)
        same = bool(np.all(off <= AUTODIFF["float32"] * 2.0**-23 * np.abs(base.weight)))
        worst = int(np.argmax(off))
        said = f"weight.{name} differs by up to {number(float(off[worst]))}, at class {worst}"
        found.append(InputResult("weight", name, same, int(np.sum(off > 0)), (worst,),
                                 float(off[worst]), None, said))  # fmt: skip
    if base.class_where is not None or own.class_where is not None:
        found.append(_class_where(name, base, own))
    return [one for one in found if one.rows]


def _class_where(name: str, base: Case, own: Case) -> InputResult:
    """Compare which classes take part, a block of rows at a time."""
    differing = np.zeros(base.count, bool)
    for block in base.blocks():
        a, b = (True if (part := one.part(block)) is None else part for one in (base, own))
        differing[block] = np.any(a != b, axis=-1)
    rows = np.flatnonzero(differing)
    if not len(rows):
        return InputResult("class_where", name, True)
    where = tuple(map(int, np.unravel_index(int(rows[0]), base.positions)))
    said = (
        f"class_where.{name} differs in {len(rows)} of {base.count} rows, first in {place(where)}"
    )
    return InputResult("class_where", name, False, len(rows), where, 1.0, None, said)


def _logits(name: str, base: Case, own: Case) -> InputResult:
    if base.logits is own.logits:
        return InputResult("logits", name, True)
    return _rows("logits", name, base, base.logits, own.logits, own.dtype)


def _rows(array: str, name: str, case: Case, common: Any, own: Any, dtype: str) -> InputResult:
    """Compare rows of floating numbers, a block at a time."""
    positions, differing, first = case.positions, 0, None
    largest, rounding, formats = 0.0, True, dict.fromkeys(NARROW, True)
    compute = COMPUTE[dtype]
    for block in case.blocks():
        a, b = (case.claimed(x, block) for x in (common, own))
        with np.errstate(invalid="ignore"):
            off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        off = np.where(np.isnan(off), np.inf, off)
        rows = np.flatnonzero(np.any(off > 0, axis=-1))
        if not len(rows):
            continue
        first = block.start + int(rows[0]) if first is None else first
        differing += len(rows)
        largest = max(largest, float(np.max(off)))
        size = np.max(np.abs(a), axis=-1, keepdims=True, where=np.isfinite(a), initial=0.0)
        rounding &= bool(np.all(off <= AUTODIFF[compute] * FORMATS[compute].eps * size))
        for form in [form for form, fits in formats.items() if fits]:
            # One side rounded the other's logits, or computed with numbers of that format.
            step = spacing(round_to(a, form), form)
            formats[form] = bool(np.all((off <= 0.5001 * step) | (off == 0)))
    if first is None:
        return InputResult(array, name, True)
    rounded = next((form for form, fits in formats.items() if fits and not rounding), None)
    where = tuple(map(int, np.unravel_index(first, positions)))
    if differing == case.count:
        rows_said = "in all rows"
    elif differing >= 0.9 * (case.count - first):
        rows_said = f"from row {place(where)} on"
    else:
        rows_said = f"in {differing} of {case.count} rows, first in {place(where)},"
    said = f"{array}.{name} differs {rows_said} by up to {largest:.3g}"
    if rounding:
        said += ", which rounding explains"
    elif rounded:
        said += f", as {rounded} would"
    return InputResult(array, name, rounding, differing, where, largest, rounded, said)


def _labels(name: str, base: Case, own: Case) -> InputResult:
    a, b = base.flat_labels, own.flat_labels
    if base.labels is own.labels or np.array_equal(a, b):
        return InputResult("targets", name, True)
    rows = np.flatnonzero(a != b)
    where = tuple(map(int, np.unravel_index(int(rows[0]), base.positions)))
    said = f"targets.{name} differs in {len(rows)} of {len(a)} labels, first at {place(where)}"
    said += f" ({b[rows[0]]} where the others have {a[rows[0]]})"
    gaps, had, has = np.unique(b[rows] - a[rows]), np.unique(a[rows]), np.unique(b[rows])
    if len(had) == 1 and len(has) == 1:
        said += f": it has {has[0]} for {had[0]}"
    elif len(gaps) == 1 and len(rows) > 1:
        said += f": each is {abs(gaps[0])} {'more' if gaps[0] > 0 else 'less'}"
    elif np.array_equal(a.reshape(base.positions)[..., 1:], b.reshape(base.positions)[..., :-1]):
        said += ": they are shifted by one position"
    largest = float(np.max(np.abs(b - a)))
    return InputResult("targets", name, False, len(rows), where, largest, None, said)
