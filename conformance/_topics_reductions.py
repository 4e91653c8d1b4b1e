"""Denominators: of the mean, given ones, of weighted samples, and no rows at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from xp_xent.conformance._case import (
    ALL,
    GAP,
    HITS,
    LABELS,
    ONCE,
    REDUCTIONS,
    ROWS,
    SOFT,
    SURE,
    TABLE,
    WEIGHT,
    Case,
    binary,
    case,
    normal_rows,
)

# Denominator -> why
NORMALIZERS = {
    1.0: "the sum",
    0.5: "below 1",
    3.0: "the number of rows that count, not a power of 2",
    10.0: "an accumulated batch",
    4096.0: "a distributed batch",
    1e6: "more than float16 holds",
    1e-3: "a gradient scale",
}
# Weights of four samples -> why
SAMPLES = {
    "ones": ([1.0] * 4, "all 1: no change"),
    "equal": ([3.0] * 4, "all equal: the mean does not change, the sum does"),
    "one": ([0.0, 1.0, 0.0, 0.0], "a choice of one row"),
    "small": ([2.0**-10, 1.0, 2.0**-12, 0.5], "importance weights of several magnitudes"),
    "large": ([100.0, 2.0, 1000.0, 1.0], "one row outweighs all others"),
    "thirds": ([1 / 3, 2 / 3, 1 / 7, 5 / 7], "no exact numbers"),
}
# Dtype -> a weight and a denominator that are in its range, as is their quotient
FACTORS = {"float32": (2.2e-25, 1e6), "float64": (1e-200, 1e100)}
# Number of rows -> why
COUNTS = {
    1: "one row: mean, sum and none agree",
    2: "a power of 2",
    3: "a division that rounds",
    7: "below a vector's width",
    10: "a usual small batch",
    17: "a sum with remainder",
    64: "a sum over a tree",
}


def empty(name: str, comment: str, shape: tuple[int, ...], **more: Any) -> Case:
    """Write a case without rows; nested lists could not say the shape behind a 0."""
    return case(name, comment, np.zeros(shape), np.zeros(shape[:-1], dtype=np.int64), **more)


def name_of(number: float) -> str:
    """Write a number as part of an id."""
    return f"{number:g}".replace("e-0", "e-").replace("e+0", "e").replace(".", "-")


def reductions() -> Iterator[Case]:
    """The rules, one at a time."""
    yield case("none", "Each row's loss", ROWS, LABELS, dtypes=ALL, reduction="none")
    yield case("sum", "The sum", ROWS, LABELS, dtypes=ALL, reduction="sum", flags="Reduction")
    say = "The tokens of an accumulated batch as the denominator, a row ignored"
    yield case("normalizer", say, ROWS, GAP, flags="Normalizer", normalizer=7.0)
    say = "Sample weights count in the loss and in the denominator, a row ignored"
    more: dict[str, Any] = {"flags": "Normalizer SampleWeight", "sample_weight": ONCE}
    yield case("sample-weight", say, ROWS, GAP, **more)


def normalizers() -> Iterator[Case]:
    """Given denominators; weights and masks then no longer divide."""
    others: dict[str, dict[str, Any]] = {
        "plain": {},
        "weight": {"weight": WEIGHT},
        "sample-weight": {"sample_weight": ONCE},
        "mask": {"where": [True, True, False, True]},
    }
    for (count, why), (name, more) in product(NORMALIZERS.items(), others.items()):
        say = f"A denominator of {count:g} ({why}) with {name.replace('-', ' ')}"
        labels = GAP if name == "plain" else LABELS
        flags = "Normalizer" + (" WeightedMean" if name == "weight" else "")
        own = f"normalizer-{name}-{name_of(count)}"
        yield case(own, say, ROWS, labels, flags=flags, normalizer=count, **more)
    say = "A denominator with probabilities, in every dtype"
    yield case("normalizer-soft", say, ROWS, SOFT, flags="Normalizer", dtypes=ALL, normalizer=6.0)
    for count in (3.0, 100.0):
        say = f"A denominator of {count:g} for binary elements"
        more = {"flags": "Normalizer", "normalizer": count}
        yield binary(f"normalizer-{count:g}", say, TABLE, HITS, **more)


def samples() -> Iterator[Case]:
    """Weights of samples: in the loss, and in the mean's denominator."""
    for (name, (once, why)), kind in product(SAMPLES.items(), REDUCTIONS):
        say = f"Sample weights {name} ({kind}): {why}"
        more: dict[str, Any] = {"flags": "SampleWeight", "sample_weight": once, "reduction": kind}
        yield case(f"sample-weight-{name}-{kind}", say, ROWS, LABELS, **more)
    for name in ("small", "thirds"):
        once, why = SAMPLES[name]
        more = {"flags": "SampleWeight", "sample_weight": once, "reduction": "mean"}
        say = f"Sample weights {name} of rows of probabilities: {why}"
        yield case(f"sample-weight-{name}-soft", say, ROWS, SOFT, dtypes=ALL, **more)
        say = f"Sample weights {name} and class weights: the denominator has both"
        more |= {"weight": WEIGHT, "flags": "SampleWeight WeightedMean"}
        yield case(f"sample-weight-{name}-weight", say, ROWS, LABELS, dtypes=ALL, **more)
        say = f"Sample weights {name} and class weights, smoothed: the denominator is the label's"
        more |= {"label_smoothing": 0.125, "flags": "SampleWeight SmoothingWeights"}
        yield case(f"sample-weight-{name}-smoothing", say, ROWS, LABELS, **more)


