"""The losses beside cross_entropy: the next token's, of log-probabilities, focal and divergence.

They are short of cases on purpose: what these losses have in common with cross_entropy is asked
of that. What each forms by itself is asked here, above all in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    BOTH,
    GAP,
    HALF,
    INF,
    LABELS,
    REDUCTIONS,
    ROWS,
    SOFT,
    SURE,
    WEIGHT,
    Case,
    case,
)

OTHER_LOGITS = [[0.5, 0.25, -2.0], [1.0, -1.5, 3.0], [-0.75, 0.5, 0.0], [2.5, 1.25, -4.0]]
# Short name -> function, its targets, and what they are
LOSSES: dict[str, tuple[str, Any]] = {
    "next": ("next_token_cross_entropy", [2, 0, 2, 1]),
    "nll": ("nll_loss", LABELS),
    "focal": ("softmax_focal_loss", LABELS),
    "kl": ("kl_divergence", SOFT),
    "js": ("jensen_shannon_divergence", OTHER_LOGITS),
}
# Log-probabilities of the format, for nll_loss; it takes them as they are
LOG_PROBS = [[-0.25, -2.5, -3.0], [-4.0, -0.125, -6.5], [-1.0, -1.25, -0.875], [-0.5, -1.75, -2.0]]
# Distance of a two-class row -> why
DISTANCES = {
    1.5: "1 - p loses a bit in the format",
    4.0: "1 - p loses most of bfloat16's bits",
    9.0: "1 - p is below the eps of float16",
    11.0: "the gradient is near the smallest normal float16",
}


def loss(short: str, name: str, comment: str, *, logits: Any = None, **more: Any) -> Case:
    """Write a case of one of the losses."""
    function, targets = LOSSES[short]
    rows = LOG_PROBS if short == "nll" else ROWS
    targets = more.pop("targets", targets)
    own = case(f"{short}-{name}", comment, logits or rows, targets, **more)
    return own._replace(function=function)


def reductions() -> Iterator[Case]:
    """Each reduction, in every dtype."""
    for short in LOSSES:
        for kind in REDUCTIONS:
            say = f"Four rows ({kind}): 1/4 or 1/3 of each gradient, rounded once"
            yield loss(short, kind, say, reduction=kind, flags="Reduction", dtypes=ALL)
    for short in ("next", "nll", "focal"):
        labels = [0, 2, -100, 1]
        say = "A row that does not count has no share of the mean, and the others a third"
        yield loss(short, "ignored", say, targets=labels, flags="IgnoredRow", dtypes=ALL)
    say = "A row that does not count has no share of the mean, and the others a third"
    where = [True, True, False, True]
    yield loss("kl", "ignored", say, where=where, flags="IgnoredRow", dtypes=ALL)


def confident() -> Iterator[Case]:
    """Confident rows keep their digits in these losses too."""
    for short in ("next", "focal", "kl"):
        targets: Any = {"next": [0, 0, 1, 2], "focal": [0, 1, 2, 0]}.get(short)
        if short == "kl":
            targets = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        say = "Confident rows: 1 - p is no difference from 1"
        more: dict[str, Any] = {"targets": targets, "flags": "Confident", "dtypes": ALL}
        yield loss(short, "confident", say, logits=SURE, reduction="none", **more)


def weighted() -> Iterator[Case]:
    """Weights and cotangents that no binary format holds: one rounding, at the end."""
    more: dict[str, Any] = {"flags": "HalfPrecision HalfGradient", "dtypes": HALF}
    third = [1 / 3, 2 / 3, 1 / 7]
    for kind in REDUCTIONS:
        say = f"Class weights in float32 that half precision cannot hold ({kind})"
        for short in ("next", "nll"):
            yield loss(short, f"weight-{kind}", say, weight=third, reduction=kind, **more)
        yield loss("focal", f"alpha-{kind}", say, alpha=third, reduction=kind, **more)
    for short in LOSSES:
        upstream = [1 / 3, -2 / 3, 1 / 7, 3.0][: 3 if short == "next" else 4]
        say = "Cotangents that half precision cannot hold"
        flags = {**more, "flags": "HalfGradient Cotangent"}
        yield loss(short, "cotangent", say, cotangent=upstream, reduction="none", **flags)
    for short in ("next", "nll", "focal"):
        say = "A gradient that 1/4096 of the mean makes a subnormal float16"
        yield loss(short, "underflow", say, normalizer=4096.0, **more)
        say = "A gradient that 2**-20 of the mean makes next to nothing in float16, not in bfloat16"
        yield loss(short, "tiny", say, normalizer=2.0**20, **more)
    say = "A focus of 1 and weights, with a row that does not count"
    one: dict[str, Any] = {"gamma": 1.0, "alpha": WEIGHT, "targets": GAP}
    yield loss("focal", "gamma-1", say, reduction="sum", **one, flags="ClassWeight", dtypes=ALL)


def distances() -> Iterator[Case]:
    """Rows whose gradient needs more than the format between input and result."""
    for t, why in DISTANCES.items():
        name = f"half-{t:g}".replace(".", "-")
        more: dict[str, Any] = {"flags": "HalfPrecision HalfGradient", "dtypes": HALF}
        pair = [[t, 0.0], [0.0, t]]
        say = f"Two classes {t:g} apart: {why}"
        yield loss("focal", name, say, logits=pair, targets=[0, 0], reduction="none", **more)
        tokens = [1, 0, 0]
        rows = [*pair, [0.0, 0.0]]
        yield loss("next", name, say, logits=rows, targets=tokens, reduction="none", **more)
        soft = [[0.875, 0.125], [1.0, 0.0]]
        yield loss("kl", name, say, logits=pair, targets=soft, reduction="none", **more)


def distillation() -> Iterator[Case]:
    """Divergences of two models that nearly agree, and of log-probabilities as they are given."""
    flags = {"flags": "Confident", "dtypes": BOTH, "reduction": "none"}
    near = [[x + 2.0**-20 * (i + 1) for i, x in enumerate(row)] for row in OTHER_LOGITS]
    say = "Logits 2**-20 apart: the divergence is of the square of that, and has its digits"
    yield loss("js", "near", say, logits=OTHER_LOGITS, targets=near, **flags)
    say = "Classes without mass in one, in the other or in both: a finite divergence"
    masked = [[0.5, -INF, -2.0], [1.0, 0.5, -INF], [0.0, -INF, 0.0]]
    other = [[1.5, 1.0, -2.0], [-INF, 0.5, -INF], [1.0, -INF, 0.5]]
    yield loss("js", "masked", say, logits=masked, targets=other, **flags)
    yield loss("js", "beta", "A share of an eighth", beta=0.125, **flags)
    say = "Log-probabilities on both sides, not normalised again"
    log_q = [[-2.5, -0.25, -3.0], [-3.5, -0.25, -INF], [-1.25, -1.0, -0.875], [-1.75, -0.5, -2.0]]
    both = {"log_targets": True, "normalized": True, "targets": log_q}
    yield loss("kl", "log-probs", say, logits=LOG_PROBS, **both, **flags)
    say = "Log-probabilities as targets of logits"
    yield loss("kl", "log-targets", say, log_targets=True, targets=log_q, **flags)


TOPICS = (reductions, confident, weighted, distances, distillation)
