"""Mass on a class that is nearly certain and not the label: its small −log p is all of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import Case, case, row


def sure() -> Iterator[Case]:
    """Smoothing gives the largest class its mass, and the label has none."""
    say = "Smoothing of 1 leaves the label none of the mass: −log p of the other class, {}"
    for lead in (4.0, 6.0, 8.0, 20.0):
        more: dict[str, Any] = {"label_smoothing": 1.0, "smoothing": "others"}
        flags = "Smoothing SmoothingKind Confident"
        yield row(f"mass-{lead:g}", say.format(lead), [lead, 0.0], 1, flags=flags, **more)
        flags = f"{flags} Probabilities"
        soft = [2.0**-66, 1.0]
        yield row(f"mass-{lead:g}-soft", say.format(lead), [lead, 0.0], soft, flags=flags, **more)
    say = "The label has no weight: the loss is what smoothing puts on the largest class"
    more = {"weight": [0.0, 0.0, 0.0, 1.0], "label_smoothing": 0.1, "reduction": "sum"}
    more["flags"] = "Smoothing SmoothingWeights Confident"
    for kind in ("uniform", "others"):
        name = f"mass-weight-{kind}"
        yield row(name, f"{say} ({kind})", [0.0, 0.0, 0.0, 8.0], 0, smoothing=kind, **more)


def small() -> Iterator[Case]:
    """Nearly all mass is on one class of the target: the others' is no difference from a sum."""
    say = "Smoothing of 1 turns these targets about: what is left for the first class is 2**-40"
    soft = [[1.0, 2.0**-41, 2.0**-41], [2.0**-41, 2.0**-41, 1.0]]
    more: dict[str, Any] = {"label_smoothing": 1.0, "smoothing": "others", "reduction": "none"}
    more["flags"] = "Smoothing SmoothingKind Probabilities Confident"
    yield case("mass-turned", say, [[-8.0, 0.0, 0.5], [0.25, 8.0, -8.0]], soft, **more)


TOPICS = (sure, small)
