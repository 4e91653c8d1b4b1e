"""Label smoothing: what mass ε goes where."""

from dataclasses import dataclass
from typing import Any

from xp_xent._rows import Rows, open_rows
from xp_xent._stable import product

Array = Any

KINDS = ("uniform", "others")


@dataclass(frozen=True)
class Smoothing:
    """Move mass ε off the target: ``"uniform"`` over all K classes, ``"others"`` over K − 1."""

    epsilon: float = 0.0
    kind: str = "uniform"

    @property
    def spares_label(self) -> bool:
        """Tell if the label itself gets none of the mass that is spread."""
        return self.kind == "others"

    def share(self, classes: int) -> float:
        """Give the mass that one class receives."""
        return self.epsilon / (classes - 1 if self.spares_label else classes)

    def of(self, backend: Any, q: Array) -> Array:
        """Smooth probabilities (..., K)."""
        if self.epsilon == 0:
            return q
        if self.spares_label:
            return self.transpose(backend, q)
        return (1 - self.epsilon) * q + self.share(q.shape[backend.axis])

    def transpose(self, backend: Any, x: Array) -> Array:
        """Apply the transpose of the linear part of `of`, which is its own."""
        if self.epsilon == 0:
            return x
        kept = (1 - self.epsilon) * x
        if self.spares_label:
            return kept + self.share(x.shape[backend.axis]) * (backend.row_sum(x) - x)
        return kept

    def masses(self, backend: Any, rows: Rows, dtype: Any) -> Array:
        """Give the mass on each class of rows with probabilities: smoothed, times its weight."""
        q = self.of(backend, open_rows(backend, rows, dtype, rows.probabilities))
        return q if rows.class_weight is None else rows.class_weight * q

    def by_probabilities(self, backend: Any, rows: Rows, surprisal: Array) -> Array:
        """Give the derivative of Σ q_j ℓ_j by the probabilities that `masses` makes q of."""
        xp = backend.xp
        # A masked class without mass stays without: its derivative is 0, not infinite.
        void = xp.isinf(surprisal) & (rows.probabilities == 0)
        surprisal = xp.where(void, 0.0, surprisal)
        if rows.class_weight is not None:
            surprisal = product(xp, rows.class_weight, surprisal)
        return self.transpose(backend, surprisal)
