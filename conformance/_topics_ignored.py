"""Rows that do not count, by label or by mask, and what they may hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    GAP,
    INF,
    LABELS,
    NAN,
    ONCE,
    REDUCTIONS,
    ROWS,
    SOFT,
    SURE,
    WEIGHT,
    Case,
    case,
)

# What a row that does not count may hold -> why
GARBAGE: dict[str, tuple[list[float], str]] = {
    "nan": ([NAN, NAN, NAN], "padding that was never written"),
    "one-nan": ([NAN, 0.0, 1.0], "0 times it is NaN"),
    "infinite": ([INF, 0.0, INF], "an overflow upstream"),
    "masked": ([-INF, -INF, -INF], "a row that attention masked wholly"),
    "largest": ([6.0e4, -6.0e4, 6.0e4], "it must not become the shift of other rows"),
}
# ignore_index -> why
INDICES = {
    -1: "the last class, if it wraps; a usual padding label",
    0: "a class of its own: the padding token of many vocabularies",
    1: "a class in the middle",
    2: "the last class",
    3: "one past the last class",
    255: "the void of segmentation maps",
    -(2**31): "the smallest int32",
}
COMBINED: dict[str, dict[str, Any]] = {
    "weight": {"weight": WEIGHT},
    "sample-weight": {"sample_weight": ONCE},
    "uniform": {"label_smoothing": 0.25},
    "others": {"label_smoothing": 0.25, "smoothing": "others"},
    "uniform-weight": {"label_smoothing": 0.25, "weight": WEIGHT},
    "others-weight": {"label_smoothing": 0.25, "smoothing": "others", "weight": WEIGHT},
    "z-loss": {"z_loss": 0.01},
}


def ignored() -> Iterator[Case]:
    """The rules, one at a time."""
    say = "The third row is ignored: no loss, no gradient, no share of the mean"
    yield case("ignored", say, ROWS, GAP, flags="IgnoredRow", dtypes=ALL)
    say = "An ignored row of NaN, and one of nothing but -inf: gradient exactly 0"
    bad = [ROWS[0], [NAN] * 3, [-INF] * 3, ROWS[3]]
    yield case("ignored-nan", say, bad, [0, -100, -100, 1], flags="IgnoredRow")
    for index, labels in ((0, LABELS), (255, [0, 255, 2, 1])):
        more: dict[str, Any] = {"ignore_index": index, "reduction": "sum"}
        say = f"ignore_index={index}, the sum"
        yield case(f"ignore-{index}", say, ROWS, labels, flags="IgnoredRow", **more)
    say = "A mask, with a NaN in a row that it leaves out"
    bad, where = [ROWS[0], [0.0, NAN, 1.0], *ROWS[2:]], [True, False, True, True]
    yield case("where", say, bad, LABELS, flags="IgnoredRow", where=where)
    none: list[dict[str, Any]] = [{}, {"reduction": "sum"}, {"normalizer": 4.0}]
    for name, more in zip(("mean", "sum", "normalizer"), none, strict=True):
        say = f"Nothing counts ({name}): the mean is NaN, anything else 0"
        yield case(f"nothing-{name}", say, ROWS, [-100] * 4, flags="NothingCounted", **more)


def patterns() -> Iterator[Case]:
    """Which of four rows count: every pattern, by label and by mask."""
    for keep in product((True, False), repeat=4):
        if not 0 < sum(keep) < 4:
            continue
        bits = "".join("01"[k] for k in keep)
        labels = [y if k else -100 for y, k in zip(LABELS, keep, strict=True)]
        say = f"Rows that count: {bits}; each is divided by {sum(keep)}"
        yield case(f"ignored-{bits}", say, ROWS, labels, flags="IgnoredRow")
        say = f"A mask of {bits}, each row's loss"
        more: dict[str, Any] = {"where": list(keep), "reduction": "none"}
        yield case(f"where-{bits}", say, ROWS, LABELS, flags="IgnoredRow", **more)
    say = "A mask and an ignored label in different rows: two rows count"
    where = [False, True, True, True]
    yield case("where-and-ignored", say, ROWS, GAP, flags="IgnoredRow", dtypes=ALL, where=where)
    say = "A mask that lets everything through changes nothing"
    yield case("where-all", say, ROWS, LABELS, flags="IgnoredRow", where=[True] * 4)


def garbage() -> Iterator[Case]:
    """What a row that does not count holds has no effect, in any reduction."""
    for (name, (row, why)), kind in product(GARBAGE.items(), REDUCTIONS):
        bad = [ROWS[0], row, *ROWS[2:]]
        say = f"An ignored row of {row} ({kind}): {why}"
        labels = [0, -100, 1, 0]
        more: dict[str, Any] = {"flags": "IgnoredRow", "reduction": kind}
        yield case(f"ignored-{name}-{kind}", say, bad, labels, **more)
        more["where"] = [True, False, True, True]
        say = f"A row of {row} that a mask leaves out ({kind}): {why}"
        yield case(f"where-{name}-{kind}", say, bad, LABELS, **more)
    for name, (row, why) in GARBAGE.items():
        bad = [ROWS[0], row, *ROWS[2:]]
        soft = [SOFT[0], [NAN, INF, -1.0], *SOFT[2:]]
        say = f"Logits of {row} and nonsense for probabilities, left out by a mask: {why}"
        where = [True, False, True, True]
        yield case(f"where-{name}-soft", say, bad, soft, flags="IgnoredRow", where=where)
    say = "A mask over a label that is no class: no error, and no share"
    where = [True, False, True, True]
    labels = [0, 7, 1, 0]
    yield case("where-bad-label", say, ROWS, labels, flags="IgnoredRow LabelRange", where=where)


def indices() -> Iterator[Case]:
    """Any integer may be the label to ignore, also one that is a class."""
    more: dict[str, Any]
    for (index, why), kind in product(INDICES.items(), REDUCTIONS):
        if index in (0, 255) and kind == "sum":
            continue  # they have been there from the beginning
        labels = [index, 2, 1, 0] if index not in (0, 1, 2) else [0, 2, 1, 0]
        name = f"ignore-{'minus-' if index < 0 else ''}{abs(index)}-{kind}"
        say = f"ignore_index={index} ({kind}): {why}"
        more = {"flags": "IgnoredRow", "ignore_index": index, "reduction": kind}
        yield case(name, say, ROWS, labels, **more)
    for kind in REDUCTIONS:
        say = f"ignore_index=None: every label counts ({kind})"
        more = {"flags": "IgnoredRow", "ignore_index": None, "reduction": kind}
        yield case(f"ignore-off-{kind}", say, ROWS, LABELS, **more)
    say = "An ignored label in int8, below the range of every class"
    yield case("ignored-int8", say, ROWS, GAP, flags="IgnoredRow LabelDtype", targets_dtype="int8")


def nothing() -> Iterator[Case]:
    """No row counts."""
    ways: dict[str, dict[str, Any]] = {
        "mask": {"where": [False] * 4},
        "sample-weight": {"sample_weight": [0.0] * 4},
        "smoothing": {"where": [False] * 4, "label_smoothing": 0.125},
        "weight": {"where": [False] * 4, "weight": WEIGHT},
    }
    ends: dict[str, dict[str, Any]] = {
        "mean": {},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "normalizer": {"normalizer": 4.0},
    }
    for (way, how), (end, more) in product(ways.items(), ends.items()):
        if way == "sample-weight" and end == "mean":
            continue  # 0/0 for rows that do count: the next case
        say = f"Nothing counts, by {way.replace('-', ' ')} ({end})"
        yield case(f"nothing-{way}-{end}", say, ROWS, LABELS, flags="NothingCounted", **how, **more)
    say = "Nothing counts, and every row is NaN: the sum is 0, the gradient too"
    bad = [[NAN] * 3] * 4
    yield case("nothing-nan", say, bad, [-100] * 4, flags="NothingCounted", reduction="sum")


def combined() -> Iterator[Case]:
    """Ignored rows together with whatever else has a share of the mean or a mass."""
    bad = [ROWS[0], ROWS[1], [NAN] * 3, ROWS[3]]
    for (name, more), kind in product(COMBINED.items(), REDUCTIONS):
        say = f"An ignored row of NaN and {name.replace('-', ' ')} ({kind}): as if dropped"
        flags = "IgnoredRow" + (" SmoothingIgnored" if "label_smoothing" in more else "")
        yield case(f"ignored-and-{name}-{kind}", say, bad, GAP, flags=flags, reduction=kind, **more)


def confident() -> Iterator[Case]:
    """Rows whose digits are easily lost, beside rows that do not count."""
    for kind in REDUCTIONS:
        more: dict[str, Any] = {"reduction": kind, "flags": "IgnoredRow Confident", "dtypes": ALL}
        say = f"Confident rows beside an ignored one ({kind})"
        yield case(f"ignored-confident-{kind}", say, SURE, [0, 1, -100, 0], **more)
        more["where"] = [False, True, True, True]
        say = f"Confident rows beside a masked one ({kind})"
        yield case(f"where-confident-{kind}", say, SURE, [0, 1, 2, 0], **more)


TOPICS = (ignored, patterns, garbage, indices, nothing, combined, confident)
