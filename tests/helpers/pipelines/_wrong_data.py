"""Data sets of six kinds in three sizes, for the pipelines that verification has to see through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = ("small", "medium", "large")
KINDS = ("images", "text", "tabular", "segmentation", "soft", "two")


@dataclass(frozen=True, eq=False)
class Data:
    """Logits, targets and what the loss is asked for.

    Attributes
    ----------
    kind : str
    logits, targets : ndarray
    options : dict
        Of `xp_xent.cross_entropy`; arrays among them.
    axis : int
        The class axis.
    """

    kind: str
    logits: NDArray[Any]
    targets: NDArray[Any]
    options: dict[str, Any] = field(default_factory=dict)
    axis: int = -1

    @property
    def classes(self) -> int:
        return int(self.logits.shape[self.axis])

    @property
    def labelled(self) -> bool:
        return self.targets.dtype.kind == "i"

    @property
    def weight(self) -> Any:
        return self.options.get("weight")

    @property
    def ignored(self) -> int | None:
        return self.options.get("ignore_index", -100) if self.labelled else None

    @property
    def counted(self) -> NDArray[np.bool_]:
        if not self.labelled:
            return np.ones(self.targets.shape[:-1], bool)
        return self.targets != self.ignored


def make(kind: str, size: str, dtype: str) -> Data:
    """Make a data set, always the same one."""
    rng = np.random.default_rng([KINDS.index(kind), SIZES.index(size)])
    scale = SIZES.index(size)
    n = (12, 96, 768)[scale]

    def logits(*shape: int) -> NDArray[Any]:
        # Of some rows the labels are hopeless, so that clipping shows.
        z = rng.standard_normal(shape) * np.where(rng.random((*shape[:-1], 1)) < 0.3, 8.0, 2.5)
        return z.astype(dtype)

    match kind:
        case "images":
            return Data(kind, logits(n, 10), rng.integers(0, 10, n))
        case "text":  # padded with the token 0
            B, T, V = 3 + scale, (5, 24, 96)[scale], (17, 29, 61)[scale]
            tokens = rng.integers(1, V, (B, T))
            lengths = rng.integers(T // 2, T, B)
            tokens[np.arange(T) >= lengths[:, None]] = 0
            return Data(kind, logits(B, T, V), tokens, {"ignore_index": 0})
        case "tabular":
            labels = rng.choice(5, n, p=[0.6, 0.2, 0.1, 0.06, 0.04])
            weight = np.asarray([0.4, 1.1, 1.7, 2.3, 3.1], dtype=dtype)
            return Data(kind, logits(n, 5), labels, {"weight": weight})
        case "segmentation":  # unlabelled pixels have 255
            B, H = 2, (3, 6, 16)[scale]
            pixels = rng.integers(0, 7, (B, H, H))
            pixels[rng.random(pixels.shape) < np.asarray([0.1, 0.3])[:, None, None]] = 255
            z = np.ascontiguousarray(np.moveaxis(logits(B, H, H, 7), -1, 1))
            return Data(kind, z, pixels, {"ignore_index": 255, "axis": 1}, 1)
        case "soft":
            q = rng.dirichlet(np.full(8, 0.5), n).astype(dtype)
            return Data(kind, logits(n, 8), q / q.sum(-1, keepdims=True))
        case _:
            return Data(kind, logits(n, 2), rng.integers(0, 2, n))
