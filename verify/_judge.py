"""Hold claims and backends to the truth: one walk over the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import ulp_error
from xp_xent.verify import _pairs as pairs
from xp_xent.verify import _truth as truth
from xp_xent.verify._case import Case
from xp_xent.verify._claims import Claim, ratios
from xp_xent.verify._own import Walked
from xp_xent.verify._pairs import Pair, pair
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._predict import Numbers, Predictor

Floats = NDArray[np.float64]
DECIDING = 16  # rows of a claim that ball arithmetic looks at again
LOOKED_AT = 1 << 24  # logits whose gradient is looked at, where nobody claims it
BINS = 400  # rows and columns of a picture


@dataclass(eq=False)
class Standing:
    """How one claim stands to the truth.

    Attributes
    ----------
    ulp : float
        The largest error, in ULP of the claim's dtype.
    where : tuple of int or None
    ratio : float
        The largest error, in what is allowed; up to 1 the claim agrees.
    off : ndarray, shape (N,)
        Each row's largest error, in what is allowed; of rows and gradients.
    picture : ndarray or None
        The largest error in ULP of each bin of rows and classes.
    """

    claim: Claim
    ulp: float = 0.0
    where: tuple[int, ...] | None = None
    ratio: float = 0.0
    off: Floats | None = None
    picture: Floats | None = None
    classes: int = 0
    worst: tuple[float, float] = field(default=(0.0, 0.0))

    @property
    def agrees(self) -> bool:
        """Whether its error is one that a careful computation may have."""
        return self.ratio <= 1.0


class Judge:
    """The truth of one case and pipeline, and what is held to it.

    Parameters
    ----------
    case, pipeline
    predictor : Predictor
        Whose bounds say what a computation may have.
    plain : bool
        Whether float64 is enough for the truth of most rows: of large arrays in float32.
    """

    def __init__(self, case: Case, pipeline: Pipeline, predictor: Predictor, precise: bool) -> None:
        self.case, self.pipeline, self.predictor = case, pipeline, predictor
        self.targets = predictor.targets
        self.balls = _has_balls()
        small = case.size <= truth.LARGEST and self.balls
        large = not precise and case.size > 1 << 24
        self.method = truth.BALLS if small else truth.DOUBLES if large else truth.PAIRS
        weights = self.targets.weights_of_rows(pipeline)
        self.factors: Any = weights
        if pipeline.reduction == "mean":
            divisor = self._divisor(weights)
            with np.errstate(all="ignore"):
                self.factors = pairs.divide(pair(weights), divisor)
        else:
            self.factors = pair(weights)
        self.losses = pair(np.zeros(case.count))

    @property
    def said(self) -> str:
        """Name the method."""
        if self.method == truth.BALLS or not self.balls:
            return self.method
        return f"{self.method}, {truth.BALLS} for the rows that decide"

    def _divisor(self, weights: Floats) -> Pair:
        kind = self.pipeline.denominator
        if isinstance(kind, float):
            return pair(np.asarray(kind))
        shares = weights if self.case.shared else self.targets.counted(self.pipeline).astype(float)
        if kind == "weights":
            shares = shares * self.targets.class_weight(self.pipeline, 1)
        return pairs.sum_of(shares)

    def rows(
        self, index: Any, method: str | None = None, *, slopes: bool = True
    ) -> tuple[Pair, Floats]:
        """Give the losses of some rows with their weights, and the gradient, rounded."""
        weights = pair(self.targets.weights_of_rows(self.pipeline)[index])
        if (method or self.method) == truth.DOUBLES:
            loss = pair(self.predictor.own(self.pipeline, index, remember=False).value)
            gradient = np.zeros((len(loss.high), self.case.classes))
            if slopes:
                gradient = self.predictor.gradient(self.pipeline, index, remember=False).value
        else:
            own = truth.own_rows(
                self.case, self.pipeline, self.targets, index, method or self.method
            )
            loss = own.loss
            factor = self.factors.at(index).to(own.gradient.high.shape)
            with np.errstate(all="ignore"):
                gradient = pairs.multiply(own.gradient, factor).rounded
                # Numbers that cannot be split are multiplied as they are.
                plain = own.gradient.high * factor.high
            gradient = np.where(np.isfinite(gradient), gradient, plain)
            gradient = np.where(factor.high == 0, 0.0, gradient)
        with np.errstate(all="ignore"):
            weighted = pairs.choose(np.isfinite(loss.high), pairs.multiply(loss, weights), loss)
        none = pair(np.zeros(len(loss.high)))
        return pairs.choose(weights.high == 0, none, weighted), self.case.gradient(gradient)

    def walk(self, others: list[Standing], advance: Callable[[int], None]) -> None:
        """Go over all rows once, and hold the gradients among the claims to them.

        Of large arrays whose gradient nobody claims, that of the library is looked at here and
        there.
        """
        gradients = [one for one in others if one.claim.form == "gradient"]
        walked = [one.claim for one in gradients if isinstance(one.claim, Walked)]
        every = 1
        if len(walked) == len(gradients):
            every = max(1, self.case.size // LOOKED_AT)
        for one in gradients:
            K = self.case.gradient(np.zeros((1, self.case.classes))).shape[-1]
            one.off, one.classes = np.zeros(self.case.count), K
            one.picture = np.zeros((min(BINS, self.case.count), min(BINS, K)))
        for i, block in enumerate(self.case.blocks()):
            looked_at = bool(gradients) and i % every == 0
            losses, gradient = self.rows(block, slopes=looked_at)
            self.losses.high[block], self.losses.low[block] = losses
            if looked_at:
                bound = self.predictor.gradient(self.pipeline, block, remember=False).bound
                for one in gradients:
                    self._gradient(one, block, Numbers(gradient, self.case.gradient(bound)))
            else:
                for claim in walked:
                    claim.pass_by(block)
            advance((block.stop - block.start) * self.case.classes)
        self._decide(others)
        for one in others:
            self.stand(one)

    def stand(self, one: Standing) -> None:
        """Hold a loss to the truth, after the walk."""
        if one.claim.form == "rows":
            self._rows(one)
        elif one.claim.form == "number":
            self._number(one)

    def _gradient(self, one: Standing, block: slice, found: Numbers) -> None:
        claimed, expected = one.claim.read(self.case, block), found.value
        off = ratios(one.claim, found, claimed, 1.0)
        errors = ulp_error(claimed, expected, one.claim.dtype)
        assert one.off is not None
        assert one.picture is not None
        one.off[block] = np.max(off, axis=-1)
        row, column = np.unravel_index(int(np.argmax(off)), off.shape)
        if off[row, column] > one.ratio or one.where is None:
            one.where = (*self._position(block.start + int(row)), int(column))
            one.worst = (float(claimed[row, column]), float(expected[row, column]))
        one.ratio = max(one.ratio, float(off[row, column]))
        one.ulp = max(one.ulp, float(np.max(errors)))
        height, width = one.picture.shape
        columns = -(-np.arange(width) * errors.shape[-1] // width)  # the first of each bin
        cells = np.maximum.reduceat(errors, columns, axis=-1)
        rows = np.arange(block.start, block.stop) * height // self.case.count
        np.maximum.at(one.picture, rows, cells)

    def _rows(self, one: Standing) -> None:
        claimed, expected = one.claim.read(self.case, None), self.losses.rounded
        found = Numbers(expected, self.predictor.rows(self.pipeline).bound)
        off = ratios(one.claim, found, claimed, 1.0)
        errors = ulp_error(claimed, expected, one.claim.dtype)
        if one.claim.known is not None:
            off, errors = (np.where(one.claim.known, x, 0.0) for x in (off, errors))
        worst = int(np.argmax(off))
        one.off, one.ratio, one.ulp = off, float(off[worst]), float(np.max(errors))
        one.where = self._position(worst)
        one.worst = (float(claimed[worst]), float(expected[worst]))

    def _number(self, one: Standing) -> None:
        expected, claimed = self.number(), np.asarray(one.claim.value, dtype=np.float64)
        bound = self.predictor.number(self.pipeline).bound
        one.ratio = float(ratios(one.claim, Numbers(expected, bound), claimed, 1.0))
        one.ulp = float(ulp_error(claimed, expected, one.claim.dtype))
        one.worst = (float(claimed), float(expected))

    def _decide(self, others: list[Standing]) -> None:
        """Compute the rows on which claims depend again, in ball arithmetic."""
        if self.method == truth.BALLS or not self.balls:
            return
        off = np.zeros(self.case.count)
        for one in others:
            if one.claim.form == "rows":
                claimed = one.claim.read(self.case, None)
                off = np.fmax(off, np.abs(claimed - self.losses.rounded))
            elif one.off is not None:
                off = np.fmax(off, np.minimum(one.off, 1e300))
        if not off.any():
            off = np.abs(self.losses.high)
        most = min(DECIDING, max(1, 100_000 // self.case.classes), self.case.count)
        deciding = np.sort(np.argpartition(-off, most - 1)[:most])
        losses, _ = self.rows(deciding, truth.BALLS)
        self.losses.high[deciding], self.losses.low[deciding] = losses

    def number(self) -> Floats:
        """Give the true loss, reduced."""
        counted = self.factors.high != 0
        if self.pipeline.reduction == "mean" and not counted.any():
            return np.asarray(0.0 if isinstance(self.pipeline.denominator, float) else np.nan)
        kept = self.losses.at(counted)
        if not np.all(np.isfinite(kept.high)):
            return np.asarray(np.sum(kept.high))
        total = pairs.add(pairs.sum_of(kept.high), pairs.sum_of(kept.low))
        if self.pipeline.reduction == "mean":
            total = pairs.divide(total, self._divisor(self.targets.weights_of_rows(self.pipeline)))
        return total.rounded

    def _position(self, row: int) -> tuple[int, ...]:
        return tuple(map(int, np.unravel_index(row, self.case.positions)))


def _has_balls() -> bool:
    try:
        import flint  # noqa: F401
    except ImportError:
        return False
    return True
