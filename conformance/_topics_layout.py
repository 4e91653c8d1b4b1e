"""Shapes, the place of the class axis, and the dtypes of labels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from xp_xent.conformance._case import (
    BOTH,
    HITS,
    LABELS,
    REDUCTIONS,
    ROWS,
    SURE,
    TABLE,
    Case,
    binary,
    case,
    normal_rows,
)

# Shapes of logits, the class axis last -> what has them
SHAPES = {
    (3,): "one row, a label without a shape",
    (4, 3): "a batch",
    (2, 2, 3): "sequences, or a line of pixels",
    (1, 2, 2, 3): "an image",
}
# Every integer dtype but int64, which all other vectors have
INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")


def layout() -> Iterator[Case]:
    """The rules, one at a time."""
    say = "The class axis is 1 of (1, 3, 2, 2), as in segmentation"
    image = [[[[0.5, -1.0], [2.0, 0.0]], [[1.5, 0.25], [-0.5, 3.0]], [[-2.0, 1.0], [0.0, 0.5]]]]
    yield case("image", say, image, [[[0, 2], [1, 1]]], flags="Axis", axis=1)
    say = "Three classes along axis 0 of (3, 2): the labels have shape (2,)"
    table = [[1.0, 0.0], [0.5, -2.0], [-1.0, 3.0]]
    yield case("axis-0", say, table, [2, 0], flags="Axis", axis=0, reduction="none")


def axes() -> Iterator[Case]:
    """The class axis in every place of every shape, counted from both ends."""
    for shape, what in SHAPES.items():
        size = int(np.prod(shape))
        flat = np.array(normal_rows(1, size, 1.5, seed=800 + size)[0]).reshape(shape)
        labels = (np.arange(size // 3) * 2 + 1).reshape(shape[:-1]) % 3
        soft = np.array([[0.5, 0.25, 0.25], [0.0, 0.125, 0.875]])[labels % 2]
        for axis in range(-len(shape), len(shape)):
            name = f"{len(shape)}d-axis-{'minus-' if axis < 0 else ''}{abs(axis)}"
            say = f"{len(shape)} dimensions ({what}), the classes along axis {axis}"
            logits = np.moveaxis(flat, -1, axis).tolist()
            more: dict[str, Any] = {"flags": "Axis", "axis": axis, "reduction": "none"}
            yield case(f"layout-{name}", say, logits, labels.tolist(), **more)
            targets = np.moveaxis(soft, -1, axis).tolist()
            yield case(f"layout-{name}-soft", f"{say}, probabilities", logits, targets, **more)


def square() -> Iterator[Case]:
    """As many rows as classes: every axis fits the labels, only one is right."""
    logits = [[1.5, -0.5, 0.25], [0.125, 2.25, -1.25], [-3.0, 0.5, 0.75]]
    more: dict[str, Any]
    for axis, kind in product((0, 1, -1, -2), REDUCTIONS):
        name = f"square-axis-{'minus-' if axis < 0 else ''}{abs(axis)}-{kind}"
        say = f"Three rows of three classes along axis {axis} ({kind}): no shape tells them apart"
        more = {"flags": "Axis", "axis": axis, "reduction": kind}
        yield case(name, say, logits, [0, 2, 1], **more)
    say = "Confident columns: the classes along axis 0 keep their digits too"
    columns = [list(column) for column in zip(*SURE, strict=True)]
    more = {"flags": "Axis Confident", "axis": 0, "reduction": "none"}
    yield case("axis-0-confident", say, columns, [0, 1, 2, 0], **more)
    options: dict[str, dict[str, Any]] = {
        "weight": {"weight": [0.25, 2.0, 1.5]},
        "sample-weight": {"sample_weight": [0.5, 2.0, 3.0]},
        "mask": {"where": [True, False, True]},
        "smoothing": {"label_smoothing": 0.25, "smoothing": "others"},
    }
    for name, more in options.items():
        say = f"{name.capitalize().replace('-', ' ')} with the classes along axis 0 of a square"
        yield case(f"square-{name}", say, logits, [0, 2, 1], flags="Axis", axis=0, **more)


def images() -> Iterator[Case]:
    """What belongs to rows has their shape, wherever the class axis is."""
    values = normal_rows(1, 24, 1.5, seed=900)[0]
    logits = np.array(values).reshape(2, 3, 2, 2).tolist()
    labels = [[[0, 2], [1, -100]], [[2, 1], [0, 0]]]
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "weight": {"weight": [0.25, 2.0, 1.5]},
        "sample-weight": {"sample_weight": [[[1.0, 0.5], [2.0, 1.0]], [[0.0, 3.0], [1.0, 0.25]]]},
        "mask": {"where": [[[True, False], [True, True]], [[False, True], [True, True]]]},
        "smoothing": {"label_smoothing": 0.125},
        "z-loss": {"z_loss": 0.01},
    }
    for (name, option), kind in product(options.items(), REDUCTIONS):
        say = f"Two images with a void pixel, {name.replace('-', ' ')} ({kind})"
        more = {**option, "axis": 1, "reduction": kind}
        yield case(f"image-{name}-{kind}", say, logits, labels, flags="Axis", **more)
    say = "Cotangents of the pixels' shape"
    cotangent = [[[1.0, 2.0], [3.0, 4.0]], [[-1.0, 0.5], [0.0, 0.25]]]
    more = {"axis": 1, "reduction": "none", "cotangent": cotangent}
    yield case("image-cotangent", say, logits, labels, flags="Axis Cotangent", **more)


def label_dtypes() -> Iterator[Case]:
    """Labels in every integer dtype, and positions that overflow the narrow ones."""
    for dtype in INTEGERS:
        say = f"Labels in {dtype}"
        more: dict[str, Any] = {"targets_dtype": dtype, "flags": "LabelDtype"}
        yield case(f"labels-{dtype}", say, ROWS, LABELS, **more)
    many = normal_rows(20, 10, 2.0, seed=910)
    for dtype in ("int8", "uint8"):
        labels = [(7 * i + 3) % 10 for i in range(20)]
        say = f"20 rows of ten classes with labels in {dtype}: row times classes overflows it"
        yield case(f"labels-{dtype}-flat", say, many, labels, **more | {"targets_dtype": dtype})
    wide = normal_rows(2, 200, 2.0, seed=920)
    for dtype, labels in (("uint8", [199, 128]), ("int16", [199, 128])):
        say = f"200 classes with labels in {dtype}, above the largest int8"
        more = {"targets_dtype": dtype, "flags": "LabelDtype", "reduction": "none"}
        yield case(f"labels-{dtype}-wide", say, wide, labels, **more)
    for dtype in ("int32", "uint8", "bool"):
        targets = [[int(y) for y in row] for row in HITS]
        say = f"Binary targets in {dtype}, each element's loss"
        more = {"flags": "LabelDtype", "targets_dtype": dtype, "reduction": "none"}
        if dtype == "bool":
            targets = [[bool(y) for y in row] for row in targets]
            more["targets_dtype"] = None
        yield binary(f"targets-{dtype}", say, TABLE, targets, **more)


def binary_shapes() -> Iterator[Case]:
    """Binary elements in every shape, with weights that broadcast."""
    values = [1.5, -0.5, 0.25, -2.0, 3.0, -0.75, 0.5, 1.25]
    shapes: dict[tuple[int, ...], str] = {
        (): "a single number",
        (1,): "one element",
        (8,): "a list",
        (2, 4): "a table",
        (2, 1, 4): "an axis of one",
        (2, 2, 2): "a cube",
    }
    for shape, what in shapes.items():
        size = int(np.prod(shape))
        logits = np.array(values[:size]).reshape(shape).tolist()
        targets = np.array([1.0, 0.0, 0.25, 1.0, 0.0, 1.0, 0.5, 0.0][:size]).reshape(shape).tolist()
        name = "x".join(map(str, shape)) or "scalar"
        for kind in REDUCTIONS:
            say = f"Binary elements in shape {shape}, {what} ({kind})"
            own = f"shape-{name}-{kind}"
            yield binary(own, say, logits, targets, flags="BinaryMean", reduction=kind)
    table = np.array(values).reshape(2, 4).tolist()
    hits = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    weights: dict[str, tuple[Any, str]] = {
        "last": ([0.5, 2.0, 1.0, 3.0], "one a column"),
        "first": ([[0.5], [3.0]], "one a row"),
        "full": ([[0.5, 2.0, 1.0, 3.0], [1.0, 0.0, 4.0, 0.25]], "one an element"),
        "one": ([[1.5]], "one for all"),
    }
    for (name, (weight, why)), option in product(weights.items(), ("weight", "pos_weight")):
        say = f"{option} of shape {np.shape(weight)}, {why}: it broadcasts against (2, 4)"
        more = {"flags": "PosWeight" if option == "pos_weight" else "BinaryMean", option: weight}
        yield binary(f"{option.replace('_', '-')}-{name}", say, table, hits, dtypes=BOTH, **more)


TOPICS = (layout, axes, square, images, label_dtypes, binary_shapes)
