"""The loss of rows of logits: value, gradient and curvature, for every option of cross_entropy.

With the target's masses q, ℓ_j = −log p_j, and p the softmax of `logit_map`'s u, a row's loss is

    L = a·f(ℓ_y) + Σ_j q_j ℓ_j + λ·lse²

a·f(ℓ_y): the label's own term, with its class weight and a transform f (identity, focal, poly).
q: probability targets, or the mass that label smoothing spreads. All derivatives are closed:

    ∂L/∂u_j = G·p_j − a·f'(ℓ_y)·δ_jy − q_j + 2λ·lse·p_j        G = a·f'(ℓ_y) + Σ q
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from xp_xent.backends._numbers import is_one, is_zero
from xp_xent.kernels.elementary import product
from xp_xent.kernels.label_smoothing import Smoothing
from xp_xent.kernels.logit_map import MappedLogits, mapped_logits
from xp_xent.kernels.nll_transforms import NLL
from xp_xent.kernels.row_metrics import row_metrics
from xp_xent.kernels.row_stats import RowStats, row_stats
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, row_factor
from xp_xent.kernels.softmax_curvature import gradient_and_curvature, hessian_of, hvp
from xp_xent.kernels.softmax_hessian import with_diagonal

Array = Any


class Targets(NamedTuple):
    """What a row's targets ask of its softmax, and how that depends on the logits."""

    label_mass: Any = None  # a, (..., 1) or a number; None without labels
    q: Array = None  # (..., K) or (1, …, K); None without
    q_reference: Any = 0.0  # q at the reference, (..., 1) or a number
    q_others: Any = 0.0  # Σ q elsewhere, (..., 1) or a number
    of: MappedLogits = MappedLogits(None)  # `u` is the statistics' own
    terms: Any = None  # of `spread_nll`
    spread: Any = None  # `SpreadSums` in place of q, where no masses are kept


