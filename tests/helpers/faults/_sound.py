"""Sound losses in NumPy, by log-odds in extended precision, whose steps can be spoiled one by one.

Every pair of classes is looked at: a class against all others has the log-odds t, and with them
−log p = softplus(−t), p = σ(t), 1 − p = σ(−t). No line is shared with the library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
WIDE = np.longdouble


@dataclass
class Call:
    """The options of a call, and what its steps have found out."""

    axis: int = -1
    weight: Array = None
    pos_weight: Array = None
    sample_weight: Array = None
    where: Array = None
    class_where: Array = None
    ignore_index: int | None = -100
    label_smoothing: float = 0.0
    smoothing: str = "uniform"
    z_loss: float = 0.0
    softcap: float | None = None
    temperature: float = 1.0
    reduction: str = "mean"
    normalizer: float | None = None
    cotangent: Array = None
    # Found out
    own: Any = None  # the logits' dtype
    compute: Any = None  # that of the loss
    soft: bool = False
    targets: Array = None  # (N,) labels or (N, K) probabilities
    logits: Array = None  # (N, K), capped
    part: Array = None  # (N, K), the classes that take part


@dataclass
class Odds:
    """What is known of each class of each row."""

    surprise: Array  # −log p, (N, K)
    p: Array
    miss: Array  # 1 − p
    lse: Array  # (N, 1)


def softplus(x: Array) -> Array:
    return np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def wide(x: Array) -> Array:
    x = np.asarray(x)
    # bfloat16 knows no extended precision.
    return x if x.dtype == WIDE else x.astype(np.float64).astype(WIDE)


class Loss:
    """What both losses share: reduction, the gradient's factors, dtypes."""

    function = "cross_entropy"

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Array, Array]:
        call = Call(**options)
        call.own = logits.dtype
        call.compute = logits.dtype if logits.dtype.itemsize >= 8 else np.float32
        if call.normalizer is not None and call.reduction != "mean":
            raise ValueError("normalizer goes with the mean")
        if not 0.0 <= call.label_smoothing <= 1.0:
            raise ValueError("label_smoothing is out of range")
        with np.errstate(all="ignore"):
            return self.solve(logits, targets, call)

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        raise NotImplementedError

    def total(self, shares: Array, call: Call) -> Array:
        if call.reduction != "mean":
            return WIDE(1)
        return np.sum(shares) if call.normalizer is None else WIDE(call.normalizer)

    def reduce(self, losses: Array, total: Array, call: Call) -> Array:
        return losses if call.reduction == "none" else np.sum(losses) / total

    def divide(self, gradient: Array, counted: Array, total: Array, call: Call) -> Array:
        return np.where(counted, gradient / total, 0)

    def pull_back(self, gradient: Array, cotangent: Array, call: Call) -> Array:
        return gradient if cotangent is None else gradient * cotangent

    def value_dtype(self, call: Call) -> Any:
        return call.compute

    def gradient_dtype(self, call: Call) -> Any:
        return call.own

    def finish(
        self, value: Array, gradient: Array, call: Call, shapes: tuple[Any, Any]
    ) -> tuple[Array, Array]:
        shape = shapes[0] if call.reduction == "none" else ()
        # float64 in between, for numbers that bfloat16 can take.
        through = WIDE if call.own == WIDE else np.float64
        value = np.asarray(value, dtype=through).reshape(shape).astype(self.value_dtype(call))
        gradient = np.asarray(gradient, dtype=through).astype(self.gradient_dtype(call))
        return value, gradient.reshape(shapes[1])


