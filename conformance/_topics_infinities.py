"""Masked classes, and overflows that have to stay visible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import ALL, INF, NAN, REDUCTIONS, ROWS, Case, case, row

EIGHT = [0.5, 1.0, -1.0, 0.0, 2.0, -0.25, 0.75, -3.0]
# Which of eight classes are masked -> why
MASKS = {
    "start": ((0, 1, 2, 3), "a running maximum starts at -inf"),
    "end": ((4, 5, 6, 7), "the last block has a maximum of -inf"),
    "middle": ((3, 4), "a hole"),
    "top": ((4,), "the class that was the largest"),
    "alternate": ((0, 2, 4, 6), "every second one, as in a packed vocabulary"),
    "all-but-two": ((0, 1, 2, 5, 6, 7), "a yes-or-no question to a language model"),
}


def infinities() -> Iterator[Case]:
    """The rules, one at a time."""
    say = "A class masked by -inf has p = 0 and gradient 0"
    yield row("masked", say, [1.0, -INF, 0.5, -0.25], 0, flags="MaskedClass", dtypes=ALL)
    say = "The class is the only one that is left: loss and gradient are exactly 0"
    yield row("masked-but-one", say, [-INF, -2.0, -INF], 1, flags="MaskedClass")
    say, logits = "The class itself is masked: the loss is +inf", [1.0, -INF, 0.5]
    yield row("masked-class", say, logits, 1, flags="MaskedClass")
    say = "A probability of 0 on a masked class adds 0, not NaN"
    yield row("masked-zero", say, logits, [0.75, 0.0, 0.25], flags="MaskedClass", dtypes=ALL)
    say = "Smoothing puts mass on a masked class: the loss is +inf"
    yield row("masked-smoothing", say, logits, 0, flags="MaskedClass", label_smoothing=0.125)
    say = "The first half of a row is masked: a running maximum starts at -inf"
    yield row("masked-block", say, [-INF] * 4 + [0.5, 1.0, -1.0, 0.0], 5, flags="MaskedRow")
    say = "A row of nothing but -inf is NaN, the other one untouched"
    two, only = [[-INF] * 3, ROWS[0]], "none"
    yield case("masked-row", say, two, [0, 1], flags="MaskedRow", reduction=only)
    for bad, name in ((INF, "infinite"), (NAN, "nan")):
        say = f"A logit of {bad} makes its row NaN, the other one untouched"
        two = [[0.5, bad, 0.0], ROWS[1]]
        yield case(f"{name}-row", say, two, [0, 1], flags="Overflow", reduction=only)


def masked_classes() -> Iterator[Case]:
    """Patterns of masked classes, by label and by probabilities."""
    for name, (gone, why) in MASKS.items():
        logits = [-INF if c in gone else z for c, z in enumerate(EIGHT)]
        left = [c for c in range(8) if c not in gone]
        say = f"Classes {gone} of eight are masked: {why}"
        yield row(f"masked-{name}", say, logits, left[0], flags="MaskedRow", dtypes=ALL)
        soft = [(0.5 if c in left[:2] else 0.0) for c in range(8)]
        say = f"The same with probabilities, 0 on what is masked: {why}"
        yield row(f"masked-{name}-soft", say, logits, soft, flags="MaskedClass", dtypes=ALL)
        say = f"Offset by 4096 and masked: {why}"
        logits = [4096.0 + 4.0 * z for z in logits]
        yield row(f"masked-{name}-offset", say, logits, left[-1], flags="MaskedRow SharedOffset")
    confident = [25.0, -INF, 0.0, -INF]
    say = "A confident row beside masked classes keeps its digits"
    yield row("masked-confident", say, confident, 0, flags="MaskedClass Confident", dtypes=ALL)
    weight = [1.0, 0.0, 2.0, 0.0]
    say = "Smoothing with a class weight of 0 on what is masked puts no mass there: finite"
    more = {"label_smoothing": 0.125, "weight": weight, "flags": "MaskedClass Smoothing"}
    yield row("masked-no-mass", say, [1.0, -INF, 0.5, -INF], 0, **more)
    for kind in REDUCTIONS:
        say = f"A row with a masked class and a loss of +inf among others ({kind})"
        several = [[1.0, -INF, 0.5], ROWS[0], ROWS[1], ROWS[2]]
        flags = "MaskedClass"
        yield case(f"masked-loss-{kind}", say, several, [1, 0, 2, 1], flags=flags, reduction=kind)


def visible() -> Iterator[Case]:
    """Overflows: in each place, and in each reduction."""
    bad = {"nan": NAN, "infinite": INF}
    for name, x in bad.items():
        for place in range(3):
            logits = [[x if c == place else z for c, z in enumerate(ROWS[0])], *ROWS[1:]]
            say = f"{x} at class {place}, the label is 0: NaN here, the other rows untouched"
            labels = [0, 2, 1, 0]
            more: dict[str, Any] = {"flags": "Overflow", "reduction": "none"}
            yield case(f"{name}-at-{place}", say, logits, labels, dtypes=ALL, **more)
        for kind in ("mean", "sum"):
            logits = [ROWS[0], [x, 0.0, 1.0], ROWS[2], ROWS[3]]
            say = f"{x} in one row: the {kind} is NaN, the other rows' gradients are not"
            yield case(
                f"{name}-{kind}", say, logits, [0, 1, 1, 0], flags="Overflow", reduction=kind
            )
        soft = [[1.0, 0.0, 0.0]] * 2
        say = f"{x} where the probability is 0 is visible all the same"
        logits = [[0.5, x, 0.0], ROWS[1]]
        yield case(f"{name}-soft", say, logits, soft, flags="Overflow", reduction="none")
    say = "+inf and -inf in a row: NaN, for no probability is defined"
    logits = [[INF, -INF, 0.0], ROWS[1]]
    yield case("both-infinities", say, logits, [0, 1], flags="Overflow", reduction="none")
    for kind in REDUCTIONS:
        say = f"A row of nothing but -inf among others ({kind})"
        logits = [ROWS[0], [-INF] * 3, *ROWS[2:]]
        labels = [0, 1, 2, 1]
        yield case(f"masked-row-{kind}", say, logits, labels, flags="MaskedRow", reduction=kind)


TOPICS = (infinities, masked_classes, visible)