@dataclass(frozen=True)
class Softmax:
    """Formulas of a loss on rows of logits; every method takes a block of `Rows`."""

    dtype: Any  # what the loss is computed and returned in
    transform: NLL = NLL()
    smoothing: Smoothing = Smoothing()
    z_loss: Any = 0.0
    softcap: Any = None
    temperature: Any = 1.0
    has_metrics: bool = False  # whether nll, logsumexp and correct come with the value

    @cached_property
    def has_z_loss(self) -> bool:
        """Whether there is λ."""
        return not is_zero(self.z_loss)

    @cached_property
    def has_temperature(self) -> bool:
        """Whether a temperature divides."""
        return not is_one(self.temperature)

    @cached_property
    def maps_logits(self) -> bool:
        """Whether the softmax is of other logits than those that are given."""
        return self.softcap is not None or self.has_temperature

    @cached_property
    def by_sums(self) -> tuple[str, ...]:
        """The methods that, of labels alone, see elements by `exp_sums` and `exp_gradient`."""
        return () if self.maps_logits else ("value", "value_and_gradient")

    def value(self, backend: Any, rows: Rows) -> Any:
        """Compute each row's loss, (..., 1), and its metrics."""
        row, targets = self._stats(backend, rows, "sums", ())
        loss = self._loss(row, targets)
        loss = finish_loss(backend, rows, loss) if rows.weighted else loss
        return (loss, *row_metrics(self, row, targets, rows)) if self.has_metrics else loss

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, ...]:
        """Compute rows' losses, their metrics, and the derivative of Σ cotangent·loss by logits."""
        factor = row_factor(rows, cotangent) if rows.weighted else cotangent
        row, targets = self._stats(backend, rows, "gradient", (factor,))
        loss = self._loss(row, targets)
        loss = finish_loss(backend, rows, loss) if rows.weighted else loss
        metrics = row_metrics(self, row, targets, rows) if self.has_metrics else ()
        # Last, for it uses up the row's exponentials.
        factor = self._over_temperature(factor) if self.has_temperature else factor
        return loss, *metrics, self._gradient(row, targets, rows, factor)

    def value_and_temperature_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's loss, and the derivative of cotangent·loss by the temperature."""
        factor = row_factor(rows, cotangent)
        row, targets = self._stats(backend, rows, "exps")
        loss = finish_loss(backend, rows, self._loss(row, targets))
        # ∂u/∂T is −u/T. Differences from the reference, and what is left if their sum is not 0.
        at_reference = backend.take_label(row.z, row.reference)
        rest = None
        if self.has_z_loss:
            rest = 2 * self.z_loss * self._lse(row, targets)
            rest = rest * (
                at_reference if (level := targets.of.level) is None else at_reference + level
            )
        by_u = self._by_softmax_logits(row, targets, 1.0)
        found = backend.row_sum(product(row.xp, by_u, row.z - at_reference))
        found = -(found if rest is None else found + rest) / self.temperature
        return loss, backend.scale_rows(found, factor, rows.valid)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute each row's loss, and the derivative of Σ cotangent·loss by the probabilities."""
        row, targets = self._stats(backend, rows, "exps")
        loss = finish_loss(backend, rows, self._loss(row, targets))
        gradient = self._target_gradient(row, targets, rows)
        return loss, finish_gradient(backend, rows, gradient, cotangent, rows.probabilities)

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Compute the Hessian of Σ cotangent·loss times a vector of the logits' shape."""
        return hvp(self, backend, rows, cotangent, vector)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute the diagonal of the Hessian of Σ cotangent·loss."""
        factor = row_factor(rows, cotangent)
        row, targets = self._stats(backend, rows, "exps", (factor,))
        _, diagonal = self._gradient_and_curvature(row, targets, factor, bound=False)
        return self._rounded(row, rows, diagonal)

    def hessian(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute each row's Hessian of Σ cotangent·loss, (..., K²); the classes are last."""
        factor = row_factor(rows, cotangent)
        row, targets = self._stats(backend, rows, "exps", (factor,))
        twice = self._over_temperature(self._over_temperature(factor))
        entries = hessian_of(self, row, targets).entries(twice)
        # Last, for it uses up the row's exponentials.
        _, diagonal = self._gradient_and_curvature(row, targets, factor, bound=False)
        matrix = with_diagonal(backend, entries, diagonal)
        if (part := rows.class_valid) is not None:
            both = part[..., :, None] & part[..., None, :]
            both = backend.xp.reshape(both, (*part.shape[:-1], matrix.shape[-1]))
            matrix = backend.xp.where(both, matrix, 0.0)
        return self._rounded(row, rows._replace(class_valid=None), matrix)

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, bound: bool
    ) -> tuple[Array, Array, Array]:
        """Compute both, and the Hessian's diagonal or, as a `bound`, its rows' magnitudes' sums."""
        factor = row_factor(rows, cotangent)
        row, targets = self._stats(backend, rows, "exps", (factor,))
        loss = finish_loss(backend, rows, self._loss(row, targets))
        gradient, curvature = self._gradient_and_curvature(row, targets, factor, bound=bound)
        if targets.of.slope is not None:
            gradient = backend.scale_rows(gradient, targets.of.slope)
        return loss, self._rounded(row, rows, gradient), self._rounded(row, rows, curvature)

    # The parts

    def _stats(
        self, backend: Any, rows: Rows, need: str, factors: tuple[Any, ...] | None = None
    ) -> tuple[RowStats, Targets]:
        """Sum up the rows, and lay out what their targets ask for.

        `factors` are what probabilities will be multiplied by, None where they are taken apart.
        """
        z, valid, of = rows.logits, rows.valid, MappedLogits(None)
        if self.maps_logits or rows.class_valid is not None:
            of = mapped_logits(backend, rows, self.dtype, self.softcap, self.temperature)
            z, valid, of = of.u, None, of._replace(u=None)
        if rows.label is None or rows.smoothing_mass is not None:
            # Seen from the largest class: a label's own 1 would drown −log p of a class that is
            # nearly certain.
            plain = self.by_sums and need != "exps" and not self.smoothing.spares_label
            if plain and (found := backend._spread_sums(rows, self.dtype)):
                row = RowStats(backend, found.sums, at_row_max=True)
                return row, Targets(None, None, found.masses[0], found.masses[1], spread=found)
            need = need if need == "sums" else "exps"
            row = row_stats(backend, z, None, self.dtype, valid=valid, need=need)
            return row, self._spread(backend, rows, row)._replace(of=of)
        mass = 1.0 if rows.label_weight is None else rows.label_weight
        # Focal's slopes may be as small as its (1 − p)^γ, and underflow when divided by a total.
        multipliers = factors if self.transform.is_linear else None
        if multipliers and rows.label_weight is not None:
            multipliers = (*multipliers, *(mass * factor for factor in multipliers))
        row = row_stats(
            backend, z, rows.label, self.dtype, valid=valid, need=need, multipliers=multipliers
        )
        return row, Targets(mass, of=of)

    def _spread(self, backend: Any, rows: Rows, row: RowStats) -> Targets:
        """Lay out targets with mass on several classes."""
        q = reached = self.smoothing.masses(backend, rows, self.dtype)
        if backend.differentiable:  # by q, 0 at a masked class without mass
            reached = backend.xp.where((q == 0) & backend.xp.isinf(row.z), 0.0, q)
        at_reference = backend.take_label(q, row.reference)
        elsewhere = self.smoothing.mass_elsewhere(backend, rows, row, reached)
        return Targets(None, q, at_reference, elsewhere)

    def _loss(self, row: RowStats, targets: Targets) -> Array:
        loss, mass = None, targets.label_mass
        if mass is not None:
            loss = row.nll if self.transform.is_linear else self.transform.value(row)
            loss = loss if isinstance(mass, float) else product(row.xp, mass, loss)
        if targets.q is not None:
            cross = row.cross_entropy(targets.q, targets.q_reference, targets.q_others)
            loss = cross if loss is None else loss + cross
        if targets.spread is not None:
            loss = targets.spread.cross + row.reference_term(*targets.spread.masses)
        if not self.has_z_loss:
            return loss
        lse = self._lse(row, targets)
        return loss + self.z_loss * lse * lse

    def _lse(self, row: RowStats, targets: Targets) -> Array:
        """Return log Σ exp of the softmax's logits before anything was subtracted."""
        return row.lse if targets.of.level is None else row.lse + targets.of.level

    def _over_temperature(self, x: Any) -> Any:
        return x / self.temperature if self.has_temperature else x

    def _gradient(self, row: RowStats, targets: Targets, rows: Rows, factor: Any) -> Array:
        """Compute the derivative of a row's loss by its logits, times a factor of the row."""
        dtype, backend = rows.logits.dtype, row.backend
        if targets.spread is not None:
            partials = *self._partials(row, targets), factor
            return backend.spread_gradient(targets.spread, *partials, rows, dtype)
        plain = targets.of.slope is None and rows.class_valid is None
        if targets.q is None and plain:
            by_exp, entry = self._by_exp_and_entry(row, targets, factor)
            return backend.exp_gradient(row.sums, by_exp, entry, rows.valid, dtype)
        gradient = self._by_softmax_logits(row, targets, factor)
        if targets.of.slope is not None:
            gradient = backend.scale_rows(gradient, targets.of.slope)
        return self._rounded(row, rows, gradient)

    def _by_softmax_logits(self, row: RowStats, targets: Targets, factor: Any) -> Array:
        """Compute the derivative by the logits of the softmax, times a factor.

        It uses up the exponentials of the row.
        """
        backend = row.backend
        if targets.q is None:
            by_exp, entry = self._by_exp_and_entry(row, targets, factor)
            return backend.exp_gradient(row.sums, by_exp, entry, None, self.dtype)
        by_exp, entry = self._partials(row, targets)
        gradient = backend.scale_rows(row.exps, by_exp) - targets.q
        return backend.scale_rows(backend.set_at_label(gradient, row.reference, entry), factor)

    def _by_exp_and_entry(
        self, row: RowStats, targets: Targets, factor: Any
    ) -> tuple[Array, Array]:
        """Return what exponentials are multiplied by, and the label's entry of the gradient."""
        if self.has_z_loss:
            by_exp, entry = self._partials(row, targets)
            return by_exp * factor, entry * factor
        # By the total first: the weights' own product might be out of range.
        by_exp = targets.label_mass * (factor / row.total)
        if not self.transform.is_linear:
            by_exp = targets.label_mass * self.transform.partial(row) * (factor / row.total)
        return by_exp, -row.other_sum * by_exp

    def _partials(self, row: RowStats, targets: Targets) -> tuple[Array, Array]:
        """Return what makes a gradient of exponentials, q apart, and the reference's entry."""
        q_reference = targets.q_reference
        if targets.label_mass is not None:
            q_reference = q_reference + targets.label_mass * self.transform.partial(row)
        others = q_reference + targets.q_others
        entry = row.reference_partial(q_reference, targets.q_others)
        if self.has_z_loss:
            push = 2 * self.z_loss * self._lse(row, targets)
            others, entry = others + push, entry + push * row.p_reference
        return others / row.total, entry

    def _rounded(self, row: RowStats, rows: Rows, gradient: Array) -> Array:
        """Make gradients exactly 0 where a row does not count, and round them once."""
        backend = row.backend
        if rows.class_valid is not None:
            gradient = backend.scale_rows(gradient, valid=rows.class_valid)
        return backend.cast(backend.scale_rows(gradient, valid=rows.valid), rows.logits.dtype)

    def _gradient_and_curvature(
        self, row: RowStats, targets: Targets, factor: Array | float, *, bound: bool
    ) -> tuple[Array, Array]:
        return gradient_and_curvature(self, row, targets, factor, bound=bound)

    def _target_gradient(self, row: RowStats, targets: Targets, rows: Rows) -> Array:
        return self.smoothing.by_probabilities(row.backend, rows, row.surprisals)

    def _mass(self, row: RowStats, targets: Targets) -> Array:
        """Return G + 2λ·lse, the factor of p in the gradient."""
        mass = targets.q_reference + targets.q_others
        if targets.label_mass is not None:
            mass = mass + targets.label_mass * self.transform.partial(row)
        if not self.has_z_loss:
            return mass
        return mass + 2 * self.z_loss * self._lse(row, targets)