class CrossEntropy(Loss):
    """Soft-max cross-entropy."""

    def axis_of(self, call: Call) -> int:
        return call.axis

    def prepare(self, logits: Array) -> Array:
        return logits

    def counts(self, targets: Array, call: Call) -> Array:
        counted = np.ones(targets.shape[0], dtype=bool)
        if call.where is not None:
            counted &= call.where.reshape(-1)
        if not call.soft and call.ignore_index is not None:
            counted &= targets != call.ignore_index
        return counted

    def labels(self, labels: Array, counted: Array, classes: int) -> Array:
        if np.any(counted & ((labels < 0) | (labels >= classes))):
            raise ValueError("a label is out of range")
        return np.where(counted, labels, 0).astype(np.int64)

    def spread(self, q: Array, call: Call) -> Array:
        epsilon, part = WIDE(call.label_smoothing), call.part
        classes = np.sum(part, axis=-1, keepdims=True)
        if not call.label_smoothing:
            return q
        if call.smoothing == "uniform":
            return (1 - epsilon) * q + part * (epsilon / classes)
        return (1 - epsilon) * q + part * (epsilon * self.without_own(part * q) / (classes - 1))

    @staticmethod
    def without_own(q: Array) -> Array:
        return q @ (1 - np.eye(q.shape[-1], dtype=WIDE))

    def probabilities(self, targets: Array, classes: int, call: Call) -> Array:
        return wide(targets) if call.soft else np.eye(classes, dtype=WIDE)[targets]

    def masses(self, q: Array, call: Call) -> Array:
        q = self.spread(q, call)
        return q if call.weight is None else q * wide(call.weight)

    def cap(self, z: Array, call: Call) -> tuple[Array, Array]:
        slope = np.ones_like(z)
        if call.softcap is not None:
            x = z / WIDE(call.softcap)
            z, slope = call.softcap * np.tanh(x), 1 / np.cosh(x) ** 2
        temperature = WIDE(call.temperature)
        return np.where(call.part, z, -np.inf) / temperature, call.part * slope / temperature

    def odds(self, z: Array, call: Call) -> Odds:
        own = np.eye(z.shape[-1], dtype=bool)
        others = np.where(own, -np.inf, z[:, None, :])
        top = np.max(others, axis=-1)
        shift = np.where(np.isfinite(top), top, 0)
        rest = np.sum(np.exp(others - shift[..., None]), axis=-1)
        t = (z - shift) - np.log(rest)
        lse = (z[:, :1] + softplus(-t)[:, :1]) if z.size else z[:, :1]
        first = np.isfinite(z[:, :1])
        best = np.max(z, axis=-1, keepdims=True, initial=-np.inf)
        sums = np.sum(np.exp(z - best), axis=-1, keepdims=True)
        return Odds(
            softplus(-t), sigmoid(t), sigmoid(-t), np.where(first, lse, best + np.log(sums))
        )

    def broken(self, z: Array, call: Call) -> Array:
        over = np.isnan(z) if call.softcap is not None else np.isnan(z) | (z == np.inf)
        part = np.ones_like(over) if call.part is None else call.part
        absent = ~part | ((z == -np.inf) & (call.softcap is None))
        return np.any(over & part, axis=-1) | np.all(absent, axis=-1)

    def row_loss(self, a: Array, odds: Odds, call: Call) -> Array:
        return np.sum(np.where(a != 0, a * odds.surprise, 0), axis=-1) + self.penalty(odds, call)

    def penalty(self, odds: Odds, call: Call) -> Array:
        return WIDE(call.z_loss) * odds.lse[:, 0] ** 2

    def penalty_pull(self, odds: Odds, call: Call) -> Array:
        return 2 * WIDE(call.z_loss) * odds.lse * odds.p if call.z_loss else 0

    def row_gradient(self, a: Array, odds: Odds, call: Call) -> Array:
        return self.without_own(a) * odds.p - a * odds.miss + self.penalty_pull(odds, call)

    def shares(self, once: Array, call: Call) -> Array:
        if call.weight is None or call.soft:
            return once
        return once * wide(call.weight)[call.targets]

    def once(self, rows: int, call: Call) -> Array:
        if call.sample_weight is None:
            return np.ones(rows, dtype=WIDE)
        return wide(call.sample_weight).reshape(-1)

    def mask(self, x: Array, counted: Array) -> Array:
        return np.where(counted, x, 0)

    def mask_gradient(self, gradient: Array, counted: Array) -> Array:
        return np.where(counted[:, None], gradient, 0)

    def fits(self, z: Array, targets: Array, call: Call) -> None:
        rows = z.shape[:-1]
        wanted = {"weight": z.shape[-1:], "where": rows, "sample_weight": rows}
        arrays = {name: getattr(call, name) for name in wanted}
        wrong = [n for n, x in arrays.items() if x is not None and x.shape != wanted[n]]
        if wrong or targets.shape != (z.shape if call.soft else rows):
            raise ValueError("shapes do not fit")

    def solve(self, logits: Array, targets: Array, call: Call) -> tuple[Array, Array]:
        axis = self.axis_of(call)
        moved = np.moveaxis(self.prepare(logits), axis, -1)
        call.soft = targets.dtype.kind not in "iu"
        targets = np.moveaxis(targets, axis, -1) if call.soft else targets
        self.fits(moved, targets, call)
        z, rows = wide(moved).reshape(-1, moved.shape[-1]), moved.shape[:-1]
        targets = targets.reshape(z.shape if call.soft else -1)
        part = np.broadcast_to(True if call.class_where is None else call.class_where, logits.shape)
        call.part = np.moveaxis(part, axis, -1).reshape(z.shape)
        counted = self.counts(targets, call)
        call.targets = targets if call.soft else self.labels(targets, counted, z.shape[-1])
        a = self.masses(self.probabilities(call.targets, z.shape[-1], call), call)
        call.logits, slope = self.cap(z, call)
        odds, broken = self.odds(call.logits, call), self.broken(z, call)
        once = self.once(len(z), call)
        losses = np.where(broken, np.nan, self.row_loss(a, odds, call)) * once
        gradient = self.row_gradient(a, odds, call) * slope * once[:, None]
        gradient = np.where(call.part, gradient, 0)
        gradient = np.where(broken[:, None], np.nan, gradient)
        losses, gradient = self.mask(losses, counted), self.mask_gradient(gradient, counted)
        total = self.total(self.mask(self.shares(once, call), counted), call)
        gradient = self.divide(gradient, counted[:, None], total, call)
        cotangent = None if call.cotangent is None else wide(call.cotangent).reshape(-1, 1)
        gradient = self.pull_back(gradient, cotangent, call)
        gradient = np.moveaxis(gradient.reshape(moved.shape), -1, axis)
        return self.finish(self.reduce(losses, total, call), gradient, call, (rows, gradient.shape))
