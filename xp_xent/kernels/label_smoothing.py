"""Label smoothing: what mass ε goes where."""

from dataclasses import dataclass
from typing import Any

from xp_xent.backends._numbers import is_zero
from xp_xent.kernels.elementary import product
from xp_xent.kernels.row_stats import RowStats
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any

KINDS = ("uniform", "others")


@dataclass(frozen=True)
class Smoothing:
    """Move mass ε off the target: ``"uniform"`` over all K classes, ``"others"`` over K − 1."""

    epsilon: Any = 0.0  # a number, or an array ()
    kind: str = "uniform"

    @property
    def spares_label(self) -> bool:
        """Return whether the label itself gets none of the mass that is spread."""
        return self.kind == "others"

    def mass_per_class(self, classes: Any) -> Any:
        """Return the mass that each of so many classes receives."""
        return self.epsilon / (classes - 1 if self.spares_label else classes)

    def of(self, backend: Any, q: Array, part: Array | None = None) -> Array:
        """Smooth probabilities (..., K) over the classes that take part, None for all."""
        if is_zero(self.epsilon):
            return q
        if self.spares_label:
            return self.transpose(backend, q, part)
        given = self.mass_per_class(_count(backend, q, part, q.dtype))
        if part is not None:
            given = backend.xp.where(part, given, 0.0)
        return (1 - self.epsilon) * q + given

    def transpose(self, backend: Any, x: Array, part: Array | None = None) -> Array:
        """Apply the transpose of the linear part of `of`, which is its own."""
        if is_zero(self.epsilon):
            return x
        kept = (1 - self.epsilon) * x
        if not self.spares_label:
            return kept
        each, xp = self.mass_per_class(_count(backend, x, part, x.dtype)), backend.xp
        if part is None:
            return kept + each * _others(backend, x)
        return kept + xp.where(part, each * _others(backend, xp.where(part, x, 0.0)), 0.0)

    def masses(self, backend: Any, rows: Rows, dtype: Any) -> Array:
        """Return the mass on each class: the target's, smoothed, times the class's weight."""
        if rows.probabilities is not None:
            q = valid_rows(backend, rows, dtype, rows.probabilities)
            q = self.of(backend, q, rows.class_valid)
            return q if rows.class_weight is None else rows.class_weight * q
        xp, on_label = backend.xp, backend.indices(rows.logits) == rows.label
        mass = rows.label_weight
        if mass is None:
            mass = backend.full((), 1.0, dtype, like=rows.logits)
        if rows.smoothing_mass is None:
            return xp.where(on_label, mass, 0.0)
        given = rows.smoothing_mass
        if rows.class_valid is not None:
            count = _count(backend, rows.logits, rows.class_valid, dtype)
            others_count = xp.where(count == 1, 1.0, count - 1)  # none: no mass is given
            given = given / (others_count if self.spares_label else count)
            given = xp.where(rows.class_valid, given, 0.0)
        return xp.where(on_label, mass if self.spares_label else mass + given, given)

    def mass_elsewhere(self, backend: Any, rows: Rows, row: RowStats, q: Array) -> Array:
        """Return Σ q over the classes but each row's reference, (..., 1).

        Many small masses that are alike, added to the label's one by one, would all be rounded in
        the same direction.
        """
        if rows.smoothing_mass is None:
            return row.other_classes_sum(q)
        xp, part, given = backend.xp, rows.class_valid, rows.smoothing_each
        at_label = row.reference == rows.label
        alike = given is not None and (part is None or not self.spares_label)
        count = _count(backend, rows.logits, part, row.z.dtype) if alike else None
        if count is not None:  # nor is it known yet where a model is only written down
            given = given if part is None else given / count
            elsewhere = given * (count - 2) if self.spares_label else given * (count - 1)
            with_label = given * (count - 1) if self.spares_label else elsewhere
            return xp.where(at_label, with_label, elsewhere + rows.label_weight)
        on_label = backend.indices(rows.logits) == rows.label
        others = row.other_classes_sum(xp.where(on_label, 0.0, q))
        return others + xp.where(at_label, 0.0, backend.take_label(q, rows.label))

    def by_probabilities(self, backend: Any, rows: Rows, surprisal: Array) -> Array:
        """Compute the derivative of Σ q_j ℓ_j by the probabilities that `masses` makes q of."""
        xp = backend.xp
        # A masked class without mass stays without: its derivative is 0, not infinite.
        void = xp.isinf(surprisal) & (rows.probabilities == 0)
        surprisal = xp.where(void, 0.0, surprisal)
        if rows.class_weight is not None:
            surprisal = product(xp, rows.class_weight, surprisal)
        return self.transpose(backend, surprisal, rows.class_valid)


def _count(backend: Any, x: Array, part: Array | None, dtype: Any) -> Any:
    """Count the classes of rows x (..., K) that take part: a number, or (..., 1)."""
    if part is None:
        return backend._class_count(x.shape[backend.class_axis])
    return backend.row_sum(backend.cast(part, dtype))


def _others(backend: Any, x: Array) -> Array:
    """Sum, for each class, the other classes, wherever they are."""
    return others(backend, x) + backend._sum_elsewhere(x)


def others(backend: Any, x: Array) -> Array:
    """Sum, for each class of rows (..., K), the other classes.

    Σx − x would cancel where a class holds nearly all. This is a tree of sums from which nothing
    is taken away again, and so are its derivatives.
    """
    xp, axis, count = backend.xp, backend.class_axis, x.shape[backend.class_axis]
    if count in (0, 1):  # none: an empty part
        return xp.zeros_like(x)

    def part(x: Array, start: int, stop: int) -> Array:
        return x[(..., slice(start, stop), *[slice(None)] * (-1 - axis))]

    half = count // 2
    first, second = part(x, 0, half), part(x, half, 2 * half)
    left = [] if count % 2 == 0 else [part(x, 2 * half, count)]
    above = others(backend, xp.concat([first + second, *left], axis=axis))
    outer = part(above, 0, half)
    left = [] if count % 2 == 0 else [part(above, half, half + 1)]
    return xp.concat([outer + second, outer + first, *left], axis=axis)
