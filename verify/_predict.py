"""The numbers that a pipeline gives: its loss, its rows' losses, its gradient, and their errors.

They are computed in float64 by the textbook's formulas: to tell pipelines apart that takes no more.
The truth that a claim is judged by is `_truth.py`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import FORMATS
from xp_xent.conformance.tolerance import (
    shifted_gradient_bound,
    shifted_loss_bound,
    sum_tolerance,
)
from xp_xent.verify._case import BLOCK, Case, Index
from xp_xent.verify._costs import Costs, clipped, costs
from xp_xent.verify._pipeline import Key, Pipeline
from xp_xent.verify._steps import round_to, spacing
from xp_xent.verify._targets import Targets

Floats = NDArray[np.float64]
KEPT = 1 << 20, 1 << 23  # numbers of columns that are kept, at least and at most


class Numbers(NamedTuple):
    """A prediction, the error that a computation in float64 may have, and what rounding adds."""

    value: Floats
    bound: Floats
    step: Floats | float = 0.0

    def at(self, index: Any) -> Numbers:
        """Give some rows of it."""
        step = self.step if isinstance(self.step, float) else self.step[index]
        return Numbers(self.value[index], self.bound[index], step)


@dataclass(frozen=True, eq=False)
class Columns:
    """What the losses of rows need of their costs, whatever the targets are."""

    picked: dict[object, Floats]  # by (offset, shift) of labels, or by the weights' power
    every: tuple[Floats, ...]  # Σ_c w_c^power cost_c, by power
    base: tuple[Floats, ...]
    lse: Floats
    count: Floats  # of the classes that take part
    reach: float

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return len(self.lse) * (len(self.picked) + len(self.every) + 3)


class Predictor:
    """The numbers of any pipeline on one case, with the errors of a computation in float64.

    Parameters
    ----------
    case : Case
    variants : list of (int, int)
        The offsets and shifts of labels that will be asked for.
    """

    dtype = "float64"

    def __init__(self, case: Case, variants: list[tuple[int, int]]) -> None:
        self.case, self.variants = case, variants
        self.targets = Targets(case)
        self.powers = range(3 if case.weight is not None else 1)
        # The rows that an entry is of stay with it, so that no other array has their id.
        self._columns: OrderedDict[tuple[Key, int], tuple[Index | None, Columns]] = OrderedDict()
        self._held = 0  # numbers in them
        self._samples: OrderedDict[tuple[Key, int], tuple[Index, Costs]] = OrderedDict()

    # Columns: a pass over the logits for each key

    def _read(self, key: Key, index: Index) -> Columns:
        found = costs(self.case, key, index)
        weights = [self.targets.weight**power for power in self.powers]

        def totals(matrix: Any) -> tuple[Floats, ...]:
            if matrix is None:
                return ()
            matrix = np.where(True if found.part is None else found.part, matrix, 0.0)
            with np.errstate(invalid="ignore"):
                return tuple(
                    matrix.sum(-1) if power == 0 else np.where(w == 0, 0.0, matrix * w).sum(-1)
                    for power, w in enumerate(weights)
                )

        picked: dict[object, Floats] = {}
        if self.case.labels is not None:
            for variant in self.variants:
                labels = self.targets.labels(*variant)[index][:, None]
                picked[variant] = np.take_along_axis(found.cost, labels, -1)[:, 0]
        else:
            q = self.case.masses(index)
            with np.errstate(invalid="ignore"):
                for power, w in enumerate(weights):
                    picked[power] = np.where(q * w == 0, 0.0, q * w * found.cost).sum(-1)
        part = np.ones((1, self.case.classes), bool) if found.part is None else found.part
        count = np.broadcast_to(np.sum(part, axis=-1, dtype=np.float64), found.lse.shape)
        every, base = totals(found.cost), totals(found.base)
        return Columns(picked, every, base, found.lse, count, found.reach)

    def columns(self, key: Key, index: Index | None = None, remember: bool = True) -> Columns:
        """Give the columns of some rows, or of all."""
        if not remember and index is not None:
            return self._read(key, index)
        name = (key, id(index))
        if name not in self._columns:
            if key.layout[0] == "softmax":
                found = self._read(key, slice(0, self.case.count) if index is None else index)
            elif isinstance(index, np.ndarray):
                step = max(1, BLOCK // self.case.classes)
                parts = [index[i : i + step] for i in range(0, max(len(index), 1), step)]
                found = _joined([self._read(key, part) for part in parts])
            else:
                found = _joined([self._read(key, block) for block in self.case.blocks()])
            kept = min(max(self.case.size // 64, KEPT[0]), KEPT[1])
            self._held += found.size
            while self._columns and self._held > kept:
                self._held -= self._columns.popitem(last=False)[1][1].size
            self._columns[name] = index, found
        self._columns.move_to_end(name)
        return self._columns[name][1]

    # Numbers

    def own(self, pipeline: Pipeline, index: Index | None = None, remember: bool = True) -> Numbers:
        """Give each row's own loss, before any weight of the row."""
        key, K, clip = pipeline.key, self.case.classes, None
        if key.clip[0] != "none" and self.case.labels is not None and not pipeline.label_smoothing:
            # Only the labels' costs count, which can be clipped after they are picked.
            key, clip = key._replace(clip=("none", 0.0)), key.clip
        found = self.columns(key, index, remember)
        power = min(pipeline.weight_power, len(self.powers) - 1)
        epsilon = pipeline.label_smoothing
        rows = slice(None) if index is None else index
        with np.errstate(all="ignore"):
            if self.case.labels is not None:
                value = found.picked[pipeline.offset, pipeline.shift]
                value = value if clip is None else clipped(value, clip)[0]
                mass: Floats | float = 1.0
                if power:
                    mass = self.targets.class_weight(pipeline, power)[rows]
                    value = np.where(mass == 0, 0.0, mass * value)
                total: Floats | float = 1.0
            else:
                value = found.picked[power]
                mass = total = 1.0
            if power:
                mean = float(np.mean(self.targets.weight**power))
                mass = (1.0 - epsilon) * mass + epsilon * mean
            if epsilon and pipeline.smoothing == "uniform":
                given = epsilon / np.maximum(found.count, 1.0) * total
                value = (1.0 - epsilon) * value + given * found.every[power]
            elif epsilon:
                given = epsilon / np.maximum(found.count - 1.0, 1.0)
                others = found.every[power] - np.where(np.isfinite(value), value, 0.0)
                value = (1.0 - epsilon) * value + given * others
            bound = shifted_loss_bound(self.dtype, K, mass, value)
            if found.base:
                value = value + found.base[power]
                bound = bound + shifted_loss_bound(self.dtype, K, mass, found.base[power])
            if pipeline.z_loss:
                penalty = pipeline.z_loss * found.lse**2
                value = value + penalty
                bound = bound + 2.0 * shifted_loss_bound(self.dtype, K, pipeline.z_loss, penalty)
            if pipeline.steps:
                bound = bound + 4.0 * FORMATS[self.dtype].eps * mass * found.reach
        return Numbers(value * pipeline.scale, bound * abs(pipeline.scale))

    def rows(
        self, pipeline: Pipeline, index: Index | None = None, remember: bool = True
    ) -> Numbers:
        """Give each row's loss, 0 where it does not count."""
        value, bound, _ = self.own(pipeline, index, remember)
        weight = self.targets.weights_of_rows(pipeline)[slice(None) if index is None else index]
        with np.errstate(invalid="ignore"):
            value = np.where(weight == 0, 0.0, weight * value)
            bound = np.where(weight == 0, 0.0, np.abs(weight) * bound)
        return _rounded(Numbers(value, bound), pipeline.loss)

    def number(self, pipeline: Pipeline) -> Numbers:
        """Give the reduced loss."""
        value, bound, _ = self.own(pipeline)
        factors = self.targets.factors_of(pipeline)
        counts = factors != 0
        with np.errstate(invalid="ignore"):
            total = np.sum(factors[counts] * value[counts])
        if not counts.any():
            total = np.asarray(np.nan if pipeline.reduction == "mean" else 0.0)
        error = np.sum(np.abs(factors[counts]) * bound[counts])
        error = error + sum_tolerance(self.dtype, self.case.count) * np.abs(total)
        return _rounded(Numbers(np.asarray(total), np.asarray(error)), pipeline.loss)

    def masses(
        self, pipeline: Pipeline, index: Index, part: NDArray[np.bool_] | None = None
    ) -> Floats:
        """Give what multiplies the cost of each class of some rows."""
        K, epsilon = self.case.classes, pipeline.label_smoothing
        if self.case.labels is None:
            q = self.case.masses(index)
        else:
            labels = self.targets.labels(pipeline.offset, pipeline.shift)[index]
            q = (labels[:, None] == np.arange(K)).astype(np.float64)
        if epsilon:
            count = K if part is None else part.sum(-1, keepdims=True)
            given = np.asarray(epsilon / np.maximum(count, 1))
            if pipeline.smoothing == "others":
                given = epsilon * (q.sum(-1, keepdims=True) - q) / np.maximum(count - 1, 1)
            q = (1.0 - epsilon) * q + (given if part is None else np.where(part, given, 0.0))
        return q * self.targets.weight**pipeline.weight_power

    def _normalized(self, pipeline: Pipeline, masses: Floats) -> Floats:
        """Add the masses over which a softmax goes."""
        how, axis = pipeline.layout
        if how != "softmax":
            return np.asarray(np.sum(masses, -1, keepdims=True))
        whole = masses.reshape(*self.case.positions, self.case.classes)
        total = np.sum(whole, axis=axis, keepdims=True)
        return np.broadcast_to(total, whole.shape).reshape(masses.shape)

    def gradient(self, pipeline: Pipeline, index: Index, remember: bool = True) -> Numbers:
        """Give rows of the gradient by the logits."""
        name = (pipeline.key, id(index))
        if remember and name in self._samples:
            found = self._samples[name][1]
        else:
            found = costs(self.case, pipeline.key, index)
            if remember:
                self._samples[name] = index, found
            while len(self._samples) > 64:
                self._samples.popitem(last=False)
        factors = self.targets.factors_of(pipeline)[index]
        with np.errstate(all="ignore"):
            weight = np.where(factors != 0, factors, 0.0)[:, None]
            # A softmax over another axis mixes rows, so what multiplies them comes first.
            masses = weight * self.masses(pipeline, index, found.part)
            by_lse = 2.0 * pipeline.z_loss * found.lse * weight[:, 0]
            by_lse = np.where(weight[:, 0] == 0, 0.0, by_lse)
            classes = weight * self.targets.weight**pipeline.weight_power
            value = found.pull(masses, classes, by_lse)
            value = value if found.part is None else np.where(found.part, value, 0.0)
            total = self._normalized(pipeline, np.abs(masses))
            p = np.exp(-np.where(found.base is None, np.maximum(found.cost, 0.0), 0.0))
            bound = shifted_gradient_bound(self.dtype, self.case.classes, total, np.abs(masses), p)
            bound = bound + 16.0 * FORMATS[self.dtype].eps * np.abs(by_lse)[:, None] * p
            if pipeline.steps:
                bound = bound + 4.0 * FORMATS[self.dtype].eps * found.reach * (
                    total * p + np.abs(value)
                )
            bound = bound + sum_tolerance(self.dtype, self.case.count) * np.abs(value)
        if pipeline.layout[0] != "softmax":
            value, bound = (np.where(weight == 0, 0.0, x) for x in (value, bound))
        slopes = _rounded(_times(Numbers(value, bound), pipeline.scale), pipeline.unscaled)
        slopes = _times(slopes, pipeline.factor)
        tiny = np.where(bound > 0, FORMATS[self.dtype].smallest_normal, 0.0)
        return _rounded(slopes._replace(bound=slopes.bound + tiny), pipeline.gradient)


def _times(found: Numbers, factor: float) -> Numbers:
    by = abs(factor)
    return Numbers(found.value * factor, found.bound * by, found.step * by)


def _rounded(found: Numbers, dtype: str | None) -> Numbers:
    if dtype is None:
        return found
    value = round_to(found.value, dtype)
    return Numbers(value, found.bound, spacing(value, dtype))


def _joined(parts: list[Columns]) -> Columns:
    """Put the columns of blocks one after the other."""
    first = parts[0]
    return Columns(
        {name: np.concatenate([part.picked[name] for part in parts]) for name in first.picked},
        tuple(np.concatenate(c) for c in zip(*(part.every for part in parts), strict=True)),
        tuple(np.concatenate(c) for c in zip(*(part.base for part in parts), strict=True)),
        np.concatenate([part.lse for part in parts]),
        np.concatenate([part.count for part in parts]),
        max(part.reach for part in parts),
    )
