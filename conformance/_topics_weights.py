"""Class weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    GAP,
    LABELS,
    ONCE,
    REDUCTIONS,
    ROWS,
    SOFT,
    WEIGHT,
    Case,
    case,
    normal_rows,
    row,
)

# Weights of three classes -> why
VECTORS = {
    "ones": ([1.0, 1.0, 1.0], "no change"),
    "equal": ([3.0, 3.0, 3.0], "the mean of labels does not change, all else does"),
    "rare": ([0.5, 4.0, 64.0], "inverse frequencies"),
    "tiny": ([2.0**-12, 2.0**-10, 2.0**-8], "the mean divides by a small number"),
    "thirds": ([1 / 3, 2 / 3, 1 / 7], "no exact numbers"),
    "one-zero": ([1.0, 0.0, 2.0], "a class that is left out"),
}


def weights() -> Iterator[Case]:
    """The rules, one at a time."""
    say, flags = "The mean divides by the sum of the labels' weights", "WeightedMean"
    yield case("weight", say, ROWS, LABELS, flags=flags, dtypes=ALL, weight=WEIGHT)
    say = "With probabilities the mean divides by the number of rows"
    yield case("weight-soft", say, ROWS, SOFT, flags=flags, weight=WEIGHT)
    say = "A class of weight 0: its rows count for nothing"
    yield case("weight-zero", say, ROWS, LABELS, flags=flags, weight=[0.0, 1.0, 2.0])
    say, once = "Class weights, sample weights and an ignored row", [1.0, 0.5, 2.0, 4.0]
    yield case("weight-sample", say, ROWS, GAP, flags=flags, weight=WEIGHT, sample_weight=once)


def vectors() -> Iterator[Case]:
    """Every vector of weights in every reduction, for labels and probabilities."""
    for (name, (weight, why)), kind in product(VECTORS.items(), REDUCTIONS):
        more: dict[str, Any] = {"weight": weight, "reduction": kind}
        flags = "WeightedMean" if kind == "mean" else "ClassWeight"
        say = f"Class weights {name} ({kind}): {why}"
        yield case(f"weight-{name}-{kind}", say, ROWS, LABELS, flags=flags, **more)
        say = f"Class weights {name} for probabilities ({kind}): {why}"
        yield case(f"weight-{name}-soft-{kind}", say, ROWS, SOFT, flags=flags, **more)


def combined() -> Iterator[Case]:
    """Class weights with whatever else multiplies, divides or leaves out."""
    meetings: dict[str, dict[str, Any]] = {
        "mask": {"where": [True, False, True, True]},
        "ignored": {"ignore_index": 0},
        "sample-weight": {"sample_weight": ONCE},
        "mask-sample-weight": {"where": [True, True, True, False], "sample_weight": ONCE},
        "normalizer": {"normalizer": 5.0},
        "z-loss": {"z_loss": 0.01},
    }
    for (name, more), target in product(meetings.items(), ("label", "soft")):
        if target == "soft" and name == "ignored":
            continue  # probabilities have no label to ignore
        say = f"Class weights with {name.replace('-', ' ')}, {target} targets"
        flags = "WeightedMean" + (" ZLoss" if name == "z-loss" else "")
        targets = LABELS if target == "label" else SOFT
        own = f"weight-with-{name}-{target}"
        yield case(own, say, ROWS, targets, dtypes=ALL, flags=flags, weight=WEIGHT, **more)


def rows() -> Iterator[Case]:
    """Weights where they may spoil digits."""
    for t in (8.0, 20.0, 40.0):
        say = f"A weighted row of log-odds {t:g} keeps its digits"
        more: dict[str, Any] = {"weight": [3.0, 0.5, 1.0], "reduction": "none"}
        flags = "ClassWeight Confident"
        yield row(f"weight-odds-{t:g}", say, [t, 0.0, 0.5], 0, flags=flags, dtypes=ALL, **more)
        say = f"Weighted, nearly one-hot probabilities on log-odds {t:g}: two masses, two weights"
        soft = [0.96875, 0.03125, 0.0]
        own = f"weight-odds-{t:g}-soft"
        yield row(own, say, [t, 0.0, 0.5], soft, flags=flags, **more)
    say = "All rows have the same label: the mean of weighted rows is the plain mean"
    yield case("weight-same-label", say, ROWS, [1] * 4, flags="WeightedMean", weight=WEIGHT)
    say = "Ten classes with weights of their own: a weight goes to its class, not to its row"
    logits = normal_rows(4, 10, 2.0, seed=600)
    ten = [2.0 ** (c - 5) for c in range(10)]
    for kind in REDUCTIONS:
        more = {"weight": ten, "reduction": kind, "flags": "ClassWeight"}
        yield case(f"weight-ten-{kind}", f"{say} ({kind})", logits, [9, 3, 0, 3], **more)
    say = "A masked class with a weight: nothing multiplies -inf"
    logits = [[1.0, float("-inf"), 0.5]] * 2
    more = {"weight": WEIGHT, "flags": "ClassWeight MaskedClass"}
    yield case("weight-masked", say, logits, [0, 2], **more)


TOPICS = (weights, vectors, combined, rows)
