"""Confident and hopeless rows, offsets, the edge of the format."""

from __future__ import annotations

from collections.abc import Iterator

from xp_xent.conformance import _topics_infinities
from xp_xent.conformance._case import ALL, BOTH, HALF, Case, case, row

# Log-odds of a confident row -> why
ODDS = {
    1.0: "every formula is right here",
    3.0: "1 - p loses four bits",
    6.0: "below the eps of bfloat16",
    8.0: "below the eps of float16",
    10.0: "half of float32's digits go if 1 is subtracted",
    12.0: "a usual language model's easy token",
    14.0: "two digits are left of 1 - p in float32",
    16.0: "1 - p is one ULP of 1 in float32, p rounds to 1 with the next",
    18.0: "beyond the eps of float32",
    25.0: "a float32 loss that a log of a rounded p gives as 0",
    30.0: "two thirds of float64's digits",
    36.0: "1 - p is about the eps of float64",
    40.0: "beyond the eps of float64, where 1 - sigmoid is 0",
    50.0: "far beyond every eps, far within the exponents' range",
    70.0: "the square of the small probability is below the range of float32",
    85.0: "the smallest normal numbers of float32 are near",
}
# Distance of the class below the top -> why
DISTANCES = {
    5.0: "still a few percent",
    15.0: "p is about the eps of float32",
    18.0: "a clip of 1e-7 begins to show",
    24.0: "p + 1e-10 is no p any more",
    33.0: "p is near the eps of float64, a clip of 1e-14 shows",
    50.0: "p squared has no float32",
    90.0: "p is a subnormal float32",
    104.0: "p has no float32 at all: log of it is -inf",
    500.0: "p has no float32, and is small in float64",
    1000.0: "p has no float64",
    30000.0: "near the largest float16",
}
# Offset -> why
OFFSETS = {
    1e3: "exp of it overflows in float64",
    1e5: "a spacing of 1/128 in float32",
    1e6: "a spacing of 1/16 in float32",
    4e6: "a spacing of 1/4 in float32",
    1e7: "a spacing of 1 in float32",
    1e8: "a spacing of 8 in float32",
}


def confidence() -> Iterator[Case]:
    """Rows from confident to hopeless: what is small keeps its relative accuracy."""
    say = "log1p(2 exp(-20)): a difference from 1, or from the log-sum-exp, is 0"
    yield row("confident-20", say, [20.0, 0.0, 0.0], 0, flags="Confident", dtypes=ALL)
    say = "Log-odds of 60, with one runner-up"
    yield row("confident-60", say, [60.0, 0.0, 1.0], 0, flags="Confident", dtypes=ALL)
    say = "Log-odds of 80: the gradient's smaller entry is near the smallest normal float32"
    yield row("confident-80", say, [40.0, -40.0, -44.0], 0, flags="Confident")
    say = "Log-odds of 6 and of 12, where half of the digits go first"
    logits = [[7.0, 0.0, -1.0, 0.5], [-6.0, 6.0, -6.5, -7.0]]
    yield case("confident-7", say, logits, [0, 1], flags="Confident", dtypes=ALL)
    say = "The class has no chance: the loss is the distance, its gradient entry -1"
    yield row("hopeless", say, [-60.0, 0.0, 0.5], 0, flags="Clamped", dtypes=ALL)
    say = "log p = -200, which neither a log of the softmax nor a clipped probability can give"
    yield row("hopeless-200", say, [0.0, -200.0], 1, flags="Clamped", dtypes=ALL)
    say = "The loss is a subnormal number, or 0 where the library has none"
    small = ("float32", "bfloat16")
    yield row("subnormal", say, [100.0, 0.0], 0, flags="Subnormal", dtypes=small)
    yield row("subnormal", say, [740.0, 0.0], 0, flags="Subnormal", dtypes=("float64",))


def odds() -> Iterator[Case]:
    """Confident rows of eight classes, right and, among others, wrong."""
    rest = [0.0, -0.5, 0.25, -1.0, 0.5, -0.25, 0.75]
    for t, why in ODDS.items():
        say = f"A row of log-odds about {t:g}: {why}"
        yield row(f"odds-{t:g}", say, [t, *rest], 0, flags="Confident", dtypes=ALL)
        say = f"The same row at the other end of the format's signs, the class the last one: {why}"
        logits = [-t + x for x in rest] + [0.0]
        yield row(f"odds-{t:g}-last", say, logits, 7, flags="Confident")
    for t in (8.0, 16.0, 25.0, 40.0):
        say = f"Two classes, {t:g} apart, both labels: softplus(-t) and softplus(t)"
        two = [[t, 0.0], [t, 0.0]]
        yield case(f"two-classes-{t:g}", say, two, [0, 1], flags="Confident", reduction="none")


