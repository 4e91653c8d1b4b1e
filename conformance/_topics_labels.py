"""Labels that are no class: an error, or NaN where values cannot be looked at; wrong kinds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    LABELS,
    REDUCTIONS,
    ROWS,
    SOFT,
    WEIGHT,
    Case,
    binary,
    case,
)

# A label for three classes that is none -> what it becomes where nobody checks
WRONG = {
    3: "the first class of the next row, in a flat gather",
    4: "the second class of the next row",
    -1: "the last class, if it wraps",
    -3: "the first class, if it wraps",
    -4: "out of range even if it wraps",
    12: "one past the end of all logits",
    100: "clamped to the last class",
    -99: "clamped to the first class",
    2**31: "negative, as an int32",
    2**32 + 1: "class 1, as an int32",
    -(2**32): "class 0, as an int32",
    2**63 - 1: "the largest int64: an address beyond all memory",
}
RAISES: dict[str, Any] = {"raises": "ValueError", "flags": "LabelRange"}


def name_of(label: int) -> str:
    """Write a label as part of an id."""
    return f"{'minus-' if label < 0 else ''}{abs(label)}"


def out_of_range() -> Iterator[Case]:
    """Every wrong label, in every reduction."""
    for (label, why), kind in product(WRONG.items(), REDUCTIONS):
        say = f"Label {label} of three classes ({kind}); unchecked it is {why}"
        labels = [0, label, 1, 0]
        more = {**RAISES, "reduction": kind}
        yield case(f"bad-label-{name_of(label)}-{kind}", say, ROWS, labels, **more)
    for label in (3, -1):
        for place in (0, 3):
            labels = [label if i == place else y for i, y in enumerate(LABELS)]
            say = f"Label {label} in row {place}: the first and the last row are checked too"
            more = {**RAISES, "reduction": "none", "dtypes": ALL}
            yield case(f"bad-label-{name_of(label)}-row-{place}", say, ROWS, labels, **more)
        say = f"Every label is {label}"
        more = {**RAISES, "reduction": "none"}
        yield case(f"bad-label-{name_of(label)}-all", say, ROWS, [label] * 4, **more)


def dtypes() -> Iterator[Case]:
    """Wrong labels in narrow dtypes, whose -1 or 255 is one of the numbers in them."""
    for dtype, label in (
        ("int8", -1), ("int8", 127), ("int16", -1), ("int32", -1), ("int32", 2**31 - 1),
        ("uint8", 3), ("uint8", 255),
    ):  # fmt: skip
        say = f"Label {label} of three classes in {dtype}"
        more = {**RAISES, "flags": "LabelRange LabelDtype", "targets_dtype": dtype}
        own = f"bad-label-{dtype}-{name_of(label)}"
        yield case(own, say, ROWS, [0, label, 1, 0], reduction="none", **more)


def ignoring() -> Iterator[Case]:
    """What is ignored is checked by nobody; what is not, is."""
    more: dict[str, Any] = {**RAISES, "reduction": "none"}
    say = "-100 is a label like any other where ignore_index is -1"
    yield case("bad-label-not-ignored", say, ROWS, [0, -100, 1, -1], ignore_index=-1, **more)
    say = "-100 is a label like any other where nothing is ignored"
    yield case("bad-label-ignore-off", say, ROWS, [0, -100, 1, 0], ignore_index=None, **more)
    say = "A wrong label beside an ignored one"
    yield case("bad-label-beside-ignored", say, ROWS, [0, -100, 3, 0], **more)
    say = "A wrong label in a row that counts beside a masked one"
    where = [True, False, True, True]
    yield case("bad-label-beside-mask", say, ROWS, [0, 3, 3, 0], where=where, **more)
    options: dict[str, dict[str, Any]] = {
        "weight": {"weight": WEIGHT},
        "smoothing": {"label_smoothing": 0.125},
        "others": {"label_smoothing": 0.125, "smoothing": "others"},
        "z-loss": {"z_loss": 0.01},
        "softcap": {"softcap": 5.0},
        "sample-weight": {"sample_weight": [1.0, 0.5, 2.0, 1.0]},
    }
    for name, option in options.items():
        say = f"A wrong label with {name.replace('-', ' ')}: no detour around the check"
        yield case(f"bad-label-with-{name}", say, ROWS, [0, 2, -1, 1], **option, **more)
    say = "A wrong label where the classes are along axis 0"
    columns = [[1.0, 0.0], [0.5, -2.0], [-1.0, 3.0]]
    yield case("bad-label-axis-0", say, columns, [2, 3], axis=0, **more)
    say = "A label as large as a single class's axis"
    yield case("bad-label-one-class", say, [[0.5], [1.0]], [0, 1], **more)


def wrong_kinds() -> Iterator[Case]:
    """What can be told from shapes, dtypes and options alone is an error on every machine."""
    always: dict[str, Any] = {"flags": "WrongKind", "everywhere": True}
    value: dict[str, Any] = {**always, "raises": "ValueError"}
    say = "Three labels for four rows"
    yield case("wrong-rows", say, ROWS, [0, 2, 1], **value)
    say = "Labels with an axis of one more: it must not broadcast"
    yield case("wrong-column", say, ROWS, [[0], [2], [1], [0]], **value)
    say = "Probabilities of one class less"
    yield case("wrong-classes", say, ROWS, [row[:2] for row in SOFT], **value)
    say = "A class axis that the logits do not have"
    yield case("wrong-axis", say, ROWS, LABELS, axis=2, **value)
    say = "Class weights for two of three classes"
    yield case("wrong-weight", say, ROWS, LABELS, weight=[1.0, 2.0], **value)
    say = "A mask for three of four rows"
    yield case("wrong-where", say, ROWS, LABELS, where=[True, False, True], **value)
    say = "A denominator for a sum"
    yield case("wrong-normalizer", say, ROWS, LABELS, reduction="sum", normalizer=4.0, **value)
    say = "Smoothing of more than everything"
    yield case("wrong-smoothing", say, ROWS, LABELS, label_smoothing=1.5, **value)
    say = "Binary targets of another shape: they must not broadcast"
    yield binary("wrong-shape", say, [[0.5, 1.0]], [1.0, 0.0], **value)


TOPICS = (out_of_range, dtypes, ignoring, wrong_kinds)
