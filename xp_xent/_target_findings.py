"""Suspicions of `diagnose` about targets: their traces, what they cost, which line mends them."""

import math
from collections.abc import Iterator

import numpy as np

from xp_xent import _checks as check
from xp_xent._binary import outside_message
from xp_xent._findings import Finding
from xp_xent._seen import NEAR, Seen

FEW = 20  # times as few classes as so many labels would be of by chance
IMBALANCE = 10  # rows of the most frequent class, for one of the rarest
RARE = 0.05  # the share of positives below which a weight is worth it
PADDED = 0.1  # the share of sequences that padding ends


def of_labels(
    seen: Seen, y: np.ndarray, axis: int, shape: tuple[int, ...], ignore_index: int | None
) -> Iterator[Finding]:
    """Judge labels, beside logits of that shape."""
    wanted = shape[:axis] + shape[axis + 1 :]
    others = [a for a in check.fits_another_axis(shape, y.shape) if a != axis]
    if y.shape != wanted or others:
        fits = f"; labels of shape {y.shape} also fit axis={others[0]}" if others else ""
        yield Finding(
            "class-axis",
            f"logits {shape} have their classes along axis {axis}{fits}",
            "positions are taken for classes: the loss is another number, or refused",
            f"cross_entropy(logits, targets, axis={others[0] if others else 1})",
        )
    kept = y != ignore_index  # all of them for None
    counted = y[kept]
    if not counted.size:
        yield Finding(
            "nothing-counted",
            "no label counts: the mean is NaN",
            "the loss is NaN and the gradient 0",
            "cross_entropy(logits, targets, ignore_index=None) counts every label",
        )
        return
    low, high = int(counted.min()), int(counted.max())
    yield from _out_of_range(counted, seen.classes, low, high)
    if seen.masked:
        yield Finding(
            "masked-label",
            f"{seen.masked} labels are of classes masked by −inf: +inf",
            "the mean is infinite",
            "cross_entropy(logits, targets, where=label_is_allowed)",
        )
    if counted.size > 1 and low == high:
        yield Finding(
            "one-label",
            f"every label that counts is {low}",
            "a model that says so whatever it sees has loss 0",
            "shuffle=True in the loader, and a look at the targets' column",
        )
    elif seen.counts.any():
        yield from _of_counts(seen, y, kept)


def _out_of_range(counted: np.ndarray, classes: int, low: int, high: int) -> Iterator[Finding]:
    if low >= 1 and high == classes:
        yield Finding(
            "labels-from-one",
            f"labels are 1 … {high}; classes are 0 … {classes - 1}",
            "the last class is out of range, and each other row is scored by its neighbour",
            "cross_entropy(logits, targets - 1)",
        )
    elif low < 0 or high >= classes:
        outside = counted[(counted < 0) | (counted >= classes)]
        one = int(outside[0]) if (outside == outside[0]).all() else None
        yield Finding(
            "labels-out-of-range",
            f"labels are {low} … {high}; classes are 0 … {classes - 1}",
            f"{outside.size} rows are refused, or NaN on a device",
            f"cross_entropy(logits, targets, ignore_index={one}), if {one} means no class"
            if one is not None
            else f"a model of {high + 1} classes, or labels of 0 … {classes - 1}",
        )


def _of_counts(seen: Seen, y: np.ndarray, kept: np.ndarray) -> Iterator[Finding]:
    """Judge how often each class is a label."""
    total = seen.losses.sum()
    counts = seen.counts.copy()
    padding = _padding(y, kept)
    if padding is not None and 0 <= padding[0] < seen.classes:
        one, sequences, positions, longest = padding
        counts[one] = 0
        share = seen.losses[one] / total if total else 0.0
        yield Finding(
            "padding",
            f"{sequences} of {len(y)} sequences end or begin with {one}, up to {longest} times, "
            "and it is hardly anywhere else: padding that counts",
            f"{positions / y.size:.0%} of the positions and {share:.0%} of the loss are padding",
            f"cross_entropy(logits, targets, ignore_index={one}), or where=mask if {one} also "
            "ends sequences",
        )
    present = np.flatnonzero(counts)
    rows = int(counts.sum())
    expected = -seen.classes * math.expm1(rows * math.log1p(-1 / max(seen.classes, 2)))
    if 1 < len(present) <= expected / FEW:
        yield Finding(
            "few-classes",
            f"{rows} labels are of {len(present)} classes; of {seen.classes}, some "
            f"{expected:.0f} would turn up by chance",
            "the other classes are only ever pushed down: their rows of the last layer learn "
            "nothing else",
            f"a last layer of {present[-1] + 1} classes, if those are all; else shuffle=True",
        )
    elif y.ndim != 2 and len(present) > 1 and seen.classes <= 1000:
        yield from _imbalance(seen, counts, present, rows)