def counts() -> Iterator[Case]:
    """Batches of several sizes, none among them."""
    for (count, why), kind in product(COUNTS.items(), REDUCTIONS[:2]):
        logits = normal_rows(count, 5, 2.0, seed=400 + count)
        labels = [(2 * i + 1) % 5 for i in range(count)]
        say = f"{count} rows ({kind}): {why}"
        yield case(f"rows-{count}-{kind}", say, logits, labels, flags="Reduction", reduction=kind)
    for kind, becomes in zip(REDUCTIONS, ("NaN", "0", "empty"), strict=True):
        say = f"No rows at all: the {kind} is {becomes}, the gradient has the logits' shape"
        more = {"flags": "Empty", "dtypes": ALL, "reduction": kind}
        yield empty(f"empty-{kind}", say, (0, 3), **more)
    say = "No rows and a given denominator: 0"
    yield empty("empty-normalizer", say, (0, 3), flags="Empty", normalizer=4.0)
    say = "No positions in each of two sequences: empty, of shape (2, 0)"
    yield empty("empty-inner", say, (2, 0, 3), flags="Empty", reduction="none")


def confident() -> Iterator[Case]:
    """Small losses in every denominator."""
    for kind in REDUCTIONS:
        say = f"Confident rows ({kind}): small losses keep their digits"
        more: dict[str, Any] = {"reduction": kind, "flags": "Reduction Confident", "dtypes": ALL}
        yield case(f"confident-{kind}", say, SURE, [0, 1, 2, 0], **more)
    for count in (3.0, 1e6):
        say = f"Confident rows and a denominator of {count:g}"
        more = {"normalizer": count, "flags": "Normalizer Confident"}
        yield case(f"confident-normalizer-{name_of(count)}", say, SURE, [0, 1, 2, 0], **more)
    say = "Confident rows and sample weights"
    more = {"sample_weight": ONCE, "flags": "SampleWeight Confident", "reduction": "none"}
    yield case("confident-sample-weight", say, SURE, [0, 1, 2, 0], **more)


def factors() -> Iterator[Case]:
    """Factors far from 1: what is in range in the end is not lost on the way."""
    offset = [[30.0 + x for x in z] for z in ROWS]
    for dtype, (tiny, divisor) in FACTORS.items():
        more: dict[str, Any] = {"dtypes": (dtype,), "flags": "FactorRange", "normalizer": divisor}
        say = f"Weights of {tiny:g} and a denominator of {divisor:g}: no quotient with Σ exp(z)"
        once = [tiny, tiny, 0.0, 3 * tiny]
        yield case("factor-sample-weight", say, offset, LABELS, sample_weight=once, **more)
        yield case("factor-weight", say, offset, LABELS, weight=[tiny] * 3, **more)
        yield case("factor-weight-soft", say, offset, SOFT, weight=[tiny] * 3, **more)
        for kind in REDUCTIONS:
            more = {"dtypes": (dtype,), "flags": "FactorRange", "reduction": kind}
            for name, size in (("tiny", tiny), ("huge", 1 / tiny)):
                say = f"Weights of about {size:g} ({kind}): their square is out of range"
                once = [size * w for w in (1.0, 2.0, 0.0, 0.5)]
                yield case(f"factor-{name}-{kind}", say, ROWS, LABELS, sample_weight=once, **more)
                own, weight = f"factor-{name}-weight-{kind}", [size * w for w in WEIGHT]
                yield case(own, say, ROWS, LABELS, weight=weight, **more)


TOPICS = (reductions, normalizers, samples, counts, confident, factors)
