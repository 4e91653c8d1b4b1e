"""The loss of rows whose mass lies on several classes, with −log p of each class transformed.

With c_j the mass of class j (target, smoothed, times the class's weight), ℓ_j = −log p_j, and a
transform f (focal, poly), a row's loss is

    L = Σ_j c_j f(ℓ_j)

Its gradient is cross-entropy's, of the masses s_j = c_j f'(ℓ_j). With S = Σ s, b_j = c_j f''(ℓ_j),

    ∂L/∂z_k    = S·p_k − s_k
    ∂²L/∂z_k² = S·p_k(1 − p_k) + Σ_j b_j (p_k − δ_jk)²

The largest class alone may be nearly certain: its b is taken with the transform's scale.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from xp_xent.kernels.elementary import product
from xp_xent.kernels.row_stats import RowStats
from xp_xent.kernels.rows import Rows, finish_gradient
from xp_xent.kernels.softmax import Softmax, Targets
from xp_xent.kernels.softmax_hessian import Hessian, hessian_by_columns

Array = Any


class Terms(NamedTuple):
    """What the terms of a row's loss are made of; a transform takes it for a row."""

    xp: Any
    backend: Any
    mass: Array  # c, (..., K)
    nll: Array  # ℓ, (..., K)


@dataclass(frozen=True)
class SpreadNLL(Softmax):
    """Formulas of Σ c_j f(ℓ_j), without the options that cross-entropy alone has."""

    unbounded: ClassVar[str] = (
        "a Hessian of transformed surprisals of several classes has both signs in a row"
    )

    @property
    def by_sums(self) -> tuple[str, ...]:
        """None: elements are seen."""
        return ()

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Compute the Hessian of Σ cotangent·loss times a vector of the logits' shape."""
        row, targets = self._stats(backend, rows, "exps")
        vector = backend.kernel_layout(vector, self.dtype)
        # Only differences of the vector matter; taken from the largest class, nothing cancels.
        change = vector - backend.take_label(vector, row.reference)
        p = row.probabilities
        mean = row.other_classes_sum(p * change)
        result = self._mass(row, targets) * (p * (change - mean))
        at_reference, others = self._seconds(row, targets)
        by_others = others * (mean - change)  # b_j times the change of ℓ_j
        by_reference = at_reference[0] * (mean / at_reference[1])
        result = result + (p * (backend.row_sum(by_others) + by_reference) - by_others)
        # There p·(…) − … would cancel.
        entry = row.p_reference * backend.row_sum(by_others) - row.one_minus_p * by_reference
        entry = entry - self._mass(row, targets) * row.p_reference * mean
        result = backend.set_at_label(result, row.reference, entry)
        result = backend.scale_rows(result, valid=rows.class_valid)
        return finish_gradient(backend, rows, result, cotangent)

    def hessian(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute each row's Hessian, (..., K²); the classes are last."""
        return hessian_by_columns(self, backend, rows, cotangent)

    def _stats(
        self, backend: Any, rows: Rows, need: str, factors: tuple[Any, ...] | None = None
    ) -> tuple[RowStats, Targets]:
        row, targets = super()._stats(backend, rows, need, factors)
        terms = Terms(row.xp, backend, targets.q, row.surprisals)
        if need == "sums":  # for the loss alone
            return row, targets._replace(terms=terms)
        slopes = product(row.xp, terms.mass, self.transform.partial(terms))
        at_reference = backend.take_label(slopes, row.reference)
        return row, Targets(
            None, slopes, at_reference, row.other_classes_sum(slopes), targets.of, terms
        )

    def _loss(self, row: RowStats, targets: Targets) -> Array:
        terms = targets.terms
        loss = product(row.xp, terms.mass, self.transform.value(terms))
        return row.backend.row_sum(loss)

    def _target_gradient(self, row: RowStats, targets: Targets, rows: Rows) -> Array:
        by_mass = self.transform.value(targets.terms)
        return self.smoothing.by_probabilities(row.backend, rows, by_mass)

    def _gradient_and_curvature(
        self, row: RowStats, targets: Targets, factor: Array | float, *, bound: bool
    ) -> tuple[Array, Array]:
        """Compute the derivative by the logits, and the diagonal; it uses up the exponentials."""
        backend, p = row.backend, row.probabilities
        at_reference, others = self._seconds(row, targets)
        hessian = Hessian(row, self._mass(row, targets), 0.0, *at_reference, None)
        # p²·Σ b of the other classes, and (1 − p)² − p² = 1 − 2p of b itself.
        own = others * (1 - 2 * p)
        diagonal = hessian.diagonal() + p * p * backend.row_sum(others) + own
        diagonal = backend.scale_rows(diagonal, factor)
        return self._by_softmax_logits(row, targets, factor), diagonal

    def _seconds(self, row: RowStats, targets: Targets) -> tuple[tuple[Array, Array], Array]:
        """Return b·scale and scale of the largest class, and b of the others, 0 there."""
        backend, terms = row.backend, targets.terms
        second = product(row.xp, terms.mass, self.transform.second(terms))
        scale = self.transform.scale(terms)
        others = row.xp.where(row.is_other, second / scale, 0.0)
        if not isinstance(scale, float):
            scale = backend.take_label(scale, row.reference)
        return (backend.take_label(second, row.reference), scale), others
