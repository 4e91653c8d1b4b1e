"""What somebody else computed, and what a prediction may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import COMPUTE, FORMATS, ulp
from xp_xent.verify._case import Case, Index
from xp_xent.verify._predict import Numbers

Floats = NDArray[np.float64]
# The prediction is rounded as the claim is, and each may be off by what a computation may have.
SLACK = 2.0


@dataclass(frozen=True, eq=False)
class Claim:
    """A loss or a gradient of the other side.

    Attributes
    ----------
    name : str
        The side's name, or what it is where the side has none.
    kind : {"loss", "gradient"}
    value : array
        0-d, (N,) losses of rows, or a gradient with the classes last, as the logits are.
    dtype : str
        Its format.
    compute : {"float32", "float64"}
        What it was computed in.
    resolution : float
        Half a unit of the last digit, of a number that was typed.
    known : ndarray of bool, shape (N,), or None
        The rows that are comparable.
    """

    name: str
    kind: str
    value: Any
    dtype: str
    compute: str
    resolution: float = 0.0
    known: NDArray[np.bool_] | None = None

    @property
    def form(self) -> str:
        """A ``"number"``, ``"rows"`` or a ``"gradient"``."""
        return self.kind if self.kind == "gradient" else ("rows" if self.value.ndim else "number")

    def tolerance(self, found: Numbers) -> Floats:
        """Give the error that the claim may have, where a prediction has that of float64."""
        bound = found.bound
        if self.compute != "float64":
            more, less = FORMATS[self.compute], FORMATS["float64"]
            bound = bound * (more.eps / less.eps)
            bound = bound + np.where(bound > 0, more.smallest_normal, 0.0)
        if COMPUTE[self.dtype] != self.dtype:
            finite = np.where(np.isfinite(found.value), found.value, 0.0)
            bound = bound + np.where(bound > 0, ulp(finite, self.dtype), 0.0)
        return np.asarray(bound + found.step + self.resolution)

    def read(self, case: Case, index: Index | None) -> Floats:
        """Read the claim's numbers: of some rows, unless it is one number."""
        if self.form == "gradient":
            return case.claimed(self.value, slice(None) if index is None else index)
        value = np.asarray(self.value, dtype=np.float64)
        return value if self.form == "number" or index is None else value[index]


def ratios(claim: Claim, found: Numbers, claimed: Floats, slack: float = SLACK) -> Floats:
    """Give each number's distance from its prediction, in what is allowed."""
    tolerance = slack * claim.tolerance(found)
    with np.errstate(all="ignore"):
        same = (found.value == claimed) | (np.isnan(found.value) & np.isnan(claimed))
        ratio = np.where(same, 0.0, np.abs(found.value - claimed) / tolerance)
    return np.where(np.isnan(ratio), np.inf, ratio)
