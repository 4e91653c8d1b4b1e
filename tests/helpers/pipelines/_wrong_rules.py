"""Which mistakes a pipeline makes: rules with options, that go with a data set and together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from _wrong_data import Data

Rules = dict[str, dict[str, Any]]  # by id
Claims = dict[str, Any]

# A rule's options, in order; where several stand, the data set's size draws one.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "reduction-sum": [{}],
    "mean-over-all-positions": [{}],
    "mean-of-sequence-means": [{}],
    "denominator-count": [{}],
    "ignore-index": [{"ignore_index": -1}],  # by data set, see below
    "shift": [{}],
    "labels-from-one": [{}],
    "class-axis": [{}],
    "smoothing": [
        {"label_smoothing": 0.1, "smoothing": "uniform"},
        {"label_smoothing": 0.137, "smoothing": "uniform"},
        {"label_smoothing": 0.05, "smoothing": "others"},
    ],
    "class-weights-missing": [{}],
    "class-weights-squared": [{}],
    "bits": [{}],
    "softmax-twice": [{}],
    "sigmoid": [{"form": "mean"}, {"form": "sum"}],
    "temperature": [{"temperature": 2.0}, {"temperature": 1.37}, {"temperature": 0.7}],
    "softcap": [{"softcap": 30.0}, {"softcap": 13.7}, {"softcap": 5.0}],
    "z-loss": [{"z_loss": 1e-4}, {"z_loss": 0.00137}, {"z_loss": 0.01}],
    "gradient-scale": [{"factor": 1024.0}, {"factor": 3.7}, {"factor": 0.125}],
    "gradient-sign": [{}],
    "clipping": [{"eps": 1e-7}, {"eps": 1e-3}, {"eps": 1e-5}],
    "rounded": [
        {"dtype": "float16", "what": "logits"},
        {"dtype": "bfloat16", "what": "logits"},
        {"dtype": "bfloat16", "what": "loss"},
    ],
}
# What cannot be done together: each undoes or replaces the other.
CLASHES = [
    {"reduction-sum", "mean-over-all-positions", "mean-of-sequence-means", "denominator-count"},
    {"sigmoid", "clipping", "class-axis"},
    {"sigmoid", "smoothing"},
    {"class-weights-missing", "class-weights-squared", "denominator-count", "sigmoid"},
    {"shift", "class-axis"},
    {"ignore-index", "labels-from-one"},
]


def applies(rule: str, data: Data, gradient: bool) -> bool:
    """Tell if a rule can be made on a data set, by a pipeline with a gradient or without."""
    match rule:
        case "mean-over-all-positions":
            return data.kind in ("text", "segmentation")
        case "mean-of-sequence-means":
            return data.kind in ("text", "segmentation")
        case "denominator-count" | "class-weights-missing" | "class-weights-squared":
            return data.weight is not None
        case "ignore-index":
            return data.kind in ("images", "text", "tabular")
        case "shift":
            return data.kind == "text"
        case "labels-from-one":
            return data.kind in ("images", "tabular")
        case "class-axis":
            return data.kind in ("images", "segmentation")
        case "smoothing" | "softmax-twice":
            return True
        case "sigmoid":
            return data.kind in ("images", "tabular")
        case "gradient-scale" | "gradient-sign":
            return gradient
    return True


def options_of(rule: str, data: Data, turn: int) -> dict[str, Any]:
    """Draw a rule's options."""
    options = dict(OPTIONS[rule][turn % len(OPTIONS[rule])])
    if rule == "ignore-index":
        options = {"ignore_index": {"images": 0, "text": None, "tabular": 0}[data.kind]}
    if rule == "smoothing" and data.classes == 2:
        options["smoothing"] = "uniform"
    return options


def clash(rules: tuple[str, ...]) -> bool:
    return any(len(set(rules) & together) > 1 for together in CLASHES)


def combinations(count: int, data: Data, gradient: bool) -> list[tuple[str, ...]]:
    """List the rules, `count` at a time, that go with a data set and with each other."""
    possible = [rule for rule in OPTIONS if applies(rule, data, gradient)]
    return [c for c in itertools.combinations(possible, count) if not clash(c)]


def labels_of(data: Data, rules: Rules) -> tuple[Any, Any]:
    """Give the labels that the other side has, and which of its rows count."""
    y, ignored = data.targets, data.ignored
    if not data.labelled:
        return y, np.ones(y.shape[:-1], bool)
    if "ignore-index" in rules:
        ignored = rules["ignore-index"]["ignore_index"]
    counted = np.ones(y.shape, bool) if ignored is None else y != ignored
    if "labels-from-one" in rules:
        y = (y - 1) % data.classes
    return np.where(counted, y, 0), counted


def weight_of(data: Data, rules: Rules) -> Any:
    return None if "class-weights-missing" in rules else data.weight
