"""What is computed: shapes of logits, and the arrays that both sides are given."""

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
        sizes = "×".join(map(str, self.sizes))
        return sizes if self.axis == -1 else f"{sizes}, axis {self.axis}"

    @property
    def option(self) -> str:
        """What the command line calls it: ``4x21x256x256@1``."""
        sizes = "x".join(map(str, self.sizes))
        return sizes if self.axis == -1 else f"{sizes}@{self.axis}"

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
        Shape.parse,
        "64x10 1024x10 65536x10 8192x1000 2048x32000 512x128256 4x21x256x256@1".split(),
    )
)
ITEM_BYTES: Final = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
QUICK: Final = (Shape((64, 10)), Shape((2, 5, 8, 8), 1))
# case -> its goal for each of SHAPES: our median time over the peer's
GOALS: Final = {
    "numpy": (1.0, 0.6, 0.3, 0.9, 0.35, 0.35, 0.5),
    "torch": (1.5, 0.9, 0.4, 1.0, 0.6, 0.6, 0.8),
    "torch-compiled": (1.0,) * 7,
    "jax": (1.0,) * 7,
}


def goal(case: str, shape: Shape, dtype: str) -> float | None:
    """Give the goal of a cell, where there is one."""
    if case not in GOALS or shape not in SHAPES or dtype != "float32":
        return None
    return GOALS[case][SHAPES.index(shape)]


@dataclass(frozen=True)
class Problem:
    """Host arrays for one measurement.

    Attributes
    ----------
    shape : Shape
        Of the logits.
    dtype : str
        Of the floating arrays, once they are on their library.
    floats : tuple of array
        Logits, or features (N, D) and classifier (K, D); what is differentiated by.
    labels : array
        Of the logits' shape without the class axis.
    """

    shape: Shape
    dtype: str
    floats: tuple[Array, ...] = field(repr=False)
    labels: Array = field(repr=False)

    @property
    def linear(self) -> bool:
        return len(self.floats) == 2


def _labels(draw: np.random.Generator, shape: Shape) -> Array:
    rows = list(shape.sizes)
    del rows[shape.axis]
    return draw.integers(0, shape.classes, rows)


def problem(shape: Shape, dtype: str) -> Problem:
    """Draw normal logits, always the same for a shape."""
    draw = np.random.default_rng(shape.sizes)
    wide = np.float64 if dtype == "float64" else np.float32
    return Problem(shape, dtype, (draw.standard_normal(shape.sizes, wide),), _labels(draw, shape))


def linear_problem(shape: Shape, width: int, dtype: str) -> Problem:
    """Draw features and a classifier whose logits have that shape."""
    draw = np.random.default_rng((*shape.sizes, width))
    wide = np.float64 if dtype == "float64" else np.float32
    features = draw.standard_normal((shape.sizes[0], width), wide)
    classifier = draw.standard_normal((shape.classes, width), wide) / wide(math.sqrt(width))
    return Problem(shape, dtype, (features, classifier), _labels(draw, shape))
