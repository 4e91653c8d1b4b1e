"""Which rows differ, and what is special about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify._claims import Claim
from xp_xent.verify._judge import Judge, Standing
from xp_xent.verify._result import RowResult

MOST = 5  # rows that are named


def strange_rows(one: Standing, judge: Judge) -> tuple[Claim, tuple[RowResult, ...]]:
    """Find rows that differ by a mask, a NaN or an infinity.

    Returns
    -------
    Claim
        Without these rows, so that a rule may explain the others.
    tuple of RowResult
    """
    claim, case = one.claim, judge.case
    if one.off is None:
        return claim, _of_number(one, judge)
    bad, got = np.zeros(case.count, bool), np.zeros(case.count)
    for block in case.blocks():
        claimed = claim.read(case, block)
        rows = claimed if claim.form == "rows" else np.sum(claimed, axis=-1)
        bad[block], got[block] = ~np.isfinite(rows), rows
    expected = judge.losses.rounded
    differ = (one.off > 1.0) & (bad | ~np.isfinite(expected))
    if not differ.any():
        return claim, ()
    known = ~differ if claim.known is None else claim.known & ~differ
    wanted = expected
    if claim.form == "gradient":  # its rows' sums, which are 0
        wanted = np.where(np.isfinite(expected), 0.0, np.nan)
    told = [
        RowResult(_at(judge, r), float(got[r]), float(wanted[r]), why(judge, r))
        for r in np.flatnonzero(differ)[:MOST]
    ]
    return replace(claim, known=known), tuple(told)


def _of_number(one: Standing, judge: Judge) -> tuple[RowResult, ...]:
    """Find the rows whose logits make one number NaN or infinite."""
    case = judge.case
    if np.isfinite(one.claim.value) == np.isfinite(judge.number()):
        return ()
    strange = np.zeros(case.count, bool)
    for block in case.blocks():
        strange[block] = ~np.all(np.isfinite(case.rows(block)), axis=-1)
    got, losses = one.worst[0], judge.losses.high
    found = np.flatnonzero(strange)[:MOST]
    return tuple(RowResult(_at(judge, r), got, float(losses[r]), why(judge, r)) for r in found)


def worst_rows(one: Standing, judge: Judge) -> tuple[RowResult, ...]:
    """Give the rows that differ most."""
    if one.off is None:
        return ()
    claim, case = one.claim, judge.case
    off = np.where(np.isfinite(one.off), one.off, 0.0)
    order = np.argsort(-off, kind="stable")[:MOST]
    rows = []
    for r in order[off[order] > 1.0]:
        index: NDArray[np.intp] = np.asarray([r])
        claimed = claim.read(case, index)[0]
        if claim.form == "rows":
            got, want = float(claimed), float(judge.losses.rounded[r])
        else:
            _, expected = judge.rows(index)
            column = int(np.nanargmax(np.abs(claimed - expected[0])))
            got, want = float(claimed[column]), float(expected[0][column])
        rows.append(RowResult(_at(judge, r), got, want, why(judge, int(r))))
    return tuple(rows)


def why(judge: Judge, row: int) -> str:
    """Say what is special about a row."""
    case, targets, pipeline = judge.case, judge.targets, judge.pipeline
    z = case.rows(np.asarray([row]))[0]
    said, by = [], "−inf" if case.class_where is None else "−inf or class_where"
    if np.any(np.isnan(z)):
        said.append("its logits hold NaN")
    if np.any(z == np.inf):
        said.append("its logits hold +inf")
    if np.all(z == -np.inf):
        said.append(f"all its classes are masked by {by}")
    elif case.labels is not None and targets.counted(pipeline)[row]:
        label = targets.labels(pipeline.offset, pipeline.shift)[row]
        said += [f"its label is a class masked by {by}"] if z[label] == -np.inf else []
    if not targets.counted(pipeline)[row]:
        said.append("it does not count; a product with a mask of 0 keeps NaN, a choice does not"
                    if said else "it does not count")  # fmt: skip
    return ", ".join(said)


def _at(judge: Judge, row: int) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(row, judge.case.positions)))
