"""Targets that are probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from xp_xent.conformance._case import ALL, HALF, REDUCTIONS, ROWS, SOFT, Case, case, row

LOGITS = [0.5, -1.0, 2.0, 0.0]
# Distributions over four classes -> why
SHAPES = {
    "uniform": ([0.25] * 4, "no class is preferred"),
    "two": ([0.5, 0.0, 0.5, 0.0], "two equal labels, as in mixup"),
    "mixup": ([0.71875, 0.28125, 0.0, 0.0], "two unequal labels"),
    "near-one-hot": ([0.99609375, 0.00390625, 0.0, 0.0], "a teacher that is nearly sure"),
    "tiny": ([0.9999847412109375, 2.0**-16, 0.0, 0.0], "a probability below the eps of half"),
    "half-sum": ([0.25, 0.125, 0.0, 0.125], "a sum of 1/2: the pull on the logits is 1/2 too"),
    "double-sum": ([1.0, 0.5, 0.25, 0.25], "a sum of 2: several labels at once"),
    "zeros": ([0.0] * 4, "no mass: loss and gradient are exactly 0"),
    "thirds": ([1 / 3, 1 / 3, 0.0, 1 / 3], "rounded: the sum is not quite 1"),
}
# Rows of logits -> why
SITUATIONS = {
    "usual": (LOGITS, "nothing special"),
    "confident": ([16.0, 0.0, -1.0, 1.0], "the first class is sure"),
    "sure": ([40.0, 0.0, -1.0, 1.0], "the first class is sure beyond every eps"),
    "wrong": ([-30.0, 0.0, -1.0, 1.0], "the first class has no chance"),
    "offset": ([4096.0, 4100.0, 4096.0, 4092.0], "a shared offset"),
}


def probabilities() -> Iterator[Case]:
    """The rules, one at a time."""
    flags = "Probabilities"
    yield case("soft", "Rows of probabilities, the mean", ROWS, SOFT, flags=flags, dtypes=ALL)
    say = "A one-hot row of probabilities is that label, to the last digits of a confident row"
    yield row(
        "soft-one-hot", say, [20.0, 0.0, 0.0], [1.0, 0.0, 0.0], flags="Probabilities Confident"
    )
    say = "Nearly one-hot on a confident row"
    near = [0.9990234375, 0.0009765625, 0.0]
    yield row("soft-confident", say, [9.0, 0.0, 1.0], near, flags=flags)
    say = "Probabilities that do not sum to 1 are taken as they are"
    more = {"flags": "Probabilities Unnormalised"}
    yield row("soft-unnormalised", say, [0.5, -1.0, 2.0], [0.5, 0.5, 0.5], **more)


def shapes() -> Iterator[Case]:
    """Every distribution on every kind of row."""
    pairs = product(SHAPES.items(), SITUATIONS.items())
    for (name, (soft, why)), (kind, (logits, like)) in pairs:
        say = f"Probabilities {name} ({why}) on a {kind} row ({like})"
        flags = "Probabilities" + (" Unnormalised" if "sum" in name or name == "zeros" else "")
        flags += " SharedOffset" if kind == "offset" else ""
        yield row(f"soft-{name}-{kind}", say, logits, soft, flags=flags)
    for name in ("uniform", "mixup", "double-sum", "zeros"):
        soft, why = SHAPES[name]
        say = f"Probabilities {name} in half precision: {why}"
        flags = "Probabilities HalfPrecision"
        yield row(f"soft-{name}-half", say, LOGITS, soft, flags=flags, dtypes=HALF)


def one_hot() -> Iterator[Case]:
    """One-hot rows: the same numbers as labels have."""
    for t in (0.0, 3.0, 8.0, 16.0, 36.0, 60.0):
        for place in (0, 3):
            logits = [0.25, 0.0, -0.5, 0.5]
            logits[place] = t
            say = (
                f"One-hot on class {place} of log-odds about {t:g}: as its label, to the last digit"
            )
            soft = [float(c == place) for c in range(4)]
            flags = "Probabilities OneHot" + (" Confident" if t > 3 else "")
            yield row(f"one-hot-{t:g}-{place}", say, logits, soft, flags=flags, dtypes=ALL)


def reduced() -> Iterator[Case]:
    """The mean is over rows, whatever their mass."""
    masses = [SOFT[0], [0.5, 1.0, 0.5], [0.0, 0.0, 0.0], [0.125, 0.0, 0.125]]
    for kind in REDUCTIONS:
        more: dict[str, Any] = {"flags": "Probabilities Unnormalised", "reduction": kind}
        say = f"Rows of masses 1, 2, 0 and 1/4 ({kind}): the mean divides by four rows"
        yield case(f"soft-masses-{kind}", say, ROWS, masses, dtypes=ALL, **more)
        more["where"] = [True, True, False, True]
        say = f"Rows of masses 1, 2 and 1/4, and a masked one ({kind})"
        yield case(f"soft-masses-where-{kind}", say, ROWS, masses, **more)
    say = "Probabilities have no label to ignore: ignore_index=None says the same"
    logits, soft = [[0.5, 1.0, -1.0]] * 2, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    yield case("soft-no-ignore", say, logits, soft, flags="Probabilities", ignore_index=None)
    for dtype, wider in (("float16", "float32"), ("bfloat16", "float32"), ("float32", "float64")):
        say = f"Probabilities in {wider} for logits in {dtype}: rounded to what is computed in"
        more = {"flags": "Probabilities HalfPrecision", "targets_dtype": wider}
        yield case("soft-wider", say, ROWS, SOFT, dtypes=(dtype,), **more)


TOPICS = (probabilities, shapes, one_hot, reduced)
