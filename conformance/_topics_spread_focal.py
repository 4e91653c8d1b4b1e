"""What mass on several classes adds to focal and poly losses, and losses of probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import Case, case

SOFT_ROWS = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [2.0**-20, 1.0, 2.0**-12]]
SURE_ROWS = [[1.5, -0.5, 0.25], [0.5, 20.0, -1.0], [0.0, 12.0, 0.25]]
SPREAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "plain": ({}, "Probabilities: each class has its own focus", "Probabilities"),
    "weight": ({"weight": [0.25, 2.0, 1.5]}, "Each class's term has its weight", "ClassWeight"),
}
SMOOTHED: dict[str, tuple[dict[str, Any], str]] = {
    "uniform": ({"label_smoothing": 0.125}, "An eighth of a label's mass is on all classes"),
    "others": (
        {"label_smoothing": 0.125, "smoothing": "others", "weight": [0.25, 2.0, 1.5]},
        "An eighth of a label's mass is on the other classes, with their weights",
    ),
}


def spread() -> Iterator[Case]:
    """Mass on several classes, confident ones too: of probabilities, and of smoothed labels."""
    for short, function in (("focal", "softmax_focal_loss"), ("poly", "poly_cross_entropy")):
        for name, (options, say, flags) in SPREAD.items():
            more: dict[str, Any] = {**options, "flags": flags, "reduction": "none"}
            own = case(f"{short}-soft-{name}", say, SURE_ROWS, SOFT_ROWS, **more)
            yield own._replace(function=function)
        for name, (options, say) in SMOOTHED.items():
            more = {**options, "flags": "Smoothing"}
            own = case(f"{short}-smoothing-{name}", say, SURE_ROWS, [0, 1, 0], **more)
            yield own._replace(function=function)


def of_probabilities() -> Iterator[Case]:
    """binary_cross_entropy: nothing is clipped."""
    p, y = [[0.0, 1.0, 2.0**-100], [0.25, 1 - 2.0**-20, 0.5]], [[0.0, 1.0, 1.0], [0.75, 1.0, 0.0]]
    cases: tuple[tuple[str, str, Any, Any, dict[str, Any]], ...] = (
        ("mean", "Sure hits are 0, and a probability near 1 keeps its digits", p, y, {}),
        ("none", "The same elements, each for itself", p, y, {"reduction": "none"}),
        ("miss", "Sure misses are infinite", [0.0, 1.0], [1.0, 0.5], {"reduction": "none"}),
        ("smoothing", "Smoothing makes y", [0.25, 0.75], [1.0, 0.0], {"label_smoothing": 0.125}),
    )
    for name, say, probabilities, targets, more in cases:
        own = case(f"binary-p-{name}", say, probabilities, targets, flags="BinaryExtreme", **more)
        yield own._replace(function="binary_cross_entropy")


TOPICS = (spread, of_probabilities)
