"""Gradients with cotangents that differ from row to row, and scaled reduced losses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    GAP,
    HITS,
    LABELS,
    NAN,
    ONCE,
    ROWS,
    SOFT,
    TABLE,
    WEIGHT,
    Case,
    binary,
    case,
)

# Cotangents of four rows -> why
COTANGENTS = {
    "rising": ([1.0, 2.0, 3.0, 4.0], "one that takes the first, or the mean, of them is wrong"),
    "signs": ([1.0, -1.0, 0.5, -2.0], "losses that are subtracted, as in a contrast"),
    "zero": ([0.0, 1.0, 0.0, 0.25], "rows whose loss is not used have no gradient"),
    "one": ([0.0, 0.0, 0.0, 1.0], "a single row's loss"),
    "scales": ([2.0**-20, 1.0, 2.0**10, 2.0**-3], "importance weights of several magnitudes"),
    "thirds": ([1 / 3, -2 / 3, 1 / 7, 5 / 7], "no exact numbers"),
}
# What stands between a row's loss and its gradient
SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (LABELS, {}),
    "ignored": (GAP, {}),
    "mask": (LABELS, {"where": [True, False, True, True]}),
    "weight": (LABELS, {"weight": WEIGHT}),
    "sample-weight": (LABELS, {"sample_weight": ONCE}),
    "soft": (SOFT, {}),
    "soft-weight": (SOFT, {"weight": WEIGHT}),
    "uniform": (LABELS, {"label_smoothing": 0.125}),
    "others": (LABELS, {"label_smoothing": 0.125, "smoothing": "others"}),
    "z-loss": (LABELS, {"z_loss": 0.05}),
    "softcap": (LABELS, {"softcap": 3.0}),
}
# Cotangent of a reduced loss -> why
SCALES = {
    2.0: "twice the loss",
    -1.0: "the loss is maximised",
    0.125: "an eighth of an accumulated batch",
    65536.0: "the loss is scaled for half precision",
    0.0: "the loss is not used: exactly 0",
}


def rows() -> Iterator[Case]:
    """Every cotangent in every setting."""
    pairs = product(COTANGENTS.items(), SETTINGS.items())
    for (name, (cotangent, why)), (setting, (targets, options)) in pairs:
        say = f"Cotangents {name} ({why}), {setting.replace('-', ' ')}"
        dtypes = ALL if name == "rising" else ("float32", "float64")
        own = f"cotangent-{name}-{setting}"
        more = {**options, "cotangent": cotangent, "reduction": "none", "dtypes": dtypes}
        yield case(own, say, ROWS, targets, flags="Cotangent", **more)
    say = "Cotangents on confident and hopeless rows: what is small keeps its digits"
    logits = [[20.0, 0.0, 0.5], [0.0, 12.0, 0.0], [-30.0, 0.0, 0.5], [0.0, 0.0, 50.0]]
    more = {"cotangent": [1.0, -2.0, 3.0, 0.5], "reduction": "none", "dtypes": ALL}
    yield case(
        "cotangent-confident", say, logits, [0, 1, 0, 2], flags="Cotangent Confident", **more
    )
    say = "A cotangent on an ignored row of NaN: its gradient is exactly 0"
    bad = [ROWS[0], ROWS[1], [NAN] * 3, ROWS[3]]
    yield case("cotangent-ignored-nan", say, bad, GAP, flags="Cotangent IgnoredRow", **more)


def scaled() -> Iterator[Case]:
    """One number for the mean or the sum."""
    for (scale, why), kind in product(SCALES.items(), ("mean", "sum")):
        name = f"{scale:g}".replace("-", "minus-").replace(".", "-")
        more: dict[str, Any] = {"cotangent": scale, "reduction": kind}
        flags = "Cotangent"
        say = f"The {kind} times {scale:g}: {why}"
        own = f"cotangent-{kind}-{name}"
        yield case(own, say, ROWS, GAP, flags=flags, **more)
        yield binary(own, f"Binary elements: {say.lower()}", TABLE, HITS, flags=flags, **more)
        say = f"Class weights, smoothing, the {kind} times {scale:g}: {why}"
        more |= {"weight": WEIGHT, "label_smoothing": 0.25}
        yield case(f"{own}-weight", say, ROWS, GAP, flags=flags, **more)


def elements() -> Iterator[Case]:
    """Cotangents of binary elements."""
    shapes = {
        "rising": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        "signs": [[1.0, -1.0, 0.5], [-2.0, 0.0, 0.25]],
        "thirds": [[1 / 3, 2 / 3, 1 / 7], [-1 / 3, 5 / 7, 1 / 9]],
    }
    settings: dict[str, tuple[Any, dict[str, Any]]] = {
        "plain": (HITS, {}),
        "soft": ([[0.25, 0.5, 0.875], [0.125, 1.0, 0.0]], {}),
        "mask": (HITS, {"where": [[True, False, True], [True, True, False]]}),
        "weight": (HITS, {"weight": [0.5, 2.0, 1.0], "pos_weight": [3.0, 0.25, 1.0]}),
        "smoothing": (HITS, {"label_smoothing": 0.125}),
    }
    for (name, cotangent), (setting, (targets, options)) in product(
        shapes.items(), settings.items()
    ):
        own, say = f"cotangent-{name}-{setting}", f"Cotangents {name} of binary elements, {setting}"
        more = {**options, "cotangent": cotangent, "reduction": "none", "dtypes": ALL}
        yield binary(own, say, TABLE, targets, flags="Cotangent", **more)


TOPICS = (rows, scaled, elements)
