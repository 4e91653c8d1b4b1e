"""What a walk over logits and targets saw: the numbers that `diagnose` judges by."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent._walk import BLOCK, blocks
from xp_xent.backends import Backend, dtype_name

Array = Any

NEAR = 1e-2  # how far a sum of probabilities may be from 1
SURE = 2.0**-23  # of float32: 1 − p below it is lost where 1 is subtracted from p
HALF = 65504.0  # the largest float16


class Seen:
    """Numbers of logits, and of the labels beside them, gathered block by block.

    Parameters
    ----------
    classes : int
    dtype : str
        Of the logits.
    """

    def __init__(self, classes: int, dtype: str) -> None:
        self.classes, self.dtype = classes, dtype
        self.rows = self.broken = self.dead = self.too_large = 0
        self.low, self.high, self.spread = math.inf, -math.inf, 0.0
        self.sums_to_1 = self.exponentials_sum_to_1 = True
        self.sure = self.surely_wrong = self.masked = 0
        self.counts = np.zeros(classes, dtype=np.int64)
        self.losses = np.zeros(classes)
        self.loss_of_wrong = 0.0

    def __bool__(self) -> bool:
        return self.rows > 0

    @property
    def largest(self) -> float:
        """The largest magnitude of a finite logit."""
        return max(abs(self.low), abs(self.high))

    @property
    def finite(self) -> bool:
        """Whether there is a finite logit."""
        return self.low <= self.high

    def add(self, z: np.ndarray) -> np.ndarray:
        """Look at rows of logits (n, K), in float64; give each row's log-sum-exp."""
        top = z.max(axis=-1)
        dead = top == -np.inf
        finite = np.isfinite(z)
        self.rows += len(z)
        self.broken += int((np.isnan(z) | (z == np.inf)).sum())
        self.dead += int(dead.sum())
        self.low = min(self.low, z.min(initial=math.inf, where=finite))
        self.high = max(self.high, z.max(initial=-math.inf, where=finite))
        self.too_large += int((np.abs(z) > HALF).sum(where=finite))
        self.spread = max(self.spread, _nan_is_large((top - z.min(axis=-1)).max()))
        self.sums_to_1 &= bool(np.allclose(z.sum(axis=-1), 1, atol=NEAR))
        whole = np.exp(z - top[:, None]).sum(axis=-1)
        self.exponentials_sum_to_1 &= bool(np.allclose(np.exp(top) * whole, 1, atol=NEAR))
        self.sure += int((whole - 1 < SURE).sum())
        return top + np.log(whole)

    def add_labels(self, z: np.ndarray, lse: np.ndarray, y: np.ndarray, kept: np.ndarray) -> None:
        """Look at the labels (n,) of rows, those that are kept and name a class."""
        kept = kept & (y >= 0) & (y < self.classes)
        rows = np.flatnonzero(kept)
        y = y[rows].astype(np.int64)
        at_label = z[rows, y]
        self.masked += int(((at_label == -np.inf) & (lse[rows] > -np.inf)).sum())
        loss = lse[rows] - at_label
        finite = np.isfinite(loss)
        np.add.at(self.counts, y, 1)
        np.add.at(self.losses, y[finite], loss[finite])
        wrong = finite & (loss > -math.log(SURE))
        self.surely_wrong += int(wrong.sum())
        self.loss_of_wrong += float(loss[wrong].sum())


def _nan_is_large(x: float) -> float:
    return math.inf if math.isnan(x) else float(x)


def walk(
    backend: Backend,
    logits: Array,
    axis: int,
    labels: np.ndarray | None,
    ignore_index: int | None,
    advance: Callable[[int], None],
) -> Seen:
    """Look at all logits in blocks of rows, and at labels that fit them."""
    z = backend.xp.moveaxis(logits, axis, -1)
    shape = tuple(z.shape)
    seen = Seen(shape[-1], dtype_name(logits.dtype))
    size = max(1, BLOCK // shape[-1])
    for index in blocks(shape[:-1], size) if math.prod(shape) else ():
        part = z if math.prod(shape[:-1]) <= size else z[(*index, ...)]
        rows = np.asarray(backend.to_numpy(part), dtype=np.float64).reshape(-1, shape[-1])
        lse = seen.add(rows)
        if labels is not None:
            y = labels[index].reshape(-1)
            seen.add_labels(rows, lse, y, y != ignore_index)
        advance(len(rows))
    return seen
