"""The loss of rows of logits: value, gradient and curvature, for every option of cross_entropy.

With the target's masses q, ℓ_j = −log p_j, and logits capped first, a row's loss is

    L = a·f(ℓ_y) + Σ_j q_j ℓ_j + λ·lse²

a·f(ℓ_y): the label's own term, with its class weight and a head f (identity, focal, poly).
q: probability targets, or the mass that label smoothing spreads. All derivatives are closed:

    ∂L/∂z_j = G·p_j − a·f'(ℓ_y)·δ_jy − q_j + 2λ·lse·p_j        G = a·f'(ℓ_y) + Σ q
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from xp_xent._anchored import Anchored
from xp_xent._heads import Head
from xp_xent._rows import Rows, close_gradient, close_loss, open_rows, row_factor, settle_gradient
from xp_xent._smoothing import Smoothing
from xp_xent._softmax_hessian import Hessian, plain_gradient_and_curvature
from xp_xent._stable import product, smooth_tanh_and_slope, tanh_and_slope
from xp_xent._unshifted import Unshifted

Array = Any


class Open(NamedTuple):
    """A block of rows, converted, capped and anchored, with what its targets ask for."""

    row: Anchored
    cap: Array  # tanh(z/c)/c of the soft cap, (..., K); None without
    slope: Array  # derivative of the capped logits by the logits, (..., K); None without
    mass: Any  # a, (..., 1) or a number; None without labels
    q: Array  # (..., K) or (1, …, K); None without
    on: Array  # q at the anchor, (..., 1) or a number
    off: Array  # Σ q elsewhere, (..., 1) or a number


@dataclass(frozen=True)
class SoftmaxRows:
    """Formulas of a loss on rows of logits; every method takes a block of `Rows`."""

    dtype: Any  # what the loss is computed and returned in
    head: Head
    smoothing: Smoothing
    z_loss: float = 0.0
    softcap: float | None = None

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each row's loss, (..., 1)."""
        return self._evaluated(self._value, backend, rows, sums_only=True)

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's loss, and the derivative of Σ cotangent·loss by the logits."""
        return self._evaluated(self._value_and_gradient, backend, rows, cotangent)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's loss, and the derivative of Σ cotangent·loss by the probabilities."""
        block = self._open(backend, rows)
        loss = close_loss(backend, rows, self._loss(block))
        gradient = self._target_gradient(block, rows)
        return loss, close_gradient(backend, rows, gradient, cotangent, rows.probabilities)

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Give the Hessian of Σ cotangent·loss times a vector of the logits' shape."""
        block = self._open(backend, rows)
        vector = backend.arranged(vector, self.dtype)
        along = vector if block.slope is None else vector * block.slope
        # Only differences of the vector matter; taken from the largest class, nothing cancels.
        top = Anchored(backend, block.row.z, None)
        p, lead = top.probability, backend.pick(along, top.anchor)
        along = along - lead
        mean = top.off_sum(p * along)
        result = self._mass(block) * (p * (along - mean))
        if self.z_loss != 0:
            result = result + 2 * self.z_loss * (mean + lead) * p
        if not self.head.is_linear:
            result = result + self._bend(block, along) * self._label_distance(top, rows)
        if block.slope is not None:
            result = result * block.slope + self._gradient(block) * self._cap_bend(block) * vector
        return close_gradient(backend, rows, result, cotangent)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Give the diagonal of the Hessian of Σ cotangent·loss."""
        return self._evaluated(self._hessian_diagonal, backend, rows, cotangent)

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Give both of `value_and_gradient`, and the diagonal of the Hessian of Σ cotangent·loss.

        Or, as a `bound`, the sum of the magnitudes in each of its rows.
        """
        formula = partial(self._value_gradient_and_curvature, bound)
        return self._evaluated(formula, backend, rows, cotangent)

    # The parts

    def _evaluated(
        self,
        formula: Callable[..., Any],
        backend: Any,
        rows: Rows,
        *others: Array | float,
        sums_only: bool = False,
    ) -> Any:
        """Evaluate a formula of opened rows: without a shift first, if Python may look at them."""
        count = len(rows)

        def shifted(*parts: Any) -> Any:
            rows, others = Rows(*parts[:count]), parts[count:]
            return formula(self._open(backend, rows, sums_only=sums_only), backend, rows, *others)

        # Focal's slopes may be as small as its (1 − p)^γ, and underflow when divided by a total.
        plain = rows.label is not None and rows.spread is None and self.head.is_linear
        if not (backend.looks and plain):
            return shifted(*rows, *others)
        z, cap, slope = self._capped(backend, rows)
        row = Unshifted(backend, z, rows.label)
        block = Open(row, cap, slope, self._label_mass(rows), None, 0.0, 0.0)
        results = formula(block, backend, rows, *others)
        carried = not others or row.carries(row_factor(rows, *others), block.mass)
        if row.all_fit and carried is True:
            return results
        fits = row.fits & carried
        fits = fits if rows.counted is None else fits | ~rows.counted
        return backend.mended_(shifted, results, fits, *rows, *others)

    def _value(self, block: Open, backend: Any, rows: Rows) -> Array:
        return close_loss(backend, rows, self._loss(block))

    def _value_and_gradient(
        self, block: Open, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        loss = close_loss(backend, rows, self._loss(block))
        # Last, for it gives up the row's exponentials.
        gradient = self._gradient(block, row_factor(rows, cotangent))
        return loss, self._settled_gradient(block, rows, gradient)

    def _hessian_diagonal(
        self, block: Open, backend: Any, rows: Rows, cotangent: Array | float
    ) -> Array:
        factor = row_factor(rows, cotangent)
        _, diagonal = self._gradient_and_curvature(block, factor, bound=False)
        return settle_gradient(backend, rows, diagonal, rows.logits)

    def _value_gradient_and_curvature(
        self, bound: bool, block: Open, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array, Array]:
        loss, factor = close_loss(backend, rows, self._loss(block)), row_factor(rows, cotangent)
        gradient, curvature = self._gradient_and_curvature(block, factor, bound=bound)
        curvature = settle_gradient(backend, rows, curvature, rows.logits)
        return loss, self._settled_gradient(block, rows, gradient), curvature

    def _open(self, backend: Any, rows: Rows, *, sums_only: bool = False) -> Open:
        z, cap, slope = self._capped(backend, rows)
        z = backend.arranged(z, self.dtype)
        # Not blanked yet: the maximum comes first.
        counted = rows.counted if cap is None else None
        alone = rows.label is not None and rows.spread is None
        # Where several classes have mass, seen from the largest: a label's own 1 would drown −log p
        # of a class that is nearly certain.
        anchor = rows.label if alone else None
        row = Anchored(backend, z, anchor, counted, sums_only=sums_only)
        if alone:
            return Open(row, cap, slope, self._label_mass(rows), None, 0.0, 0.0)
        q = reached = self.smoothing.masses(backend, rows, self.dtype)
        if backend.differentiable:  # by q, 0 at a masked class without mass
            reached = backend.xp.where((q == 0) & backend.xp.isinf(row.z), 0.0, q)
        return Open(row, cap, slope, None, q, backend.pick(q, row.anchor), row.off_sum(reached))

    def _capped(self, backend: Any, rows: Rows) -> tuple[Array, Array, Array]:
        """Give the logits that the loss is of, and `cap` and `slope` of `Open`.

        Those that are not capped lie in memory as they are.
        """
        if self.softcap is None:
            return backend.cast(rows.logits, self.dtype), None, None
        share = open_rows(backend, rows, self.dtype) / self.softcap
        formulas = (partial(f, backend.xp) for f in (tanh_and_slope, smooth_tanh_and_slope))
        tanh, slope = backend.derived(*formulas, share)
        return self.softcap * tanh, tanh / self.softcap, slope

    @staticmethod
    def _label_mass(rows: Rows) -> Array | float:
        return 1.0 if rows.label_weight is None else rows.label_weight

    def _loss(self, block: Open) -> Array:
        row, loss = block.row, None
        if block.mass is not None:
            loss = product(row.xp, block.mass, self.head.value(row))
        if block.q is not None:
            cross = row.cross(block.q, block.on, block.off)
            loss = cross if loss is None else loss + cross
        return loss + self.z_loss * row.lse * row.lse if self.z_loss != 0 else loss

    def _gradient(self, block: Open, factor: Array | float = 1.0) -> Array:
        """Give the derivative of a row's loss by its capped logits, times a factor of the row.

        It uses up the exponentials of the row.
        """
        row, put, multiply = block.row, block.row.backend.put_, block.row.backend.multiply_
        if block.q is None and self.z_loss == 0:
            # By the total first: the weights' own product might be out of range.
            share = block.mass * self.head.slope(row) * (factor / row.total)
            return multiply(put(row.e, row.place, -row.rest), share)
        by_class, anchor = self._row_slopes(block)
        if block.q is not None:
            gradient = put(multiply(row.e, by_class) - block.q, row.anchor, anchor)
            return multiply(gradient, factor)
        return put(multiply(row.e, by_class * factor), row.place, anchor * factor)

    def _settled_gradient(self, block: Open, rows: Rows, gradient: Array) -> Array:
        """Carry the gradient by the capped logits back to the logits."""
        backend = block.row.backend
        if block.slope is not None:
            gradient = backend.multiply_(gradient, block.slope)
        return settle_gradient(backend, rows, gradient, rows.logits)

    def _gradient_and_curvature(
        self, block: Open, factor: Array | float, *, bound: bool
    ) -> tuple[Array, Array]:
        """Give the derivative by the capped logits, and the curvature by the logits themselves.

        It uses up the exponentials of the row.
        """
        row, backend = block.row, block.row.backend
        if isinstance(row, Unshifted) and self.z_loss == 0 and self.softcap is None:
            return plain_gradient_and_curvature(row, block.mass, factor, bound=bound)
        bend, scale = None, 1.0
        if not self.head.is_linear:
            bend, scale = block.mass * self.head.bend(row), self.head.scale(row)
        hessian = Hessian(row, self._mass(block), 2 * self.z_loss, bend, scale, block.slope)
        curvature = backend.multiply_(hessian.diagonal(), factor)
        beside = backend.multiply_(hessian.beside(), abs(factor)) if bound else None
        gradient = self._gradient(block, factor)
        if block.slope is not None:
            curvature = curvature + gradient * self._cap_bend(block)
        return gradient, curvature if beside is None else abs(curvature) + beside

    def _row_slopes(self, block: Open) -> tuple[Array, Array]:
        """Give what makes a gradient of exponentials, q apart, and the anchor's entry (..., 1)."""
        row, on = block.row, block.on
        if block.mass is not None:
            on = on + block.mass * self.head.slope(row)
        others, anchor = on + block.off, row.anchor_term_slope(on, block.off)
        if self.z_loss != 0:
            push = 2 * self.z_loss * row.lse
            others, anchor = others + push, anchor + push * row.at
        return others / row.total, anchor

    def _target_gradient(self, block: Open, rows: Rows) -> Array:
        return self.smoothing.by_probabilities(block.row.backend, rows, block.row.surprisal)

    def _mass(self, block: Open) -> Array:
        """Give G + 2λ·lse, the factor of p in the gradient."""
        mass, row = block.on + block.off, block.row
        if block.mass is not None:
            mass = mass + block.mass * self.head.slope(row)
        return mass + 2 * self.z_loss * row.lse if self.z_loss != 0 else mass

    def _bend(self, block: Open, along: Array) -> Array:
        """Give a·f''(ℓ_y) times the derivative of ℓ_y along a vector, which is scaled first."""
        row = block.row
        by_label = along - row.backend.pick(along, row.anchor)
        change = row.backend.row_sum(row.probability * by_label) / self.head.scale(row)
        return block.mass * self.head.bend(row) * change

    def _label_distance(self, top: Anchored, rows: Rows) -> Array:
        """Give p − δ_y, the derivative of ℓ_y."""
        xp, p = top.xp, top.probability
        at_label = xp.where(
            rows.label == top.anchor, -top.away, top.backend.pick(p, rows.label) - 1
        )
        return top.backend.put_(p, rows.label, at_label)

    @staticmethod
    def _cap_bend(block: Open) -> Array:
        """Give the second derivative of the capped logits by the logits."""
        return -2 * block.cap * block.slope
