"""From the rows' losses to one number: mean, sum, or none."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from xp_xent import _checks as check

Array = Any

KINDS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Reduction:
    """How losses of rows become a result.

    `share` (...,) is what each row adds to the mean's denominator, None for 1 each; `normalizer`
    replaces that denominator.
    """

    kind: str
    share: Array | None = None
    normalizer: Any = None

    def __post_init__(self) -> None:
        check.choice("reduction", self.kind, KINDS)
        if self.normalizer is None:
            return
        if self.kind != "mean":
            raise ValueError(
                "normalizer: it replaces the mean's denominator, so it means nothing with "
                f"reduction={self.kind!r}; wanted reduction='mean'"
            )
        if check.is_number(self.normalizer):
            if check.number("normalizer", self.normalizer) == 0:
                raise ValueError("normalizer: got 0, wanted what to divide the sum of losses by")
        else:
            check.numeric("normalizer", self.normalizer)
            check.shape("normalizer", self.normalizer, (), "one number")

    def of(self, backend: Any, losses: Array) -> Array:
        """Reduce losses of rows (...,)."""
        if self.kind == "none":
            return losses
        total = backend.total(losses)
        if self.kind == "sum":
            return total
        return backend.over(total, self._denominator(backend, tuple(losses.shape), losses.dtype))

    def factor(
        self, backend: Any, shape: tuple[int, ...], cotangent: Any, dtype: Any
    ) -> Array | float:
        """Give cotangent · ∂result/∂loss of a row: an array (...,) or (), or a number."""
        if cotangent is None:
            cotangent = 1.0
        elif isinstance(cotangent, Real):
            cotangent = check.number("cotangent", cotangent)
        else:
            wanted = shape if self.kind == "none" else ()
            check.shape("cotangent", cotangent, wanted, "the shape of the loss")
            check.floating("cotangent", cotangent)
            cotangent = backend.cast(cotangent, dtype)
        if self.kind != "mean":
            return cotangent
        denominator = self._denominator(backend, shape, dtype)
        if isinstance(denominator, float) and denominator == 0:
            return math.nan
        return backend.over(cotangent, denominator)

    def _denominator(self, backend: Any, shape: tuple[int, ...], dtype: Any) -> Array | float:
        if self.normalizer is None:
            return math.prod(shape) * 1.0 if self.share is None else backend.total(self.share)
        if check.is_number(self.normalizer):
            return check.number("normalizer", self.normalizer)
        return backend.cast(self.normalizer, dtype)
