"""Binary targets outside [0, 1]: an error, or NaN where none can be raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import ALL, HITS, NAN, REDUCTIONS, TABLE, Case, binary

# A target that is none -> what it is taken for
WRONG = {
    255.0: "a mask of 0 and 255 that was not divided",
    2.0: "labels from 1, or a class of three",
    -1.0: "the negative class of a margin loss, or what is to be ignored",
    -100.0: "what cross_entropy ignores",
    1.5: "a probability that was added up",
}
RAISES: dict[str, Any] = {"raises": "ValueError", "flags": "LabelRange"}


def outside() -> Iterator[Case]:
    """Every wrong target, floating and integer, in every reduction."""
    for target, why in WRONG.items():
        name = f"{target:g}".replace("-", "minus-").replace(".", "-")
        targets = [[1.0, 0.0, target], HITS[1]]
        for kind in REDUCTIONS:
            say = f"A target of {target:g} ({kind}): {why}"
            more = {**RAISES, "reduction": kind, "dtypes": ALL if kind == "none" else ("float32",)}
            yield binary(f"target-{name}-{kind}", say, TABLE, targets, **more)
        if target in (-100.0, 1.5):
            continue
        say = f"A target of {target:g}, an integer: {why}"
        whole = [[int(y) for y in row] for row in targets]
        yield binary(f"target-int-{name}", say, TABLE, whole, reduction="none", **RAISES)
    say = "A target of 255 in uint8, whose negative is a 1"
    whole = [[1, 0, 255], [1, 1, 0]]
    more = {**RAISES, "flags": "LabelRange LabelDtype", "targets_dtype": "uint8"}
    yield binary("target-uint8", say, TABLE, whole, reduction="none", **more)


def counting() -> Iterator[Case]:
    """What does not count may hold anything; what does, may not."""
    where = [[True, True, False], [True, True, True]]
    targets = [[1.0, 0.0, 255.0], [1.0, 1.0, 0.0]]
    for kind in REDUCTIONS:
        say = f"A target of 255 that is masked ({kind})"
        more: dict[str, Any] = {"where": where, "reduction": kind, "flags": "IgnoredRow"}
        yield binary(f"target-masked-{kind}", say, TABLE, targets, **more)
    say = "A masked target of 255 beside one of 2 that counts"
    both = [[1.0, 0.0, 255.0], [1.0, 2.0, 0.0]]
    more = {**RAISES, "where": where, "reduction": "none"}
    yield binary("target-beside-mask", say, TABLE, both, **more)
    options: dict[str, dict[str, Any]] = {
        "weight": {"weight": [0.5, 2.0, 0.0]},
        "pos-weight": {"pos_weight": [3.0, 0.25, 0.0]},
        "smoothing": {"label_smoothing": 1.0},
    }
    for name, option in options.items():
        say = f"A target of 255 with {name}, which leaves nothing of it: it is wrong all the same"
        own = f"target-with-{name}"
        more = {**RAISES, "reduction": "none"}
        yield binary(own, say, TABLE, targets, **option, **more)
    say = "A target of NaN is a number that is not known: NaN, and no error"
    unknown = [[1.0, NAN, 0.0], [1.0, 1.0, 0.0]]
    yield binary("target-nan", say, TABLE, unknown, flags="Overflow", reduction="none")


TOPICS = (outside, counting)
