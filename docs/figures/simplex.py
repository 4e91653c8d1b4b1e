"""Where a step against the gradient moves a distribution over three classes."""

from typing import Any

import numpy as np

from xp_xent import cross_entropy, softmax, value_and_grad

CORNERS = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def draw(axes: Any) -> None:
    """Draw an arrow at each point of a grid; the first class is true."""
    grid = range(1, 12)
    p = np.asarray([(i, j, 13 - i - j) for i in grid for j in grid if i + j < 13]) / 13
    logits = np.log(p)
    label = np.zeros(len(p), dtype=int)
    _, slope = value_and_grad(cross_entropy)(logits, label, reduction="sum")
    start, step = p @ CORNERS, (softmax(logits - 0.1 * slope) - p) @ CORNERS
    axes.fill(*CORNERS.T, fill=False, edgecolor="0.6")
    axes.quiver(*start.T, *step.T, np.hypot(*step.T), angles="xy", cmap="viridis")
    for (x, y), name in zip(CORNERS, ("true class", "class 1", "class 2"), strict=True):
        axes.text(x, y + (0.03 if y else -0.05), name, ha="center")
    axes.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.1, 1.0))
    axes.axis("off")
