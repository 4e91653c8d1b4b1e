"""The vectors of cross_entropy: one small function a topic."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import ALL, HALF, Case, case, row

INF, NAN = math.inf, math.nan
ROWS = [[1.5, -0.5, 0.25], [0.125, 2.25, -1.25], [-3.0, 0.5, 0.75], [4.0, 1.0, -2.0]]
LABELS = [0, 2, 1, 0]
GAP = [0, 2, -100, 1]  # labels with a row that is ignored
SOFT = [[0.5, 0.25, 0.25], [0.0, 0.125, 0.875], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]
WEIGHT = [0.25, 2.0, 1.5]


def normal_rows(rows: int, classes: int, spread: float, seed: int) -> list[list[float]]:
    """Draw logits, the same ones on every machine."""
    draw = random.Random(seed)
    return [[draw.gauss(0.0, spread) for _ in range(classes)] for _ in range(rows)]


def agreement() -> Iterator[Case]:
    """Ordinary rows, where every implementation should agree."""
    yield case("mean", "Four rows of three classes, the mean", ROWS, LABELS, dtypes=ALL)
    say = "Ten classes, logits of a usual spread"
    yield case("ten-classes", say, normal_rows(4, 10, 2.0, seed=1), [3, 0, 9, 5], dtypes=ALL)
    say = "The class axis is 1 of (1, 3, 2, 2), as in segmentation"
    image = [[[[0.5, -1.0], [2.0, 0.0]], [[1.5, 0.25], [-0.5, 3.0]], [[-2.0, 1.0], [0.0, 0.5]]]]
    yield case("image", say, image, [[[0, 2], [1, 1]]], flags="Axis", axis=1)
    say = "Three classes along axis 0 of (3, 2): the labels have shape (2,)"
    table = [[1.0, 0.0], [0.5, -2.0], [-1.0, 3.0]]
    yield case("axis-0", say, table, [2, 0], flags="Axis", axis=0, reduction="none")
    yield row("one-class", "A single class: loss and gradient are exactly 0", [3.5], 0, dtypes=ALL)
    yield row("tie", "Five equal logits: log 5", [0.75] * 5, 2, dtypes=ALL)


def confidence() -> Iterator[Case]:
    """Rows from confident to hopeless: what is small keeps its relative accuracy."""
    say = "log1p(2 exp(-20)): a difference from 1, or from the log-sum-exp, is 0"
    yield row("confident-20", say, [20.0, 0.0, 0.0], 0, flags="Confident", dtypes=ALL)
    say = "Log-odds of 60, with one runner-up"
    yield row("confident-60", say, [60.0, 0.0, 1.0], 0, flags="Confident", dtypes=ALL)
    say = "Log-odds of 80: the gradient's smaller entry is near the smallest normal float32"
    yield row("confident-80", say, [40.0, -40.0, -44.0], 0, flags="Confident")
    say = "Log-odds of 6 and of 12, where half of the digits go first"
    logits = [[7.0, 0.0, -1.0, 0.5], [-6.0, 6.0, -6.5, -7.0]]
    yield case("confident-7", say, logits, [0, 1], flags="Confident", dtypes=ALL)
    say = "The class has no chance: the loss is the distance, its gradient entry -1"
    yield row("hopeless", say, [-60.0, 0.0, 0.5], 0, flags="Clamped", dtypes=ALL)
    say = "log p = -200, which neither a log of the softmax nor a clipped probability can give"
    yield row("hopeless-200", say, [0.0, -200.0], 1, flags="Clamped", dtypes=ALL)
    say = "The loss is a subnormal number, or 0 where the library has none"
    small = ("float32", "bfloat16")
    yield row("subnormal", say, [100.0, 0.0], 0, flags="Subnormal", dtypes=small)
    yield row("subnormal", say, [740.0, 0.0], 0, flags="Subnormal", dtypes=("float64",))


def extremes() -> Iterator[Case]:
    """Offsets and magnitudes at the edge of the format."""
    for offset in (1e4, 1e6, 1e8):
        say, name = f"All logits are {offset:.0f}: the loss is log 3", f"offset-{offset:.0f}"
        yield row(name, say, [offset] * 3, 1, flags="SharedOffset")
    say, logits = "Differences of 1 on a shared offset of 1e6", [1e6, 1e6 + 1, 1e6 - 1]
    yield row("offset-differences", say, logits, 0, flags="SharedOffset")
    say, logits = "Differences of 1 on a shared offset of -1e6", [-x for x in logits]
    yield row("offset-negative", say, logits, 1, flags="SharedOffset")
    say = "An offset of 4096, where float16 has a spacing of 4"
    logits = [4096.0, 4096.0, 4092.0]
    yield row("offset-half", say, logits, 2, flags="SharedOffset", dtypes=HALF)
    edges = {"float16": (11, 15), "float32": (24, 127), "float64": (53, 1023)}
    for dtype, (precision, exponent) in edges.items():
        x, only = (2.0 - 2.0 ** (1 - precision)) * 2.0**exponent, (dtype,)
        say = "The largest finite number and its negative, the class the larger one: 0"
        yield row("largest-right", say, [x, -x, 0.0], 0, flags="Extreme", dtypes=only)
        say = "The class is half of the largest number away: the distance itself"
        yield row("largest-wrong", say, [x, x / 2, 0.0], 1, flags="Extreme", dtypes=only)


def infinities() -> Iterator[Case]:
    """Masked classes, and overflows that have to stay visible."""
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


def ignored() -> Iterator[Case]:
    """Rows that do not count."""
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


def reductions() -> Iterator[Case]:
    """Denominators."""
    yield case("none", "Each row's loss", ROWS, LABELS, dtypes=ALL, reduction="none")
    yield case("sum", "The sum", ROWS, LABELS, dtypes=ALL, reduction="sum")
    say = "The tokens of an accumulated batch as the denominator, a row ignored"
    yield case("normalizer", say, ROWS, GAP, flags="Normalizer", normalizer=7.0)
    say = "Sample weights count in the loss and in the denominator, a row ignored"
    once = [0.5, 2.0, 3.0, 0.0]
    yield case("sample-weight", say, ROWS, GAP, flags="Normalizer", sample_weight=once)


def weights() -> Iterator[Case]:
    """Class weights."""
    say, flags = "The mean divides by the sum of the labels' weights", "WeightedMean"
    yield case("weight", say, ROWS, LABELS, flags=flags, dtypes=ALL, weight=WEIGHT)
    say = "With probabilities the mean divides by the number of rows"
    yield case("weight-soft", say, ROWS, SOFT, flags=flags, weight=WEIGHT)
    say = "A class of weight 0: its rows count for nothing"
    yield case("weight-zero", say, ROWS, LABELS, flags=flags, weight=[0.0, 1.0, 2.0])
    say, once = "Class weights, sample weights and an ignored row", [1.0, 0.5, 2.0, 4.0]
    yield case("weight-sample", say, ROWS, GAP, flags=flags, weight=WEIGHT, sample_weight=once)


def smoothing() -> Iterator[Case]:
    """Label smoothing, both kinds, and what it meets."""
    for kind in ("uniform", "others"):
        more: dict[str, Any] = {"flags": "Smoothing", "smoothing": kind, "label_smoothing": 0.1}
        name, say = f"smoothing-{kind}", f"Smoothing of 0.1, {kind!r}"
        yield case(name, say, ROWS, LABELS, dtypes=ALL, **more)
        say = f"Smoothing {kind!r}, class weights and an ignored row: each term has its own weight"
        yield case(f"{name}-weight", say, ROWS, GAP, weight=WEIGHT, **more)
        yield case(f"{name}-soft", f"Smoothing {kind!r} of probabilities", ROWS, SOFT, **more)
        say = f"Smoothing of 0.001, {kind!r}, on a confident row: the gradient is as small"
        more["label_smoothing"] = 0.001
        yield row(f"{name}-confident", say, [12.0, 0.0, -1.0, 0.5], 0, **more)


def probabilities() -> Iterator[Case]:
    """Probability targets."""
    flags = "Probabilities"
    yield case("soft", "Rows of probabilities, the mean", ROWS, SOFT, flags=flags, dtypes=ALL)
    say = "A one-hot row of probabilities is that label, to the last digits of a confident row"
    yield row(
        "soft-one-hot", say, [20.0, 0.0, 0.0], [1.0, 0.0, 0.0], flags="Probabilities Confident"
    )
    say = "Nearly one-hot on a confident row"
    near = [0.9990234375, 0.0009765625, 0.0]
    yield row("soft-confident", say, [9.0, 0.0, 1.0], near, flags=flags)
    say = "Probabilities that do not sum to 1 are taken as they are"
    yield row("soft-unnormalised", say, [0.5, -1.0, 2.0], [0.5, 0.5, 0.5], flags=flags)


def regularised() -> Iterator[Case]:
    """z_loss and softcap."""
    say = "1e-4 times the squared log-sum-exp is added, not class-weighted"
    yield case("z-loss", say, ROWS, LABELS, flags="ZLoss", z_loss=1e-4, weight=WEIGHT)
    say = "Logits beyond the cap of 30"
    yield row("softcap", say, [20.0, 45.0, -35.0, 0.0], 0, flags="Softcap", softcap=30.0)
    say = "Logits far beyond the cap of 5: its slope is 1/cosh², which 1 - tanh² loses"
    yield row("softcap-saturated", say, [100.0, 40.0, -60.0, 2.0], 1, flags="Softcap", softcap=5.0)
    say = "Infinite logits: the cap comes before anything else, so they are -30 and 30"
    yield row("softcap-infinite", say, [-INF, 1.0, INF], 1, flags="Softcap", softcap=30.0)
    say = "The cap comes first, then the penalty; a row is ignored"
    yield case("softcap-z-loss", say, ROWS, GAP, flags="Softcap ZLoss", softcap=5.0, z_loss=0.01)


def half() -> Iterator[Case]:
    """What only float16 and bfloat16 get wrong."""
    more: dict[str, Any] = {"flags": "HalfPrecision", "dtypes": HALF}
    say = "300 equal classes: a sum kept in bfloat16 stops at 256"
    yield row("half-many", say, [0.0] * 300, 7, **more)
    say = "The loss is a float32: 5.0067, which the logits' dtype would quantise"
    yield row("half-loss", say, [0.0, 5.0], 0, **more)
    say = "1 - p = 9e-4 is rounded once, and no difference from 1"
    yield row("half-gradient", say, [7.0, 0.0], 0, **more)


TOPICS = (
    agreement, confidence, extremes, infinities, ignored, reductions, weights, smoothing,
    probabilities, regularised, half,
)  # fmt: skip
