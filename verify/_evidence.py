"""How well a pipeline fits what somebody else computed: on a sample of rows, and on all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import FORMATS
from xp_xent.verify._case import Index, take
from xp_xent.verify._claims import SLACK, Claim, ratios
from xp_xent.verify._costs import relaid
from xp_xent.verify._fit import within
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._predict import Numbers, Predictor
from xp_xent.verify._steps import NARROW, round_to, spacing

Floats = NDArray[np.float64]
SAMPLE = 1 << 16  # logits of the rows that a search looks at
FITTED = 1 << 9  # and that a fit does
MORE = 6  # times the rows of a sample, of those that it cannot tell from all


def _rounding(claim: Claim, p: Pipeline) -> tuple[str, float] | None:
    """Give the format that a claim's numbers are rounded to, and what multiplies them then."""
    dtype = p.gradient if claim.kind == "gradient" else p.loss
    if dtype is not None:
        return dtype, 1.0
    if claim.kind == "gradient" and p.unscaled is not None:
        return p.unscaled, p.factor
    return None


class Evidence:
    """Claims of one side, and how well pipelines explain them: on a sample of rows, and on all.

    Parameters
    ----------
    predictor : Predictor
    claims : sequence of Claim
    base : Pipeline
        What is asked for: the sample has the rows that differ most from it.
    """

    def __init__(self, predictor: Predictor, claims: tuple[Claim, ...], base: Pipeline) -> None:
        self.predictor, self.case = predictor, predictor.case
        # One number last: it needs all rows, and the others a sample.
        forms = ("rows", "gradient", "number")
        self.claims = sorted(claims, key=lambda claim: forms.index(claim.form))
        self.sample = self._sample(base)
        self.samples: list[tuple[NDArray[np.intp], Floats]] = []  # each larger than the last
        if self.case.size > SAMPLE and any(claim.form == "number" for claim in claims):
            order = np.random.default_rng(2).permutation(self.case.count)
            many = max(256, 4 * SAMPLE // self.case.classes)
            while many < self.case.count:
                some = np.sort(order[:many])
                self.samples.append((some, self._terms(base, some)))
                many *= MORE
            self.number = float(predictor.number(base).value)
        few = max(6, FITTED // self.case.classes)
        self.few = self.sample[:few] if self.sample.size > few else self.sample
        self._claimed = {id(c): c.read(self.case, self.sample) for c in self.claims}
        self._of_few = {id(c): c.read(self.case, self.few) for c in self.claims}
        # What rounds to a narrow format has numbers of that format alone.
        self._formats = {
            id(claim): {d for d in NARROW if np.array_equal(round_to(x, d), x, equal_nan=True)}
            for claim, x in zip(self.claims, self._claimed.values(), strict=True)
        }

    def _sample(self, base: Pipeline) -> NDArray[np.intp]:
        """Choose rows: those that differ most or do not count, and others from everywhere."""
        case, wanted = self.case, max(8, SAMPLE // self.case.classes)
        if case.count <= wanted:
            return np.arange(case.count)
        counted = self.predictor.targets.counted(base)
        everywhere = np.random.default_rng(0).permutation(case.count)
        chosen = [everywhere[: wanted // 2]]
        chosen += [np.flatnonzero(some)[: wanted // 8] for some in (~counted, counted)]
        if any(claim.form == "rows" for claim in self.claims):
            rows = next(claim for claim in self.claims if claim.form == "rows")
            off = np.abs(self.predictor.rows(base).value - rows.read(case, None))
            off = np.where(np.isfinite(off), off, 0.0)
            chosen.append(np.argsort(-off)[: wanted // 4])
        return np.random.default_rng(1).permutation(np.unique(np.concatenate(chosen)))

    @property
    def count(self) -> int:
        """How many numbers there are to explain, in the sample."""
        return sum(int(np.sum(x != 0)) for x in self._claimed.values())

    @property
    def alone(self) -> bool:
        """Whether there is a single number."""
        return all(claim.form == "number" for claim in self.claims)

    def bits(self, base: Pipeline) -> float:
        """Give how much a single number can tell apart."""
        (claim,) = self.claims
        allowed = float(claim.tolerance(self.predictor.number(base)))
        if not math.isfinite(allowed):  # beside an infinite loss
            return 0.0
        return math.log2(max(abs(float(claim.value)), 1e-300) / allowed)

    # A pipeline's numbers beside them

    def _found(self, claim: Claim, p: Pipeline, index: Index | None, remember: bool) -> Numbers:
        if claim.form == "number":
            return self.predictor.number(p)
        if p.layout[0] == "softmax":
            whole = slice(0, self.case.count)
            if claim.form == "gradient":
                found = self.predictor.gradient(p, whole, remember=False)
            else:
                found = self.predictor.rows(p)
            return found if index is None else found.at(index)
        if claim.form == "rows":
            return self.predictor.rows(p, index, remember)
        found = self.predictor.gradient(
            p, slice(0, self.case.count) if index is None else index, remember
        )
        step = found.step if isinstance(found.step, float) else self.case.gradient(found.step)
        return Numbers(self.case.gradient(found.value), self.case.gradient(found.bound), step)

    def _beside(self, claim: Claim, p: Pipeline, index: NDArray[np.intp]) -> Floats:
        """Give the claimed numbers of a sample, of a gradient in the pipeline's own layout."""
        if claim.form == "gradient" and p.layout[0] in ("axis", "reshape"):
            other, shape = relaid(self.case, p.layout, claim.value)
            return take(other, shape[:-1], index).astype(np.float64)
        return self._claimed[id(claim)] if index is self.sample else self._of_few[id(claim)]

    def _near(self, claim: Claim, p: Pipeline) -> bool:
        """Tell if one number may be a pipeline's, by how it differs from the base's on some rows.

        The estimate of the difference has a standard error; what is eight of it away is not it.
        What is nearer is looked at on more rows.
        """
        if p.layout[0] == "softmax":
            return True
        claimed = float(claim.value)
        coarse = claim.resolution + (2.0**-7 if p.loss is not None else 2.0**-16) * abs(claimed)
        for some, of_base in self.samples:
            off = self._terms(p, some) - of_base
            error = 8.0 * float(np.std(off)) / math.sqrt(len(off)) + coarse
            if abs(claimed - self.number - float(np.mean(off))) > error:
                return False
        return True

    def _terms(self, p: Pipeline, some: NDArray[np.intp]) -> Floats:
        """Give numbers of some rows whose mean estimates the reduced loss."""
        factors = self.predictor.targets.factors_of(p)[some]
        own = self.predictor.own(p, some).value
        with np.errstate(invalid="ignore"):
            return np.where(factors == 0, 0.0, factors * own) * self.case.count

    def _looks(self, claim: Claim) -> tuple[NDArray[np.intp], ...]:
        few = claim.form != "number" and self.few is not self.sample
        return (self.few, self.sample) if few else (self.sample,)

    def possible(self, p: Pipeline) -> bool:
        """Tell if labels are classes, and numbers of the formats that a pipeline rounds to."""
        return self.predictor.targets.possible(p) and all(
            self._of_format(claim, p) for claim in self.claims
        )

    def _of_format(self, claim: Claim, p: Pipeline) -> bool:
        if (rounding := _rounding(claim, p)) is None:
            return True
        dtype, factor = rounding
        if factor == 1:
            return dtype in self._formats[id(claim)]
        unscaled = self._claimed[id(claim)] / factor
        off = np.abs(round_to(unscaled, dtype) - unscaled)
        return bool(np.all(off <= 2.0 * FORMATS[claim.compute].eps * np.abs(unscaled)))

    def misfit(self, p: Pipeline) -> float:
        """Give the largest distance in a sample, in what is allowed; inf once it is above 1."""
        if not self.possible(p):
            return math.inf
        worst = 0.0
        for claim in self.claims:
            # A few rows tell most pipelines apart.
            if claim.form == "number" and not self._near(claim, p):
                return math.inf
            for index in self._looks(claim):
                ratio = ratios(claim, self._found(claim, p, index, True),
                               self._beside(claim, p, index))  # fmt: skip
                if claim.known is not None:
                    ratio = ratio[claim.known[index]]
                worst = max(worst, float(np.max(ratio, initial=0.0)))
                if worst > 1.0:
                    return math.inf
        return worst

    def residuals(
        self, p: Pipeline, index: NDArray[np.intp] | None = None, steps: float = SLACK
    ) -> tuple[Floats, Floats]:
        """Give the signed distances of some rows, and what is allowed; of a few, for a fit.

        Nothing is rounded, for a staircase has no slope: so many of its steps are allowed instead.
        """
        smooth = replace(p, loss=None, gradient=None, unscaled=None)
        index = self.few if index is None else index
        parts, allowed = [], []
        for claim in self.claims:
            if claim.form == "number":
                continue
            found, claimed = self._found(claim, smooth, index, False), self._beside(claim, p, index)
            off, most = found.value - claimed, SLACK * claim.tolerance(found)
            if (rounding := _rounding(claim, p)) is not None:
                dtype, factor = rounding
                most = most + steps * spacing(claimed / factor, dtype) * abs(factor)
            known = slice(None) if claim.known is None else claim.known[index]
            parts.append(off[known].reshape(-1))
            allowed.append(most[known].reshape(-1))
        return np.concatenate(parts), np.concatenate(allowed)

    def fits(self, p: Pipeline) -> bool:
        """Tell if a pipeline explains the sample, and rounds to the claimed numbers."""
        if self.misfit(p) > 1.0:
            return False
        rounded = any(_rounding(claim, p) for claim in self.claims if claim.form != "number")
        return not rounded or within(self.residuals(p, self.sample, 0.5))

    def blocks(self) -> Iterator[slice]:
        """Walk all rows."""
        return self.case.blocks()

    def confirmed(self, p: Pipeline) -> bool:
        """Tell if a pipeline explains all rows, once it explains the sample."""
        if len(self.sample) == self.case.count:
            return True
        for claim in self.claims:
            if claim.form == "rows":
                ratio = ratios(claim, self.predictor.rows(p), claim.read(self.case, None))
                if np.any((ratio > 1) if claim.known is None else (ratio > 1) & claim.known):
                    return False
            elif claim.form == "gradient" and p.layout[0] == "asked":
                for block in self.blocks():
                    found = self._found(claim, p, block, False)
                    ratio = ratios(claim, found, claim.read(self.case, block))
                    if np.any((ratio if claim.known is None else ratio[claim.known[block]]) > 1):
                        return False
        return True