def distances() -> Iterator[Case]:
    """Rows whose class is far below the others: the loss is nearly linear."""
    for t, why in DISTANCES.items():
        say = f"The class is {t:g} below the top: {why}"
        logits = [0.0, -t, 0.5, -1.0]
        yield row(f"distance-{t:g}", say, logits, 1, flags="Clamped", dtypes=ALL)
        if t <= 1000.0:
            say = f"One step of training further, the top at {t:g}: {why}"
            logits = [t, 0.0, 0.5, -1.0]
            yield row(f"distance-{t:g}-up", say, logits, 1, flags="Clamped Extreme")


def offsets() -> Iterator[Case]:
    """A constant on all logits."""
    for offset in (1e4, 1e6, 1e8):
        say, name = f"All logits are {offset:.0f}: the loss is log 3", f"offset-{offset:.0f}"
        yield row(name, say, [offset] * 3, 1, flags="SharedOffset")
    say, logits = "Differences of 1 on a shared offset of 1e6", [1e6, 1e6 + 1, 1e6 - 1]
    yield row("offset-differences", say, logits, 0, flags="SharedOffset")
    say, logits = "Differences of 1 on a shared offset of -1e6", [-x for x in logits]
    yield row("offset-negative", say, logits, 1, flags="SharedOffset")
    say = "An offset of 4096, where float16 has a spacing of 4"
    logits = [4096.0, 4096.0, 4092.0]
    yield row("offset-half", say, logits, 2, flags="SharedOffset", dtypes=HALF)
    for offset, why in OFFSETS.items():
        step = max(1.0, offset / 2.0**23)  # in float32 exact
        for sign, side in ((1.0, "plus"), (-1.0, "minus")):
            at = sign * offset
            logits = [at, at + step, at - 2.0 * step, at + step]
            for label, place in ((0, "among"), (1, "top")):
                say = f"Steps of {step:g} on an offset of {at:g} ({why}), the class {place}"
                name = f"offset-{side}-{offset:.0f}-{place}"
                yield row(name, say, logits, label, flags="SharedOffset")
    say = "Steps of 1 on an offset of 1e15, where float64 has a spacing of 1/8"
    yield row("offset-1e15", say, [1e15, 1e15 + 1, 1e15 - 2], 0, flags="SharedOffset")


def edges() -> Iterator[Case]:
    """The largest numbers, and losses below the smallest normal one."""
    formats = {"float16": (11, 15), "float32": (24, 127), "float64": (53, 1023)}
    for dtype, (precision, exponent) in formats.items():
        x, only = (2.0 - 2.0 ** (1 - precision)) * 2.0**exponent, (dtype,)
        say = "The largest finite number and its negative, the class the larger one: 0"
        yield row("largest-right", say, [x, -x, 0.0], 0, flags="Extreme", dtypes=only)
        say = "The class is half of the largest number away: the distance itself"
        yield row("largest-wrong", say, [x, x / 2, 0.0], 1, flags="Extreme", dtypes=only)
        say = "Three times the largest number: its sum overflows, its shift does not"
        yield row("largest-tie", say, [x, x, x], 1, flags="Extreme SharedOffset", dtypes=only)
        say = "Three times the most negative number: exp of each is 0 without the shift"
        yield row("lowest-tie", say, [-x, -x, -x], 1, flags="Extreme SharedOffset", dtypes=only)
    below = {"float32": (88.0, 90.0, 95.0), "float64": (709.0, 715.0, 730.0)}
    for dtype, all_odds in below.items():
        for t in all_odds:
            say = f"Log-odds of {t:g}: loss and gradient are, or are nearly, subnormal"
            logits = [t, 0.0, -0.5]
            yield row(f"subnormal-{t:g}", say, logits, 0, flags="Subnormal", dtypes=(dtype,))
    for name, tiny in {"normal": 2.0**-126, "subnormal": 2.0**-140}.items():
        say = f"Logits as small as {name} numbers: log 3 and thirds"
        yield row(f"tiny-{name}", say, [tiny, 0.0, -tiny], 0, flags="Extreme", dtypes=BOTH)


TOPICS = (confidence, odds, distances, offsets, edges, *_topics_infinities.TOPICS)
