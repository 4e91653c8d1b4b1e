"""Softmax focal loss of a focus below 1: the powers of 1 − p that its slope has overflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import Case, case

# Lead of the label -> why
LEADS = {
    1.5: "nothing special",
    6.0: "nothing special, but a good answer",
    20.0: "1 - p is below the eps of float32",
    55.0: "the square of 1 - p is below the smallest normal float32",
    -50.0: "the loss is the distance",
}
FOCI = (0.1, 0.5)


def foci() -> Iterator[Case]:
    """Labels from certain to hopeless, each focus."""
    for gamma in FOCI:
        for lead, why in LEADS.items():
            say = f"A label {lead:g} ahead of two classes, a focus of {gamma:g}: {why}"
            name = f"focus-{gamma:g}-at-{lead:g}".replace("-50", "minus-50").replace(".", "-")
            more: dict[str, Any] = {"gamma": gamma, "reduction": "none", "flags": "Confident"}
            rows = [[lead, 0.0, -1.0], [0.0, lead, 0.5]]
            own = case(name, say, rows, [0, 1], **more)
            yield own._replace(function="softmax_focal_loss")


TOPICS = (foci,)
