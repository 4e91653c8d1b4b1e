"""What only float16 and bfloat16 get wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import (
    HALF,
    HITS,
    LABELS,
    REDUCTIONS,
    ROWS,
    SOFT,
    TABLE,
    WEIGHT,
    Case,
    binary,
    case,
    normal_rows,
    row,
)

# Distance of a two-class row -> why
DISTANCES = {
    0.5: "p is no number of the format",
    1.5: "1 - p loses a bit in the format",
    2.5: "1 - p loses three bits",
    4.0: "1 - p loses most of bfloat16's bits",
    6.5: "1 - p is below the eps of bfloat16",
    9.0: "1 - p is below the eps of float16",
    11.0: "the gradient is near the smallest normal float16",
    15.0: "the gradient is a subnormal float16",
}
# Equal classes -> why
MANY = {
    130: "more than bfloat16 counts to in steps of 1 from 128 on",
    257: "the first count that bfloat16 rounds",
    520: "twice where a bfloat16 sum stops",
}


def half() -> Iterator[Case]:
    """The rules, one at a time."""
    more: dict[str, Any] = {"flags": "HalfPrecision", "dtypes": HALF}
    say = "300 equal classes: a sum kept in bfloat16 stops at 256"
    yield row("half-many", say, [0.0] * 300, 7, **more)
    say = "The loss is a float32: 5.0067, which the logits' dtype would quantise"
    yield row("half-loss", say, [0.0, 5.0], 0, **more)
    say = "1 - p = 9e-4 is rounded once, and no difference from 1"
    yield row("half-gradient", say, [7.0, 0.0], 0, **more)


def distances() -> Iterator[Case]:
    """Rows whose loss and gradient need more than the format between input and result."""
    for t, why in DISTANCES.items():
        name = f"{t:g}".replace(".", "-")
        more: dict[str, Any] = {"flags": "HalfPrecision HalfGradient", "dtypes": HALF}
        say = f"Two classes {t:g} apart, the likely one: {why}"
        yield row(f"half-{name}-right", say, [t, 0.0], 0, **more)
        say = f"Two classes {t:g} apart, the unlikely one: {why}"
        yield row(f"half-{name}-wrong", say, [t, 0.0], 1, **more)
        say = f"A row of log-odds about {t:g} among four: {why}"
        yield row(f"half-{name}-four", say, [0.25, t, -0.5, 0.125], 1, **more)
        say = f"A binary element of logit {t:g}, both targets: {why}"
        pair: dict[str, Any] = {**more, "reduction": "none"}
        yield binary(f"half-{name}", say, [t, t, -t, -t], [1.0, 0.0, 1.0, 0.0], **pair)


def sums() -> Iterator[Case]:
    """Sums that the format cannot hold."""
    more: dict[str, Any] = {"flags": "HalfAccumulation", "dtypes": HALF}
    for count, why in MANY.items():
        say = f"{count} equal classes: {why}"
        yield row(f"half-{count}", say, [0.0] * count, count - 1, **more)
        say = f"{count} classes of the usual spread: {why}"
        logits = normal_rows(1, count, 1.5, seed=700 + count)[0]
        yield row(f"half-{count}-spread", say, logits, count // 2, **more)
    same = [[40.0, 0.0]] * 300
    for kind in ("mean", "sum"):
        say = f"300 losses of 40 ({kind}): a sum in float16 has steps of 8"
        yield case(f"half-rows-{kind}", say, same, [1] * 300, reduction=kind, **more)
    say = "The sum of the losses, 120,000, is beyond float16 and in float32 exact"
    yield case("half-sum-overflow", say, [[30000.0, 0.0]] * 4, [1] * 4, reduction="sum", **more)
    say = "A denominator of 100,000, which float16 does not hold"
    yield case("half-normalizer", say, ROWS, LABELS, normalizer=1e5, **more)


def rounded() -> Iterator[Case]:
    """One rounding, at the end: not of the weights, the probabilities or the mean's factor."""
    more: dict[str, Any] = {"flags": "HalfPrecision HalfGradient", "dtypes": HALF}
    for kind in REDUCTIONS:
        say = f"Class weights in float32 that half precision cannot hold ({kind})"
        weight = [1 / 3, 2 / 3, 1 / 7]
        yield case(f"half-weight-{kind}", say, ROWS, LABELS, weight=weight, reduction=kind, **more)
        say = f"Smoothing of 0.001, below the eps of bfloat16 ({kind})"
        own = f"half-smoothing-{kind}"
        yield case(own, say, ROWS, LABELS, label_smoothing=0.001, reduction=kind, **more)
        say = f"Three rows that count: a third is rounded once, with the gradient ({kind})"
        own, labels = f"half-third-{kind}", [0, -100, 1, 0]
        yield case(own, say, ROWS, labels, reduction=kind, **more)
        say = f"Probabilities and class weights ({kind})"
        yield case(f"half-soft-{kind}", say, ROWS, SOFT, weight=WEIGHT, reduction=kind, **more)
        say = f"Binary elements with a weight for positives that half cannot hold ({kind})"
        own = f"half-pos-weight-{kind}"
        yield binary(own, say, TABLE, HITS, pos_weight=[1 / 3], reduction=kind, **more)
    for offset in (256.0, 1024.0, 16384.0):
        step = offset / 64.0  # exact in bfloat16
        say = f"A shared offset of {offset:g} with steps of {step:g}"
        logits = [offset, offset + step, offset, offset - step]
        flags = "HalfPrecision SharedOffset"
        yield row(f"half-offset-{offset:g}", say, logits, 0, flags=flags, dtypes=HALF)
    say = "Logits near the largest float16 of both signs: their difference has no float16"
    far = [49152.0, -49152.0, 0.0]
    yield row("half-largest", say, far, 1, flags="HalfPrecision Extreme", dtypes=HALF)
    say = "A gradient that 1/4096 of the mean makes a subnormal float16"
    yield case("half-underflow", say, ROWS, LABELS, normalizer=4096.0, **more)


TOPICS = (half, distances, sums, rounded)
