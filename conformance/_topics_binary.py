"""The vectors of binary_cross_entropy_with_logits: one small function a topic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from xp_xent.conformance._case import ALL, Case, case

INF, NAN = math.inf, math.nan
TABLE = [[1.5, -0.5, 0.25], [-2.0, 3.0, -0.75]]
HITS = [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]


def agreement() -> Iterator[Case]:
    """Ordinary elements, and every kind of target."""
    yield case("binary-mean", "The mean", TABLE, HITS, dtypes=ALL)
    say, soft = "Soft targets, each element's loss", [[0.25, 0.5, 0.875], [0.125, 1.0, 0.0]]
    yield case("binary-soft", say, TABLE, soft, dtypes=ALL, reduction="none")
    whole = [[1, 0, 1], [1, 1, 0]]
    yield case("binary-int", "Targets as integers, the sum", TABLE, whole, reduction="sum")
    truths = [[bool(y) for y in row] for row in whole]
    yield case("binary-bool", "Targets as booleans", TABLE, truths)


def extremes() -> Iterator[Case]:
    """Confident elements, and the limits at the infinities."""
    more: dict[str, Any] = {"flags": "BinaryExtreme", "reduction": "none"}
    logits, right = [40.0, -40.0, 20.0, -20.0, 9.0, -9.0], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    say = "Confident and right: loss and gradient are about exp(-|z|), not 0"
    yield case("binary-right", say, logits, right, dtypes=ALL, **more)
    say, wrong = "Confident and wrong: the loss is about the logit", [1.0 - y for y in right]
    yield case("binary-wrong", say, logits, wrong, dtypes=ALL, **more)
    say = "At exactly 0 the loss is log 2 and the derivative 1/2 - y"
    yield case("binary-zero", say, [0.0, 0.0, 0.0], [1.0, 0.0, 0.25], **more)
    say = "Logits of ±inf that are right: exactly 0"
    yield case("binary-inf-right", say, [INF, -INF], [1.0, 0.0], **more)
    say = "Logits of ±inf that are wrong, wholly or in part: +inf"
    partly = [0.0, 1.0, 0.90625, 0.5]
    yield case("binary-inf-wrong", say, [INF, -INF, -INF, INF], partly, **more)
    say, where = "A NaN that is masked", [True, False, True]
    yield case("binary-where", say, [0.5, NAN, -1.0], [1.0] * 3, flags="IgnoredRow", where=where)


def weights() -> Iterator[Case]:
    """Weights, smoothing, denominators."""
    say = "Weights of the last axis and for positives; the mean still divides by 6"
    both: dict[str, Any] = {"weight": [0.5, 2.0, 1.0], "pos_weight": [3.0, 0.25, 1.0]}
    yield case("binary-weights", say, TABLE, HITS, flags="PosWeight", dtypes=ALL, **both)
    say = "A large weight for positives on confident logits: no NaN, no cancellation"
    more: dict[str, Any] = {"pos_weight": [1000.0], "reduction": "sum"}
    yield case("binary-pos-weight", say, [30.0, -30.0], [1.0, 0.0], flags="PosWeight", **more)
    say = "Smoothing y (1 - 0.1) + 0.05"
    yield case("binary-smoothing", say, TABLE, HITS, flags="Smoothing", label_smoothing=0.1)
    say = "Smoothing of 0.001 on a confident element: 1 - y is 0.0005, no difference from 1"
    more = {"flags": "Smoothing", "label_smoothing": 0.001, "reduction": "none"}
    yield case("binary-smoothing-confident", say, [7.5, -12.0], [1.0, 0.0], **more)
    say, where = "Another denominator, an element masked", [[True, True, False], [True] * 3]
    more = {"normalizer": 10.0, "where": where}
    yield case("binary-normalizer", say, TABLE, HITS, flags="Normalizer", **more)


TOPICS = (agreement, extremes, weights)
