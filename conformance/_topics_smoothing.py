"""Label smoothing, both kinds, and what it meets."""

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

KINDS = ("uniform", "others")
# Smoothing -> why
EPSILONS = {
    "0.001": "less than the rows' own doubt",
    "0.01": "a small value in use",
    "0.2": "a large value in use",
    "0.5": "half of the mass moves",
    "0.75": "with 'others' and four classes the uniform distribution",
    "1": "nothing is left of the label but what smoothing puts there",
}
# What smoothing meets -> its targets, options and flags
MEETINGS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "label": (LABELS, {}, "Smoothing SmoothingKind"),
    "soft": (SOFT, {}, "Smoothing SmoothingKind Probabilities"),
    "weight": (LABELS, {"weight": WEIGHT}, "Smoothing SmoothingWeights"),
    "ignored": (GAP, {}, "Smoothing SmoothingIgnored"),
    "sample-weight": (LABELS, {"sample_weight": ONCE}, "Smoothing SampleWeight"),
}


def smoothing() -> Iterator[Case]:
    """The rules, one at a time."""
    for kind in KINDS:
        more: dict[str, Any] = {"flags": "Smoothing", "smoothing": kind, "label_smoothing": 0.1}
        name, say = f"smoothing-{kind}", f"Smoothing of 0.1, {kind!r}"
        yield case(name, say, ROWS, LABELS, dtypes=ALL, **more)
        say = f"Smoothing {kind!r}, class weights and an ignored row: each term has its own weight"
        yield case(f"{name}-weight", say, ROWS, GAP, weight=WEIGHT, **more)
        yield case(f"{name}-soft", f"Smoothing {kind!r} of probabilities", ROWS, SOFT, **more)
        say = f"Smoothing of 0.001, {kind!r}, on a confident row: the gradient is as small"
        more["label_smoothing"] = 0.001
        yield row(f"{name}-confident", say, [12.0, 0.0, -1.0, 0.5], 0, **more)


def sizes() -> Iterator[Case]:
    """Every amount of smoothing with everything that it meets."""
    for kind, (size, why), (name, how) in product(KINDS, EPSILONS.items(), MEETINGS.items()):
        targets, options, flags = how
        more = {"flags": flags, "smoothing": kind, "label_smoothing": float(size), **options}
        say = f"Smoothing {kind!r} of {size} ({why}), {name.replace('-', ' ')}"
        own = f"smoothing-{kind}-{size.replace('.', '-')}-with-{name}"
        yield case(own, say, ROWS, targets, **more)


def reduced() -> Iterator[Case]:
    """Denominators of smoothed losses: those of the labels, not of the smoothed mass."""
    for kind, reduction in product(KINDS, REDUCTIONS):
        more: dict[str, Any] = {"smoothing": kind, "label_smoothing": 0.125}
        more |= {"reduction": reduction, "flags": "Smoothing SmoothingIgnored SmoothingWeights"}
        say = f"Smoothing {kind!r}, class weights, an ignored row ({reduction})"
        own = f"smoothing-{kind}-all-{reduction}"
        yield case(own, say, ROWS, GAP, dtypes=ALL, weight=WEIGHT, **more)
        say = f"Smoothed probabilities {kind!r} with class weights ({reduction})"
        own = f"smoothing-{kind}-soft-weight-{reduction}"
        yield case(own, say, ROWS, SOFT, weight=WEIGHT, **more)
    weight = [0.0, 1.0, 2.0]
    for kind in KINDS:
        more = {"smoothing": kind, "label_smoothing": 0.25, "weight": weight}
        say = f"Smoothing {kind!r}, and the label's class has weight 0: only the others' mass"
        yield case(f"smoothing-{kind}-weight-zero", say, ROWS, LABELS, flags="Smoothing", **more)


def rows() -> Iterator[Case]:
    """Rows of several kinds, smoothed."""
    for kind in KINDS:
        more: dict[str, Any] = {"flags": "Smoothing SmoothingKind", "smoothing": kind}
        for count in (2, 10, 100):
            logits = normal_rows(2, count, 2.0, seed=500 + count)
            say = f"Smoothing {kind!r} over {count} classes: a share of 1/K or 1/(K - 1)"
            own = f"smoothing-{kind}-classes-{count}"
            yield case(own, say, logits, [0, count - 1], label_smoothing=0.1, **more)
        for t in (8.0, 20.0, 40.0):
            say = f"Smoothing {kind!r} on a row of log-odds {t:g}: both masses count"
            own = f"smoothing-{kind}-odds-{t:g}"
            yield row(own, say, [t, 0.0, 0.5, -0.5], 0, dtypes=ALL, label_smoothing=0.1, **more)
        say = f"Smoothing {kind!r} on a shared offset"
        far = [1e6, 1e6 + 1, 1e6 - 1]
        yield row(f"smoothing-{kind}-offset", say, far, 1, label_smoothing=0.1, **more)
        say = f"Smoothing {kind!r} of 0 is none, whatever the kind"
        yield case(
            f"smoothing-{kind}-0", say, [[0.5, -1.0, 2.0, 0.0]], [1], label_smoothing=0.0, **more
        )
        say = f"Smoothing {kind!r} of a one-hot row is that of its label"
        own, soft = f"smoothing-{kind}-one-hot", [[0.0, 0.0, 1.0, 0.0]]
        yield case(own, say, [[0.5, -1.0, 2.0, 0.0]], soft, label_smoothing=0.1, **more)
        say = (
            f"Smoothing {kind!r} of probabilities whose sum is 2: the mass stays 2 or not, by kind"
        )
        own, soft = f"smoothing-{kind}-sum-2", [[0.5, 1.0, 0.25, 0.25]]
        yield case(own, say, [[0.5, -1.0, 2.0, 0.0]], soft, label_smoothing=0.1, **more)


TOPICS = (smoothing, sizes, reduced, rows)
