"""z_loss, a penalty on the log-sum-exp, and softcap, a bound on the logits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import (
    ALL,
    GAP,
    INF,
    LABELS,
    ONCE,
    REDUCTIONS,
    ROWS,
    SOFT,
    SURE,
    WEIGHT,
    Case,
    case,
    row,
)

# Factor of the penalty -> why
FACTORS = {"0-0001": (1e-4, "as in large language models"), "0-5": (0.5, "as large as the loss")}
# Cap -> why
CAPS = {
    1.0: "nearly every logit is saturated",
    5.0: "some logits are saturated",
    30.0: "as in large language models",
    1000.0: "the cap is nearly the identity",
}
# Logits under a cap -> why
UNDER = {
    "small": ([0.5, -0.25, 0.125, 0.0], "the nearly linear part"),
    "equal": ([2.0, 2.0, 2.0, 2.0], "log 4, with a slope below 1"),
    "around": ([5.0, -5.0, 4.0, 6.0], "around a cap of 5"),
    "beyond": ([50.0, 10.0, -40.0, 45.0], "beyond a cap of 5 and one of 30"),
}
MEETINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight": {"weight": WEIGHT},
    "sample-weight": {"sample_weight": ONCE},
    "mask": {"where": [True, False, True, True]},
    "uniform": {"label_smoothing": 0.125},
    "others": {"label_smoothing": 0.125, "smoothing": "others"},
    "normalizer": {"normalizer": 7.0},
}


def regularised() -> Iterator[Case]:
    """The rules, one at a time."""
    say = "1e-4 times the squared log-sum-exp is added, not class-weighted"
    yield case("z-loss", say, ROWS, LABELS, flags="ZLoss", z_loss=1e-4, weight=WEIGHT)
    say = "Logits beyond the cap of 30"
    yield row("softcap", say, [20.0, 45.0, -35.0, 0.0], 0, flags="Softcap", softcap=30.0)
    say = "Logits far beyond the cap of 5: its slope is 1/cosh², which 1 - tanh² loses"
    yield row("softcap-saturated", say, [100.0, 40.0, -60.0, 2.0], 1, flags="Softcap", softcap=5.0)
    say = "Infinite logits: the cap comes before anything else, so they are -30 and 30"
    yield row("softcap-infinite", say, [-INF, 1.0, INF], 1, flags="Softcap", softcap=30.0)
    say = "The cap comes first, then the penalty; a row is ignored"
    yield case("softcap-z-loss", say, ROWS, GAP, flags="Softcap ZLoss", softcap=5.0, z_loss=0.01)


def penalties() -> Iterator[Case]:
    """The penalty in every denominator, and on rows of several kinds."""
    for (size, (factor, why)), (name, more) in product(FACTORS.items(), MEETINGS.items()):
        say = f"A penalty of {factor:g} ({why}), {name.replace('-', ' ')}"
        yield case(f"z-loss-{size}-{name}", say, ROWS, GAP, flags="ZLoss", z_loss=factor, **more)
    for kind in REDUCTIONS:
        say = f"The penalty shares the denominator, an ignored row has none ({kind})"
        more = {"flags": "ZLoss", "z_loss": 0.25, "reduction": kind}
        yield case(f"z-loss-{kind}", say, ROWS, GAP, dtypes=ALL, **more)
        say = f"Probabilities of any mass do not scale the penalty ({kind})"
        soft = [SOFT[0], [0.5, 1.0, 0.5], [0.0] * 3, SOFT[3]]
        yield case(f"z-loss-soft-{kind}", say, ROWS, soft, **more)
    logits = {
        "negative": ([-9.0, -10.0, -8.5], "a log-sum-exp below 0 is pulled up"),
        "masked": ([1.0, -INF, 0.5], "a masked class has no part in it"),
        "large": ([512.0, 508.0, 500.0], "a large log-sum-exp: the penalty is all"),
        "confident": ([24.0, 0.0, 0.5], "a confident row: the penalty is all"),
    }
    for name, (z, why) in logits.items():
        more = {"flags": "ZLoss", "z_loss": 1e-3, "dtypes": ALL}
        yield row(f"z-loss-row-{name}", f"The penalty on a {name} row: {why}", z, 0, **more)


def caps() -> Iterator[Case]:
    """Every cap on every kind of row."""
    for (cap, why), (name, (logits, like)) in product(CAPS.items(), UNDER.items()):
        for label in (0, 2):
            say = f"A cap of {cap:g} ({why}) on a row {name} ({like}), class {label}"
            own = f"softcap-{cap:g}-{name}-{label}"
            yield row(own, say, logits, label, flags="Softcap", softcap=cap)
    for name, more in MEETINGS.items():
        say = f"A cap of 4 with {name.replace('-', ' ')}"
        yield case(f"softcap-with-{name}", say, ROWS, GAP, flags="Softcap", softcap=4.0, **more)
    say = "A cap of 4 in every dtype, each row's loss"
    more = {"flags": "Softcap", "softcap": 4.0, "reduction": "none", "dtypes": ALL}
    yield case("softcap-none", say, ROWS, LABELS, **more)
    say = "Confident rows under a cap of 50: the digits of what is left of 1 - p"
    yield case("softcap-confident", say, SURE, [0, 1, 2, 0], **more | {"softcap": 50.0})
    say = "A cap of 4 with probabilities"
    yield case("softcap-soft", say, ROWS, SOFT, **more)
    say = "A shared offset does matter under a cap: everything is saturated"
    yield row("softcap-offset", say, [60.0, 62.0, 58.0], 0, flags="Softcap", softcap=20.0)


TOPICS = (regularised, penalties, caps)
