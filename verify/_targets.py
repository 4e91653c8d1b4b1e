"""Whose cost a row is charged, which rows count, and by what each is multiplied."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify._case import Case
from xp_xent.verify._pipeline import Pipeline

Floats = NDArray[np.float64]
FEW = 1 << 14  # rows


class Targets:
    """The rows of a case as a pipeline counts them; nothing here reads a logit."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.weight = np.ones(case.classes) if case.weight is None else case.weight.astype(float)
        # A search asks for the same few, again and again; of many rows fewer are kept, so that
        # they are little beside the logits.
        entries = 32 if case.count <= FEW else max(4, min(32, case.classes // 64))
        self.labels = lru_cache(entries)(self._labels)
        self.kept = lru_cache(entries)(self._kept)
        self.factors = lru_cache(entries)(self._factors)
        self.weights = lru_cache(entries)(self._weights_of_rows)
        self.in_range = lru_cache(64)(self._in_range)

    def later(self, array: Any, shift: int, filler: Any) -> NDArray[Any]:
        """Give each position, flat, what stands `shift` positions later in its sequence."""
        array = np.asarray(array).reshape(self.case.positions)
        if shift:
            ends = np.full((*array.shape[:-1], min(shift, array.shape[-1])), filler, array.dtype)
            array = np.concatenate([array[..., shift:], ends], axis=-1)
        return array.reshape(-1)

    def _labels(self, offset: int, shift: int) -> NDArray[np.int64]:
        """Give the class that each row is charged; −1 means the last one, as in Python."""
        labels = self.later(self.case.flat_labels, shift, 0) + offset
        return np.asarray(labels % self.case.classes)

    def _kept(self, ignore_index: int | None, shift: int) -> NDArray[np.bool_]:
        case = self.case
        kept = self.later(np.ones(case.positions, bool), shift, False)
        if case.where is not None:
            kept &= self.later(case.where, shift, False)
        if case.labels is not None and ignore_index is not None:
            kept &= self.later(case.flat_labels, shift, 0) != ignore_index
        return kept

    def counted(self, pipeline: Pipeline) -> NDArray[np.bool_]:
        """Tell which rows count."""
        return self.kept(pipeline.ignore_index, pipeline.shift)

    def weights_of_rows(self, pipeline: Pipeline) -> Floats:
        """Give each row's sample weight, 0 where it does not count."""
        return self.weights(pipeline.ignore_index, pipeline.shift)

    def _weights_of_rows(self, ignore_index: int | None, shift: int) -> Floats:
        kept = self.kept(ignore_index, shift)
        if self.case.sample_weight is None:
            return kept.astype(np.float64)
        return np.where(kept, self.later(self.case.sample_weight, shift, 0.0), 0.0)

    def class_weight(self, pipeline: Pipeline, power: int) -> Floats:
        """Give the class weight of each row's label, to a power."""
        return np.asarray((self.weight**power)[self.labels(pipeline.offset, pipeline.shift)])

    def possible(self, pipeline: Pipeline) -> bool:
        """Tell if every label that counts is one of the classes, or counts from their end."""
        if self.case.labels is None:
            return True
        return self.in_range(pipeline.ignore_index, pipeline.offset, pipeline.shift)

    def _in_range(self, ignore_index: int | None, offset: int, shift: int) -> bool:
        labels = self.later(self.case.flat_labels, shift, 0) + offset
        labels, classes = labels[self.kept(ignore_index, shift)], self.case.classes
        return bool(np.all((labels >= -classes) & (labels < classes)))

    def factors_of(self, pipeline: Pipeline) -> Floats:
        """Give what multiplies each row in the reduced loss, and in the gradient."""
        return self.factors(
            Pipeline(
                offset=pipeline.offset,
                shift=pipeline.shift,
                ignore_index=pipeline.ignore_index,
                reduction=pipeline.reduction,
                denominator=pipeline.denominator,
            )
        )

    def _factors(self, pipeline: Pipeline) -> Floats:
        rows = self.weights_of_rows(pipeline)
        if pipeline.reduction != "mean":
            return rows
        with np.errstate(all="ignore"):
            return np.asarray(np.where(rows != 0, rows / self.divisor(pipeline, rows), 0.0))

    def divisor(self, pipeline: Pipeline, rows: Floats) -> Any:
        """Give what a mean divides by: a number, or one for each row."""
        match pipeline.denominator:
            case "weights" | "squares" as kind:
                power = 1 if kind == "weights" else 2
                return np.sum(self._shares(pipeline, rows) * self.class_weight(pipeline, power))
            case "count":
                return np.sum(self._shares(pipeline, rows))
            case "positions":
                return float(np.sum(self.later(np.ones(self.case.positions), pipeline.shift, 0.0)))
            case "sequences":
                first = self.case.positions[0]
                each = np.sum(self._shares(pipeline, rows).reshape(first, -1), axis=1)
                return np.repeat(first * each, self.case.count // first)
            case number:
                return float(number)

    def _shares(self, pipeline: Pipeline, rows: Floats) -> Floats:
        """Give the rows' shares in a denominator, before class weights."""
        return rows if self.case.shared else self.counted(pipeline).astype(np.float64)
