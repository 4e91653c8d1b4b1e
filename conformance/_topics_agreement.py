"""Ordinary rows, where every implementation should agree."""

from __future__ import annotations

from collections.abc import Iterator

from xp_xent.conformance._case import ALL, LABELS, ROWS, Case, case, normal_rows, row

# Spread of the logits -> what it is like
SPREADS = {
    0.015625: "a network that was just initialised: nearly uniform",
    0.25: "all classes likely",
    1.0: "the usual spread of early training",
    4.0: "the usual spread of a trained classifier",
    12.0: "some classes far below eps, the rows far from each other",
}
# Number of classes -> why
CLASSES = {
    2: "the smallest choice",
    5: "odd, below every vector width",
    7: "one less than a vector of float32",
    8: "one vector of float32",
    9: "one more than a vector of float32",
    16: "two vectors, no remainder",
    31: "two vectors and all remainders",
    33: "one more than a warp",
    64: "a summation tree without remainder",
    129: "one more than a block of 128 classes",
}
# Which class each row is labelled with
CHOICES = {
    "likeliest": "every row is right",
    "rarest": "every row is as wrong as can be",
    "mixed": "labels without relation to the logits",
}


def textbook() -> Iterator[Case]:
    """Small examples that can be followed by hand."""
    flags = "Dtype Mutation"
    say = "Four rows of three classes, the mean"
    yield case("mean", say, ROWS, LABELS, dtypes=ALL, flags=flags)
    say = "Ten classes, logits of a usual spread"
    yield case("ten-classes", say, normal_rows(4, 10, 2.0, seed=1), [3, 0, 9, 5], dtypes=ALL)
    say = "A single class: loss and gradient are exactly 0"
    yield row("one-class", say, [3.5], 0, dtypes=ALL)
    yield row("tie", "Five equal logits: log 5", [0.75] * 5, 2, dtypes=ALL, flags="Ties")
    for value, why in {0.0: "zero", -7.0: "below zero", 100.0: "exp overflows in half"}.items():
        say = f"A single class of logit {value:g} ({why}): exactly 0, each row's loss"
        name = f"one-class-{'minus-' if value < 0 else ''}{abs(value):g}"
        yield case(name, say, [[value]] * 2, [0, 0], dtypes=ALL, reduction="none")


def pick(logits: list[list[float]], choice: str) -> list[int]:
    """Label rows by a rule."""
    if choice == "mixed":
        return [(3 * i + 1) % len(z) for i, z in enumerate(logits)]
    best = max if choice == "likeliest" else min
    return [z.index(best(z)) for z in logits]


def spreads() -> Iterator[Case]:
    """From uniform to decided, labelled right, wrong and anyhow."""
    for seed, (spread, like) in enumerate(SPREADS.items()):
        logits = normal_rows(4, 10, spread, seed=100 + seed)
        for choice, rule in CHOICES.items():
            name, say = f"spread-{seed}-{choice}", f"Spread of {spread:g}, {like}; {rule}"
            labels = pick(logits, choice)
            yield case(name, say, logits, labels, dtypes=ALL, reduction="none", flags="Dtype")


def classes() -> Iterator[Case]:
    """Numbers of classes where a vectorised or blocked sum changes its way."""
    for count, why in CLASSES.items():
        logits = normal_rows(2, count, 2.0, seed=200 + count)
        for where, label in {"first": 0, "last": count - 1}.items():
            say = f"{count} classes ({why}), the {where} one is the class"
            name = f"classes-{count}-{where}"
            yield case(name, say, logits, [label] * 2, reduction="none", flags="ManyClasses")


def positions() -> Iterator[Case]:
    """The class in each place, in rows where nothing else distinguishes it."""
    logits = normal_rows(1, 8, 1.0, seed=300)[0]
    for label in range(8):
        say = f"Class {label} of eight: no place of the class axis is special"
        yield row(f"position-{label}", say, logits, label, flags="GradientTarget")


def ties() -> Iterator[Case]:
    """Equal largest logits: a gradient through the maximum must not be split among them."""
    for top in (2, 3, 8):
        logits = [2.0] * top + [0.5] * (8 - top)
        say = f"{top} of eight classes share the largest logit, the first is the class"
        yield row(f"tie-{top}-in", say, logits, 0, flags="Ties", dtypes=ALL)
        if top < 8:
            say = f"{top} of eight classes share the largest logit, the last one is the class"
            yield row(f"tie-{top}-out", say, logits, 7, flags="Ties", dtypes=ALL)
    for name, value in {"zero": 0.0, "negative": -3.25, "large": 1024.0}.items():
        say = f"Eight logits of {value:g}: log 8, whatever they are"
        yield row(f"tie-{name}", say, [value] * 8, 5, flags="Ties SharedOffset", dtypes=ALL)


TOPICS = (textbook, spreads, classes, positions, ties)
