"""A temperature, masks over classes, and options that are arrays of one number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from xp_xent.conformance._case import (
    ALL,
    GAP,
    INF,
    LABELS,
    NAN,
    REDUCTIONS,
    ROWS,
    SOFT,
    SURE,
    WEIGHT,
    Case,
    case,
    row,
)

# Temperature -> why
TEMPERATURES = {0.0625: "far sharper", 0.75: "not a power of two", 4.0: "as in distillation"}
# Logits that a temperature divides -> why
DIVIDED = {
    "confident": ([24.0, 0.0, 0.5], "the digits of 1 - p"),
    "offset": ([1024.0, 1023.0, 1020.5], "the differences count, not the rounded quotients"),
    "masked": ([1.0, -INF, 0.5], "an infinity stays one"),
    "equal": ([3.0, 3.0, 3.0], "log 3 at any temperature"),
}
# Name of a mask -> the mask of ROWS on which LABELS and SOFT have all their mass, and why
PARTS: dict[str, tuple[Any, str]] = {
    "all": ([[True] * 3] * 4, "every class takes part"),
    "row": ([[True, False, True], [True, True, True], [False, True, True], [True, True, False]],
            "another one in each row"),
    "class": ([[True, True, True], [False, True, True], [False, True, False], [True, False, True]],
              "one class alone in a row: its loss is 0"),
}  # fmt: skip
WEIGHTED: tuple[dict[str, Any], ...] = ({}, {"weight": WEIGHT})
MEETINGS: dict[str, dict[str, Any]] = {
    "weight": {"weight": WEIGHT},
    "uniform": {"label_smoothing": 0.125},
    "z-loss": {"z_loss": 0.25},
    "softcap": {"softcap": 4.0},
    "softcap-z-loss": {"softcap": 4.0, "z_loss": 0.25},
}


def _of(function: str, own: Case) -> Case:
    return own._replace(function=function)


def temperatures() -> Iterator[Case]:
    """Logits divided, after the soft cap."""
    more: dict[str, Any] = {"flags": "Temperature", "dtypes": ALL}
    for temperature, why in TEMPERATURES.items():
        short = f"{temperature:g}".replace(".", "-")
        for name, (logits, like) in DIVIDED.items():
            say = f"A temperature of {temperature:g} ({why}) on a row {name} ({like})"
            own = f"temperature-{short}-{name}"
            yield row(own, say, logits, 0, **more, temperature=temperature)
        for kind in REDUCTIONS:
            say = f"A temperature of {temperature:g}, with an ignored row ({kind})"
            own = f"temperature-{short}-{kind}"
            yield case(own, say, ROWS, GAP, **more, temperature=temperature, reduction=kind)
    more["temperature"] = 2.0
    for name, option in MEETINGS.items():
        say = f"A temperature of 2 with {name.replace('-', ' ')}"
        yield case(f"temperature-with-{name}", say, ROWS, GAP, **more, **option)
        say = f"A temperature of 2 with probabilities and {name.replace('-', ' ')}"
        yield case(f"temperature-soft-with-{name}", say, ROWS, SOFT, **more, **option)
    say = "Confident rows at a temperature of 2"
    yield case("temperature-confident", say, SURE, [0, 1, 2, 0], **more, reduction="none")
    say = "Each token by the row before it, at a temperature of 2"
    next_token = case("temperature-next", say, ROWS, [2, 0, 2, 1], **more)
    yield _of("next_token_cross_entropy", next_token)
    say = "A divergence from targets as they are; the logits alone are divided"
    yield _of("kl_divergence", case("temperature-kl", say, ROWS, SOFT, **more))


def masked_classes() -> Iterator[Case]:
    """Classes that take no part, whatever their logits are."""
    more: dict[str, Any] = {"flags": "ClassMask", "dtypes": ALL}
    spoiled = [[x if takes else NAN for x, takes in zip(z, part, strict=True)]
               for z, part in zip(ROWS, PARTS["row"][0], strict=True)]  # fmt: skip
    for (name, (part, why)), kind in product(PARTS.items(), REDUCTIONS):
        say = f"A mask over classes, {why} ({kind})"
        yield case(f"classes-{name}-{kind}", say, ROWS, [0, 2, 1, 0], **more, class_where=part,
                   reduction=kind)  # fmt: skip
    part = PARTS["row"][0]
    say = "What a class that takes no part holds does not matter: NaN"
    yield case("classes-nan", say, spoiled, [0, 2, 1, 0], **more, class_where=part)
    say = "One mask for all rows"
    yield case("classes-shared", say, ROWS, [0, 1, -100, 0], **more,
               class_where=[[True, True, False]])  # fmt: skip
    for kind, rest in product(("uniform", "others"), WEIGHTED):
        how = f"{kind}-weight" if rest else kind
        say = f"Smoothing spreads over the classes that take part ({how})"
        yield case(f"classes-smoothing-{how}", say, spoiled, [0, 2, 1, 0], **more, **rest,
                   class_where=part, label_smoothing=0.25, smoothing=kind)  # fmt: skip
    for name, option in MEETINGS.items():
        say = f"A mask over classes with {name.replace('-', ' ')}"
        yield case(f"classes-with-{name}", say, spoiled, [0, 2, 1, 0], **more, **option,
                   class_where=part)  # fmt: skip
    say = "A mask over classes and a temperature"
    yield case("classes-temperature", say, spoiled, [0, 2, 1, 0], **more, class_where=part,
               temperature=0.75)  # fmt: skip
    say = "A label on a class that takes no part has an infinite loss"
    yield row("classes-label", say, [1.0, 2.0, 0.5], 1, **more, class_where=[True, False, True])
    soft = [[0.5, 0.0, 0.5], [0.25, 0.5, 0.25], [0.0, 0.75, 0.25], [0.125, 0.875, 0.0]]
    say = "Probabilities on the classes that take part"
    yield case("classes-soft", say, spoiled, soft, **more, class_where=part)
    say = "A divergence over the classes that take part"
    yield _of("kl_divergence", case("classes-kl", say, spoiled, soft, **more, class_where=part))


def arrays_of_one_number() -> Iterator[Case]:
    """Options that are numbers, as arrays of the loss's dtype."""
    more: dict[str, Any] = {"flags": "NumberArray"}
    for name, value in (("label_smoothing", 0.125), ("z_loss", 0.25), ("softcap", 4.0),
                        ("temperature", 2.0), ("normalizer", 8.0)):  # fmt: skip
        say, option = f"{name} as an array", {name: np.asarray(value)}
        own = f"number-{name.replace('_', '-')}"
        yield case(own, say, ROWS, LABELS, **more | option)
    say = "gamma as an array"
    focal = case("number-gamma", say, ROWS, LABELS, **more, gamma=np.asarray(1.5))
    yield _of("softmax_focal_loss", focal)


TOPICS = (temperatures, masked_classes, arrays_of_one_number)
