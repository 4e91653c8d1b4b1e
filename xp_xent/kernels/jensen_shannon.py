"""The Jensen–Shannon divergence of two softmaxes, small to the square of how far they are apart.

With p = softmax(u), q = softmax(v), m = βq + (1 − β)p, R = log(m/q), L = log(m/p), and the
B(a) = a·e^a − e^a + 1 of `log_ratios`, of which no value is negative,

    D = Σ_j f_j         f_j = −βq_j R_j − (1 − β)p_j L_j = m_j·(β·B(−R_j) + (1 − β)·B(−L_j))

for what is added to each half adds up to 0 in every class. With g = −(1 − β)L, h = −βR, and
deviations from means G = g − Σ p_i g_i and H = h − Σ q_i h_i,

    ∂D/∂u_j = p_j G_j       ∂D/∂v_j = q_j H_j       ∂²D/∂u∂u·c = p·(a·ċ − Σ p_i a_i ċ_i)

where ċ = c − Σ p_i c_i and a_j = G_j + β(1 − β)·q_j/m_j.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from xp_xent.kernels.log_ratios import excess, log_mixture, log_mixture_over_rest
from xp_xent.kernels.logit_map import mapped_logits, over_temperature
from xp_xent.kernels.row_stats import RowStats, row_stats
from xp_xent.kernels.rows import Rows, finish_gradient, finish_loss, row_factor, valid_rows
from xp_xent.kernels.softmax_hessian import hessian_by_columns

Array = Any

# In place of an infinite log ratio: its exponential is nothing beside 1, its inverse finite.
_APART = 80.0


class Pair(NamedTuple):
    """Two softmaxes of rows and their mixture; (..., K), the statistics apart."""

    first: RowStats  # of u
    second: RowStats  # of v
    p: Array
    q: Array
    m: Array
    distance: Array  # log(q/p), 0 where neither has mass
    to_p: Array  # L
    to_q: Array  # R
    terms: Array  # f


@dataclass(frozen=True)
class JensenShannon:
    """Formulas of the divergence D; the rows' `probabilities` are the other logits."""

    dtype: Any
    beta: Any = 0.5
    temperature: Any = 1.0
    by_sums: ClassVar[tuple[str, ...]] = ()
    unbounded: ClassVar[str] = (
        "the Hessian of a Jensen-Shannon divergence has entries of both signs in a row"
    )

    def value(self, backend: Any, rows: Rows) -> Array:
        """Compute each row's divergence, (..., 1)."""
        return self._loss(backend, rows, self._pair(backend, rows))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute rows' divergences, and the derivative of Σ cotangent·D by the logits."""
        pair = self._pair(backend, rows)
        return self._loss(backend, rows, pair), self._gradient(backend, rows, cotangent, pair)

    def value_and_target_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute rows' divergences, and the derivative of Σ cotangent·D by the other logits."""
        pair = self._pair(backend, rows)
        gradient = pair.q * self._by_second(pair)
        gradient = self._finished(backend, rows, gradient, cotangent, rows.probabilities)
        return self._loss(backend, rows, pair), gradient

    def value_and_temperature_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Compute rows' divergences, and the derivative of cotangent·D by the temperature.

        It is −(Σ u_j ∂D/∂u_j + Σ v_j ∂D/∂v_j)/T. The two nearly cancel where p and q agree. Their
        sum, f_j − p_j Σ p_i g_i − q_j Σ q_i h_i, is what u_j is multiplied by, beside v_j − u_j.
        """
        pair, xp = self._pair(backend, rows), backend.xp
        first, second, p, q = pair.first, pair.second, pair.p, pair.q
        u, v = (row.z - backend.take_label(row.z, row.reference) for row in (first, second))
        by_u, by_v = p * self._by_first(pair), q * self._by_second(pair)
        means = p * backend.row_sum(p * pair.to_p) * (1 - self.beta)
        means = -(means + q * backend.row_sum(q * pair.to_q) * self.beta)
        near = (xp.abs(pair.distance) < 1) & xp.isfinite(u) & xp.isfinite(v)
        u, v = (xp.where(near | xp.isfinite(x), x, 0.0) for x in (u, v))  # mass 0, or NaN
        together = (pair.terms - means) * u + by_v * (v - u)
        found = backend.row_sum(xp.where(near, together, by_u * u + by_v * v)) / -self.temperature
        return self._loss(backend, rows, pair), backend.scale_rows(
            found, row_factor(rows, cotangent), rows.valid
        )

    def hvp(self, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
        """Compute the Hessian of Σ cotangent·D by the logits times a vector of their shape."""
        pair = self._pair(backend, rows)
        slope = self._slope(backend, pair)
        change = _deviation(pair.first, pair.p, backend.kernel_layout(vector, self.dtype))
        result = pair.p * _deviation(pair.first, pair.p, slope * change)
        result = over_temperature(result, self.temperature)
        return self._finished(backend, rows, result, cotangent, rows.logits)

    def hessian_diagonal(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute the diagonal of the Hessian of Σ cotangent·D by the logits."""
        return self._diagonal(backend, rows, cotangent, self._pair(backend, rows))

    def hessian(self, backend: Any, rows: Rows, cotangent: Array | float) -> Array:
        """Compute each row's Hessian, (..., K²); the classes are last."""
        return hessian_by_columns(self, backend, rows, cotangent)

    def value_gradient_and_curvature(
        self, backend: Any, rows: Rows, cotangent: Array | float, _: bool
    ) -> tuple[Array, Array, Array]:
        """Compute value and gradient, and the diagonal of the Hessian."""
        pair = self._pair(backend, rows)
        return (
            self._loss(backend, rows, pair),
            self._gradient(backend, rows, cotangent, pair),
            self._diagonal(backend, rows, cotangent, pair),
        )

    # The parts

    def _pair(self, backend: Any, rows: Rows) -> Pair:
        xp, beta = backend.xp, self.beta
        others = rows._replace(logits=rows.probabilities)
        first, second = (
            row_stats(backend, mapped_logits(backend, x, self.dtype, None, self.temperature).u,
                      None, self.dtype, need="exps")
            for x in (rows, others)
        )  # fmt: skip
        p, q = +first.probabilities, +second.probabilities
        distance = self._distance(backend, rows, others, first, second, p, q)
        to_p, to_q = log_mixture(xp, beta, distance), log_mixture(xp, 1 - beta, -distance)
        m = beta * q + (1 - beta) * p
        terms = m * (beta * excess(xp, -to_q) + (1 - beta) * excess(xp, -to_p))
        return Pair(first, second, p, q, m, distance, to_p, to_q, terms)

    def _by_first(self, pair: Pair) -> Array:
        """Return G, the deviations of g."""
        found = _sloped(pair.first, self.beta, pair.distance, pair.to_p)
        return _deviation(pair.first, pair.p, -(1 - self.beta) * found)

    def _by_second(self, pair: Pair) -> Array:
        """Return H, the deviations of h."""
        found = _sloped(pair.second, 1 - self.beta, -pair.distance, pair.to_q)
        return _deviation(pair.second, pair.q, -self.beta * found)

    def _distance(
        self,
        backend: Any,
        rows: Rows,
        others: Rows,
        first: RowStats,
        second: RowStats,
        p: Array,
        q: Array,
    ) -> Array:
        """Compute log(q/p), accurate where it is small in the whole row.

        There it is δ_j − log1p(Σ p_i expm1(δ_i)), of differences δ of the logits as they are given.
        """
        xp = backend.xp
        no_p, no_q = first.z == -xp.inf, second.z == -xp.inf
        either = no_p | no_q
        z, w = (valid_rows(backend, x, self.dtype) for x in (rows, others))
        delta = xp.where(either, 0.0, w) - xp.where(either, 0.0, z)
        delta = delta - backend.take_label(delta, first.reference)
        delta = xp.where(either, 0.0, over_temperature(delta, self.temperature))
        small = delta < 1
        growth = backend.row_sum(p * xp.expm1(xp.where(small, delta, 0.0)))
        unlike = backend.cast(~small | (no_p != no_q), self.dtype)
        near = (backend.row_sum(unlike) == 0) & (growth > -0.5)
        within = delta - xp.log1p(xp.where(near, growth, 0.0))
        # Of a masked class it would be an infinity.
        p_level, q_level = (xp.where(either, 0.0, row.surprisals) for row in (first, second))
        distance = xp.where(near, within, p_level - q_level)
        apart = _APART * (backend.cast(no_p, self.dtype) - backend.cast(no_q, self.dtype))
        return xp.where(either, apart, distance) + 0.0 * (p + q)  # NaN in a row of NaN

    @staticmethod
    def _loss(backend: Any, rows: Rows, pair: Pair) -> Array:
        return finish_loss(backend, rows, backend.row_sum(pair.terms))

    def _gradient(self, backend: Any, rows: Rows, cotangent: Array | float, pair: Pair) -> Array:
        """Compute the derivative of Σ cotangent·D by the logits."""
        by_u = pair.p * self._by_first(pair)
        return self._finished(backend, rows, by_u, cotangent, rows.logits)

    def _slope(self, backend: Any, pair: Pair) -> Array:
        """Return a, what the change of the logits is multiplied by."""
        xp, void = backend.xp, pair.m == 0
        own = self.beta * (1 - self.beta) * (pair.q / xp.where(void, 1.0, pair.m))
        return self._by_first(pair) + own

    def _diagonal(self, backend: Any, rows: Rows, cotangent: Array | float, pair: Pair) -> Array:
        """Compute p_j·((1 − p_j)²·a_j + p_j·Σ_{i≠j} p_i a_i)."""
        xp, row, p, slope = backend.xp, pair.first, pair.p, self._slope(backend, pair)
        at_others = row.other_classes_sum(p * slope)
        at_reference = row.p_reference * backend.take_label(slope, row.reference)
        rest = xp.where(row.is_other, at_others - p * slope + at_reference, at_others)
        one_minus_p = xp.where(row.is_other, 1 - p, row.one_minus_p)
        diagonal = p * (one_minus_p * one_minus_p * slope + p * rest)
        diagonal = over_temperature(diagonal, self.temperature)
        return self._finished(backend, rows, diagonal, cotangent, rows.logits)

    def _finished(
        self, backend: Any, rows: Rows, by_u: Array, cotangent: Any, like: Array
    ) -> Array:
        """Turn a derivative by the softmax's logits into one by those that were given."""
        by_logits = over_temperature(by_u, self.temperature)
        result = backend.scale_rows(by_logits, valid=rows.class_valid)
        return finish_gradient(backend, rows, result, cotangent, like)


def _sloped(row: RowStats, share: Any, distance: Array, log: Array) -> Array:
    """Return `log_mixture`, less a number of the row where the largest class is far below."""
    xp = row.xp
    over_rest = log_mixture_over_rest(xp, share, distance)
    return xp.where(row.backend.take_label(distance, row.reference) < -1, over_rest, log)


def _deviation(row: RowStats, p: Array, x: Array) -> Array:
    """Return x − Σ p_i x_i; without cancellation at a class that holds nearly all of p."""
    from_reference = x - row.backend.take_label(x, row.reference)
    return from_reference - row.other_classes_sum(p * from_reference)