def _imbalance(seen: Seen, counts: np.ndarray, present: np.ndarray, rows: int) -> Iterator[Finding]:
    most, least = counts.argmax(), present[counts[present].argmin()]
    if counts[most] < IMBALANCE * counts[least] or rows < 10 * len(present):
        return
    mean = seen.losses[[most, least]] / counts[[most, least]]
    yield Finding(
        "imbalance",
        f"class {most} has {counts[most] / rows:.1%} of the rows, class {least} has "
        f"{100 * counts[least] / rows:.2g}%",
        f"the mean hardly sees class {least}: a row of it loses {mean[1]:.3g} nats, one of class "
        f"{most} {mean[0]:.3g}",
        f"cross_entropy(logits, targets, weight=balanced_class_weights(targets, {seen.classes}))",
    )


def _padding(y: np.ndarray, kept: np.ndarray) -> tuple[int, int, int, int] | None:
    """Find the id that sequences (S, T) are padded with.

    Returns it, how many sequences it pads, at how many positions, and the longest such run; None
    where no id looks like padding: it ends, or begins, a tenth of the sequences at
    least twice, and is nearly nowhere else.
    """
    if y.ndim != 2 or min(y.shape) < 4 or not kept.all():
        return None
    for way in (y[:, ::-1], y):
        runs = np.argmin(way == way[:, :1], axis=1)  # how often the first is repeated
        runs = np.where((way == way[:, :1]).all(axis=1), y.shape[1], runs)
        padded = runs > 1
        if padded.sum() < max(2, PADDED * len(y)):
            continue
        ids, counts = np.unique(way[padded, 0], return_counts=True)
        one = ids[counts.argmax()]
        padded &= way[:, 0] == one
        inside = int(runs[padded].sum())
        few = int((y == one).sum()) - inside <= 0.02 * inside
        if few and padded.sum() >= max(2, PADDED * len(y)) and np.unique(runs[padded]).size > 1:
            return int(one), int(padded.sum()), inside, int(runs[padded].max())
    return None


def of_probabilities(y: np.ndarray, axis: int, kind: str) -> Iterator[Finding]:
    """Judge targets of the logits' shape, or floating ones."""
    outside = (y < 0) | (y > 1)
    if outside.any():
        yield Finding(
            "targets-out-of-range",
            f"binary_cross_entropy_with_logits refuses them: {outside_message(y, outside)}",
            "a loss of targets beyond [0, 1] has no lower bound",
            "targets / 255, or where=(targets >= 0) & (targets <= 1)",
        )
    if kind != "floating":
        yield Finding(
            "one-hot-integers",
            "integer targets of the logits' shape are not labels; one-hot targets must be floating",
            "cross_entropy refuses them",
            f"cross_entropy(logits, targets.argmax({axis}))",
        )
        return
    if (y < 0).any():
        yield Finding(
            "negative-targets",
            "some target probabilities are negative",
            "the loss has no lower bound",
            "targets.clip(0, 1), where rounding made them so",
        )
    if axis < y.ndim and not np.allclose(y.sum(axis=axis, dtype=np.float64), 1, atol=NEAR):
        yield Finding(
            "unnormalized-targets",
            "target probabilities do not sum to 1 along the class axis; is the axis right, or is "
            "this multilabel, for binary_cross_entropy_with_logits?",
            "a row counts as often as its targets sum to",
            "binary_cross_entropy_with_logits(logits, targets)",
        )
        positives = (y == 1).mean() if y.size else 0.0
        if ((y == 0) | (y == 1)).all() and 0 < positives < RARE:
            yield Finding(
                "imbalance",
                f"{positives:.2%} of the binary targets are positive",
                "a model that denies everything is nearly as good as one that has learnt",
                "binary_cross_entropy_with_logits(logits, targets, "
                "pos_weight=positive_class_weight(targets))",
            )
