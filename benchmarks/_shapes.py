"""What is computed: shapes of logits, their goals, and the arrays that both sides are given."""

import math
from typing import Any, Final, NamedTuple

import numpy as np

Array = Any


class Shape(NamedTuple):
    """The shape of logits, and which axis holds the classes."""

    sizes: tuple[int, ...]
    axis: int = -1

    @property
    def name(self) -> str:
        """What a table calls it: ``4×21×256×256, axis 1``."""
        return "×".join(map(str, self.sizes)) + ("" if self.axis == -1 else f", axis {self.axis}")

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Read its name, or the command line's ``4x21x256x256@1``; ValueError if it is neither."""
        sizes, _, axis = text.replace("×", "x").replace(", axis ", "@").partition("@")
        shape = cls(tuple(int(size) for size in sizes.split("x")), int(axis or -1))
        if min(shape.sizes) < 1 or not -1 <= shape.axis < len(shape.sizes):
            raise ValueError(f"{text!r} is no shape")
        return shape


NAMES: Final = "64x10 1024x10 65536x10 8192x1000 2048x32000 512x128256 4x21x256x256@1"
SHAPES: Final = tuple(map(Shape.parse, NAMES.split()))
# case -> its goal for each of SHAPES: our median time over the peer's
GOALS: Final[dict[str, tuple[float, ...]]] = {
    "numpy": (0.5, 0.4, 0.3, 0.7, 0.35, 0.35, 0.5),
    "numpy-out": (0.5, 0.4, 0.3, 0.7, 0.25, 0.25, 0.5),
    "torch": (1.5, 0.9, 0.4, 0.5, 0.42, 0.42, 0.6),
    "torch-compiled": (1.0,) * 7,
    "jax": (1.0,) * 7,
}
ITEM_BYTES: Final = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def goal(case: str, shape: Shape, dtype: str) -> float | None:
    """Return the goal of a cell, where there is one."""
    goals = dict(zip(SHAPES, GOALS.get(case, ()), strict=False))
    return goals.get(shape) if dtype == "float32" else None


class Problem(NamedTuple):
    """Host arrays for one measurement: what is differentiated by, and the labels."""

    shape: Shape
    dtype: str  # of the floats on their library
    floats: tuple[Array, ...]  # the logits, or features (N, D) and a classifier (K, D)
    labels: Array


def problem(shape: Shape, dtype: str, width: int | None = None) -> Problem:
    """Draw a shape's normal logits, or features of a width and a classifier with such logits."""
    rows = list(shape.sizes)
    classes = rows.pop(shape.axis)
    draw = np.random.default_rng(shape.sizes if width is None else (*shape.sizes, width))
    wide = np.float64 if dtype == "float64" else np.float32
    sizes = [shape.sizes] if width is None else [(rows[0], width), (classes, width)]
    floats = [draw.standard_normal(one, wide) for one in sizes]
    if width is not None:
        floats[1] /= wide(math.sqrt(width))
    return Problem(shape, dtype, tuple(floats), draw.integers(0, classes, rows))
