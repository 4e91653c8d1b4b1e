"""What is computed: shapes of logits, their goals, and the arrays that both sides are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

Array = Any


@dataclass(frozen=True)
class Shape:
    """The shape of logits, and which axis holds the classes."""

    sizes: tuple[int, ...]
    axis: int = -1

    @property
    def name(self) -> str:
        """What a table calls it: ``4×21×256×256, axis 1``."""
        return self.option.replace("x", "×").replace("@", ", axis ")

    @property
    def option(self) -> str:
        """What the command line calls it: ``4x21x256x256@1``."""
        return "x".join(map(str, self.sizes)) + ("" if self.axis == -1 else f"@{self.axis}")

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def classes(self) -> int:
        return self.sizes[self.axis]

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read the option's form; ValueError if it is none."""
        sizes, _, axis = text.replace("×", "x").partition("@")
        shape = cls(tuple(int(size) for size in sizes.split("x")), int(axis or -1))
        if min(shape.sizes) < 1 or not -1 <= shape.axis < len(shape.sizes):
            raise ValueError(f"{text!r} is no shape")
        return shape


SHAPES: Final = tuple(
    map(
        Shape.parse, "64x10 1024x10 65536x10 8192x1000 2048x32000 512x128256 4x21x256x256@1".split()
    )
)
# case -> its goal for each of SHAPES: our median time over the peer's
GOALS: Final[dict[str, tuple[float, ...]]] = {
    "numpy": (1.0, 0.6, 0.3, 0.9, 0.35, 0.35, 0.5),
    "torch": (1.5, 0.9, 0.4, 1.0, 0.6, 0.6, 0.8),
    "torch-compiled": (1.0,) * 7,
    "jax": (1.0,) * 7,
}
QUICK: Final = (Shape((64, 10)), Shape((2, 5, 8, 8), 1))
ITEM_BYTES: Final = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def goal(case: str, shape: Shape, dtype: str) -> float | None:
    """Return the goal of a cell, where there is one."""
    if case not in GOALS or shape not in SHAPES or dtype != "float32":
        return None
    return GOALS[case][SHAPES.index(shape)]


@dataclass(frozen=True)
class Problem:
    """Host arrays for one measurement: what is differentiated by, and the labels.

    The floats are the logits alone, or features (N, D) and a classifier (K, D); `dtype` is what
    they become on their library.
    """

    shape: Shape
    dtype: str
    floats: tuple[Array, ...] = field(repr=False)
    labels: Array = field(repr=False)


def problem(shape: Shape, dtype: str, width: int | None = None) -> Problem:
    """Draw normal logits, or features of a width and a classifier whose logits are as large.

    They are always the same for a shape.
    """
    draw = np.random.default_rng(shape.sizes if width is None else (*shape.sizes, width))
    wide = np.float64 if dtype == "float64" else np.float32
    sizes = [shape.sizes] if width is None else [(shape.sizes[0], width), (shape.classes, width)]
    floats = [draw.standard_normal(one, wide) for one in sizes]
    if width is not None:
        floats[1] /= wide(math.sqrt(width))
    rows = list(shape.sizes)
    del rows[shape.axis]
    return Problem(shape, dtype, tuple(floats), draw.integers(0, shape.classes, rows))
