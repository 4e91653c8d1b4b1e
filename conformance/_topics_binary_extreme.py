"""Binary elements from confident to hopeless, their symmetry, and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import ALL, INF, NAN, REDUCTIONS, Case, binary

# Logit -> why
LOGITS = {
    0.0: "the derivative of |z| has a jump here, that of the loss has none",
    2.0**-20: "next to 0: log 2 and 1/2, to first order",
    0.5: "nothing special",
    1.0: "nothing special",
    2.0: "1 - sigmoid loses three bits",
    5.0: "below the eps of bfloat16",
    8.0: "below the eps of float16",
    11.0: "half of float32's digits go if 1 is subtracted",
    14.0: "two digits are left of 1 - sigmoid in float32",
    17.0: "beyond the eps of float32: sigmoid is 1",
    24.0: "log of 1 - sigmoid is -inf in float32",
    36.0: "about the eps of float64",
    40.0: "beyond the eps of float64: a gradient of 1 - sigmoid is 0",
    64.0: "far beyond every eps",
    80.0: "the smallest normal numbers of float32 are near",
    88.0: "exp overflows float32 at the next one",
    90.0: "exp of it overflows float32",
    100.0: "a clip of the logarithm at -100 begins here",
    128.0: "exp of it is far beyond float32",
    710.0: "exp of it overflows float64",
    5000.0: "far beyond everything but float16's range",
}
TARGETS = {"right": 1.0, "wrong": 0.0, "soft": 0.25}


def limits() -> Iterator[Case]:
    """Confident elements, and the limits at the infinities."""
    more: dict[str, Any] = {"flags": "BinaryExtreme", "reduction": "none"}
    logits, right = [40.0, -40.0, 20.0, -20.0, 9.0, -9.0], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    say = "Confident and right: loss and gradient are about exp(-|z|), not 0"
    yield binary("right", say, logits, right, dtypes=ALL, **more)
    say, wrong = "Confident and wrong: the loss is about the logit", [1.0 - y for y in right]
    yield binary("wrong", say, logits, wrong, dtypes=ALL, **more)
    say = "At exactly 0 the loss is log 2 and the derivative 1/2 - y"
    yield binary("zero", say, [0.0, 0.0, 0.0], [1.0, 0.0, 0.25], **more)
    say = "Logits of ±inf that are right: exactly 0"
    yield binary("inf-right", say, [INF, -INF], [1.0, 0.0], **more)
    say = "Logits of ±inf that are wrong, wholly or in part: +inf"
    partly = [0.0, 1.0, 0.90625, 0.5]
    yield binary("inf-wrong", say, [INF, -INF, -INF, INF], partly, **more)
    say, where = "A NaN that is masked", [True, False, True]
    yield binary("where", say, [0.5, NAN, -1.0], [1.0] * 3, flags="IgnoredRow", where=where)


def elements() -> Iterator[Case]:
    """Each logit with both signs, right, wrong and between."""
    for (z, why), (name, y) in product(LOGITS.items(), TARGETS.items()):
        number = "2-to-minus-20" if 0.0 < z < 0.25 else f"{z:g}".replace(".", "-")
        say = f"Logits of ±{z:g}, {name} and its opposite: {why}"
        flags = "BinaryExtreme" + (" Clamped" if name != "right" and z >= 24 else "")
        flags += " Subnormal" if z > 85 else ""
        more: dict[str, Any] = {"flags": flags, "reduction": "none"}
        dtypes = ALL if z <= 128.0 else ("float32", "float64")
        yield binary(f"z-{number}-{name}", say, [z, -z], [y, 1.0 - y], dtypes=dtypes, **more)


def symmetry() -> Iterator[Case]:
    """A logit for a positive is its negative for a negative, to the last bit."""
    values = [0.125, 0.75, 3.0, 13.0, 30.0]
    logits, targets = [*values, *(-z for z in values)], [1.0] * 5 + [0.0] * 5
    more: dict[str, Any] = {"flags": "BinarySymmetry", "dtypes": ALL}
    say = "Five logits as positives and their negatives as negatives: the same losses"
    yield binary("symmetry", say, logits, targets, reduction="none", **more)
    say = "Five logits as negatives and their negatives as positives: the same losses"
    turned = [1.0 - y for y in targets]
    yield binary("symmetry-wrong", say, logits, turned, reduction="none", **more)
    say = "Soft targets: y at z is 1 - y at -z"
    soft = [0.25, 0.5, 0.875, 0.0625, 0.75]
    both = [*soft, *(1.0 - y for y in soft)]
    yield binary("symmetry-soft", say, logits, both, reduction="none", **more)


def infinities() -> Iterator[Case]:
    """Limits and overflows, in every reduction."""
    for kind in REDUCTIONS:
        more: dict[str, Any] = {"reduction": kind, "flags": "BinaryExtreme"}
        say = f"Infinite and right, among others: nothing is added ({kind})"
        yield binary(f"inf-right-{kind}", say, [INF, -INF, 0.5], [1.0, 0.0, 1.0], **more)
        say = f"Infinite and wrong, among others: +inf, with gradients of 1 and -1 ({kind})"
        yield binary(f"inf-wrong-{kind}", say, [INF, -INF, 0.5], [0.0, 1.0, 1.0], **more)
        more["flags"] = "Overflow"
        say = f"A NaN among others ({kind})"
        yield binary(f"nan-{kind}", say, [NAN, -1.0, 0.5], [0.0, 1.0, 1.0], **more)
    more = {"reduction": "none", "flags": "BinaryExtreme"}
    say = "Infinite logits with weights for positives, right and wrong"
    logits, targets = [INF, -INF, INF, -INF], [1.0, 0.0, 0.0, 1.0]
    yield binary("inf-pos-weight", say, logits, targets, pos_weight=[3.0], **more)
    say = "Infinite logits, smoothed: no target is wholly right, so all are +inf"
    yield binary("inf-smoothing", say, logits, targets, label_smoothing=0.125, **more)
    edges = {"float16": 65504.0, "float32": 2.0**127, "float64": 2.0**1023}
    for dtype, x in edges.items():
        say = "The largest binade: right it is 0, wrong it is the logit itself"
        only: dict[str, Any] = {**more, "dtypes": (dtype,)}
        yield binary("largest", say, [x, -x, x, -x], targets, **only)
