"""The vectors of binary_cross_entropy_with_logits: one small function a topic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance import _topics_binary_extreme
from xp_xent.conformance._case import (
    ALL,
    HITS,
    NAN,
    REDUCTIONS,
    TABLE,
    Case,
    binary,
    normal_rows,
)

SOFT = [[0.25, 0.5, 0.875], [0.125, 1.0, 0.0]]
# Weights of three columns -> why
WEIGHTS = {
    "ones": ([1.0, 1.0, 1.0], "no change"),
    "equal": ([4.0, 4.0, 4.0], "the mean is four times as large: it divides by elements"),
    "mixed": ([0.5, 2.0, 8.0], "each its own"),
    "zero": ([0.0, 1.0, 2.0], "a column that is left out of the sum, not of the number"),
    "thirds": ([1 / 3, 2 / 3, 1 / 7], "no exact numbers"),
}
# Smoothing -> why
EPSILONS = {
    "0.01": "a small value in use",
    "0.05": "a usual value",
    "0.5": "targets of 1/4 and 3/4",
    "1": "every target is 1/2: the label is gone",
}
# Which elements count -> why
MASKS = {
    "diagonal": ([[True, False, True], [False, True, False]], "alternating"),
    "row": ([[True, True, True], [False, False, False]], "one of two rows"),
    "one": ([[False, False, False], [False, True, False]], "a single element"),
    "all": ([[True, True, True], [True, True, True]], "no change"),
}


def agreement() -> Iterator[Case]:
    """Ordinary elements, and every kind of target."""
    flags = "BinaryMean Dtype Mutation"
    yield binary("mean", "The mean", TABLE, HITS, dtypes=ALL, flags=flags)
    say = "Soft targets, each element's loss"
    yield binary("soft", say, TABLE, SOFT, dtypes=ALL, reduction="none")
    whole = [[1, 0, 1], [1, 1, 0]]
    yield binary("int", "Targets as integers, the sum", TABLE, whole, reduction="sum")
    truths = [[bool(y) for y in row] for row in whole]
    yield binary("bool", "Targets as booleans", TABLE, truths)
    for kind in REDUCTIONS:
        say = f"Four rows of eight elements of the usual spread ({kind})"
        logits = normal_rows(4, 8, 2.0, seed=1000)
        targets = [[float((3 * i + j) % 4 == 0) for j in range(8)] for i in range(4)]
        own = f"rows-{kind}"
        yield binary(own, say, logits, targets, flags="BinaryMean", dtypes=ALL, reduction=kind)
        say = f"The same with soft targets ({kind})"
        soft = [[((5 * i + 3 * j) % 9) / 8 for j in range(8)] for i in range(4)]
        own = f"rows-soft-{kind}"
        yield binary(own, say, logits, soft, flags="BinaryMean", dtypes=ALL, reduction=kind)


def weights() -> Iterator[Case]:
    """Weights, smoothing, denominators."""
    say = "Weights of the last axis and for positives; the mean still divides by 6"
    both: dict[str, Any] = {"weight": [0.5, 2.0, 1.0], "pos_weight": [3.0, 0.25, 1.0]}
    yield binary("weights", say, TABLE, HITS, flags="PosWeight BinaryMean", dtypes=ALL, **both)
    say = "A large weight for positives on confident logits: no NaN, no cancellation"
    more: dict[str, Any] = {"pos_weight": [1000.0], "reduction": "sum"}
    yield binary("pos-weight", say, [30.0, -30.0], [1.0, 0.0], flags="PosWeight", **more)
    say = "Smoothing y (1 - 0.1) + 0.05"
    yield binary("smoothing", say, TABLE, HITS, flags="Smoothing", label_smoothing=0.1)
    say = "Smoothing of 0.001 on a confident element: 1 - y is 0.0005, no difference from 1"
    more = {"flags": "Smoothing", "label_smoothing": 0.001, "reduction": "none"}
    yield binary("smoothing-confident", say, [7.5, -12.0], [1.0, 0.0], **more)
    say, where = "Another denominator, an element masked", [[True, True, False], [True] * 3]
    more = {"normalizer": 10.0, "where": where}
    yield binary("normalizer", say, TABLE, HITS, flags="Normalizer", **more)


def weight_vectors() -> Iterator[Case]:
    """Every vector of weights in every reduction, for elements and for positives."""
    for (name, (weight, why)), kind in product(WEIGHTS.items(), REDUCTIONS):
        say = f"Weights {name} ({kind}): {why}"
        more: dict[str, Any] = {"reduction": kind, "weight": weight}
        yield binary(f"weight-{name}-{kind}", say, TABLE, HITS, flags="BinaryMean", **more)
        say = f"Weights for positives {name} ({kind}): {why}; negatives have none"
        more = {"reduction": kind, "pos_weight": weight}
        own = f"pos-weight-{name}-{kind}"
        yield binary(own, say, TABLE, SOFT, flags="PosWeight BinaryMean", **more)
    for t, factor in product((4.0, 15.0, 40.0), (0.125, 100.0)):
        say = f"A weight of {factor:g} for positives on logits of ±{t:g}, right and wrong"
        name = f"pos-weight-{factor:g}-at-{t:g}".replace(".", "-")
        logits, targets = [t, -t, t, -t], [1.0, 1.0, 0.0, 0.0]
        more = {"flags": "PosWeight BinaryExtreme", "pos_weight": [factor], "reduction": "none"}
        yield binary(name, say, logits, targets, dtypes=ALL, **more)


def smoothing() -> Iterator[Case]:
    """Every amount of smoothing, alone and with weights."""
    for (size, why), kind in product(EPSILONS.items(), REDUCTIONS):
        more: dict[str, Any] = {"label_smoothing": float(size), "reduction": kind}
        more |= {"flags": "Smoothing", "dtypes": ALL}
        own = f"smoothing-{size.replace('.', '-')}-{kind}"
        yield binary(own, f"Smoothing of {size} ({kind}): {why}", TABLE, HITS, **more)
        say = f"Smoothing of {size} before the weight for positives ({kind}): {why}"
        more |= {"pos_weight": [3.0, 0.25, 1.0], "flags": "Smoothing PosWeight"}
        yield binary(f"{own}-pos-weight", say, TABLE, SOFT, **more)


def masks() -> Iterator[Case]:
    """Elements that do not count, with NaN in them."""
    for (name, (where, why)), kind in product(MASKS.items(), REDUCTIONS):
        more: dict[str, Any] = {"where": where, "reduction": kind, "flags": "IgnoredRow"}
        say = f"A mask, {name} ({kind}): {why}"
        yield binary(f"where-{name}-{kind}", say, TABLE, HITS, **more)
        if name == "all":
            continue
        pairs = [zip(*rows, strict=True) for rows in zip(TABLE, where, strict=True)]
        bad = [[z if keep else NAN for z, keep in pair] for pair in pairs]
        say = f"NaN wherever the mask, {name}, lets nothing through ({kind})"
        more |= {"weight": [0.5, 2.0, 1.0]}
        yield binary(f"where-{name}-nan-{kind}", say, bad, SOFT, **more)
    nothing = [[False] * 3] * 2
    for kind in REDUCTIONS:
        more = {"where": nothing, "reduction": kind, "flags": "NothingCounted"}
        yield binary(f"nothing-{kind}", f"No element counts ({kind})", TABLE, HITS, **more)
    say = "No element counts, and a given denominator: 0"
    more = {"where": nothing, "normalizer": 6.0, "flags": "NothingCounted"}
    yield binary("nothing-normalizer", say, TABLE, HITS, **more)


TOPICS = (
    agreement, _topics_binary_extreme.limits, weights, weight_vectors, smoothing, masks,
    _topics_binary_extreme.elements, _topics_binary_extreme.symmetry,
    _topics_binary_extreme.infinities,
)  # fmt: skip
