"""Focal losses: the powers of 1 − p that their slopes have overflow, and its squares underflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import ALL, BOTH, HALF, HITS, NAN, REDUCTIONS, TABLE, Case, case

# Lead of the label -> why
LEADS = {
    1.5: "nothing special",
    6.0: "nothing special, but a good answer",
    20.0: "1 - p is below the eps of float32",
    55.0: "the square of 1 - p is below the smallest normal float32",
    -50.0: "the loss is the distance",
}
FOCI = (0.1, 0.5)
# Size of an element's logit -> its dtypes, and why
SIZES: dict[float, tuple[tuple[str, ...], str]] = {
    6.0: (BOTH, "a good answer"),
    17.0: (BOTH, "1 - p is below the eps of float32"),
    55.0: (BOTH, "the square of 1 - p is below the smallest normal float32"),
    86.0: (BOTH, "1 - p is just above the smallest normal float32"),
    100.0: (BOTH, "1 - p is below the smallest normal float32, and 1 / (1 - p) above the largest"),
    356.0: (("float64",), "the square of 1 - p is below the smallest normal float64"),
    380.0: (("float64",), "the square of 1 - p is below the smallest subnormal float64"),
    720.0: (("float64",), "1 - p is below the smallest normal float64"),
}
SOFT = [[0.25, 0.5, 1.0], [0.75, 0.0, 0.125]]


def foci() -> Iterator[Case]:
    """Labels from certain to hopeless, each focus."""
    for gamma in FOCI:
        for lead, why in LEADS.items():
            say = f"A label {lead:g} ahead of two classes, a focus of {gamma:g}: {why}"
            name = f"focus-{gamma:g}-at-{lead:g}".replace("-50", "minus-50").replace(".", "-")
            more: dict[str, Any] = {"gamma": gamma, "reduction": "none"}
            more["flags"] = "Confident Focus"
            rows = [[lead, 0.0, -1.0], [0.0, lead, 0.5]]
            own = case(name, say, rows, [0, 1], **more)
            yield own._replace(function="softmax_focal_loss")


def element(name: str, comment: str, logits: Any, targets: Any, **more: Any) -> Case:
    """Write a case of sigmoid_focal_loss."""
    own = case(f"sigmoid-focal-{name}", comment, logits, targets, **more)
    return own._replace(function="sigmoid_focal_loss")


def elements() -> Iterator[Case]:
    """Elements right and wrong by as much, wholly and nearly; each focus."""
    for gamma in (*FOCI, 2.0):
        for size, (dtypes, why) in SIZES.items():
            say = f"Logits of {size:g} on both sides, a focus of {gamma:g}: {why}"
            name = f"{gamma:g}-at-{size:g}".replace(".", "-")
            more: dict[str, Any] = {"gamma": gamma, "reduction": "none", "dtypes": dtypes}
            more["flags"] = "BinaryExtreme Focus"
            logits = [[size, -size], [-size, size], [size, -size]]
            targets = [[1.0, 0.0], [1.0, 0.0], [0.75, 2.0**-100]]
            yield element(name, say, logits, targets, **more)


def rules() -> Iterator[Case]:
    """Reductions, weights of the two classes, masks, and targets that are no probability."""
    for kind in REDUCTIONS:
        more: dict[str, Any] = {"reduction": kind, "dtypes": ALL}
        yield element(kind, f"Six elements ({kind})", TABLE, HITS, flags="Reduction", **more)
        say = f"Targets between 0 and 1, a weight of 1/4 for the one and 3/4 for the other ({kind})"
        more |= {"alpha": 0.25, "gamma": 0.5, "flags": "Focus ClassWeight"}
        yield element(f"alpha-{kind}", say, TABLE, SOFT, **more)
    for alpha in (0.0, 1.0):
        say = f"A weight of {alpha:g} for the one, of {1 - alpha:g} for the other"
        more = {"alpha": alpha, "reduction": "none", "flags": "ClassWeight"}
        yield element(f"alpha-{alpha:g}", say, TABLE, HITS, **more)
    for gamma in (0.0, 1.0):
        say = f"Targets between 0 and 1, a focus of {gamma:g}"
        more = {"gamma": gamma, "reduction": "none", "flags": "Focus"}
        yield element(f"gamma-{gamma:g}", say, TABLE, SOFT, **more)
    say = "What is masked holds NaN and a target of 255, and has no share of a given denominator"
    where = [[True, False, True], [True, True, False]]
    logits, targets = [[1.5, NAN, 0.25], TABLE[1]], [HITS[0], [1.0, 1.0, 255.0]]
    for name, divisor in (("masked", {}), ("normalizer", {"normalizer": 3.0})):
        more = {"where": where, "flags": "IgnoredRow", **divisor}
        yield element(name, say, logits, targets, **more)
    say = "A target of 255: a mask that was not divided"
    more = {"raises": "ValueError", "flags": "LabelRange", "reduction": "none"}
    yield element("target-255", say, TABLE, targets, **more)
    say, upstream = "Cotangents that half precision cannot hold", [[1 / 3, -2 / 3, 1 / 7]] * 2
    more = {"cotangent": upstream, "reduction": "none", "dtypes": HALF}
    yield element("cotangent", say, TABLE, SOFT, flags="HalfGradient Cotangent", **more)


TOPICS = (foci, elements, rules)
