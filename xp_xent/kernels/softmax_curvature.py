"""Second derivatives of the loss of rows of logits, of the parts that `softmax` makes.

With the gradient of `softmax` and the Hessian of `softmax_hessian`, both by u, and slopes s_j of a
soft cap c, u = c(z)/T:

    ∂²L/∂z_i∂z_j = s_i s_j ∂²L/∂u_i∂u_j / T² + δ_ij c''(z_j) ∂L/∂u_j / T
"""

from typing import Any

from xp_xent.kernels.row_stats import RowStats, StatsWithoutMax, row_stats
from xp_xent.kernels.rows import Rows, finish_gradient
from xp_xent.kernels.softmax_hessian import Hessian, plain_gradient_and_curvature

Array = Any


def hvp(kernel: Any, backend: Any, rows: Rows, cotangent: Array | float, vector: Array) -> Array:
    """Compute the Hessian of Σ cotangent·loss times a vector of the logits' shape."""
    row, targets = kernel._stats(backend, rows, "exps")
    vector, of = backend.kernel_layout(vector, kernel.dtype), targets.of
    change = vector if of.slope is None else vector * of.slope  # of capped logits
    # Only differences of the vector matter; taken from the largest class, nothing cancels.
    top = row_stats(backend, row.z, None, kernel.dtype)
    p, at_top = top.probabilities, backend.take_label(change, top.reference)
    change = change - at_top
    mean = top.other_classes_sum(p * change)
    result = kernel._mass(row, targets) * (p * (change - mean))
    if kernel.has_z_loss:
        result = result + 2 * kernel.z_loss * (mean + at_top) * p
    if not kernel.transform.is_linear:
        by_label = _label_distance(top, rows)
        result = result + _second(kernel, row, targets, change) * by_label
    result = kernel._over_temperature(kernel._over_temperature(result))
    if of.slope is not None:
        by_capped = kernel._by_softmax_logits(row, targets, kernel._over_temperature(1.0))
        result = result * of.slope + by_capped * _cap_second(of) * vector
    result = backend.scale_rows(result, valid=rows.class_valid)
    return finish_gradient(backend, rows, result, cotangent)


def gradient_and_curvature(
    kernel: Any, row: RowStats, targets: Any, factor: Array | float, *, bound: bool
) -> tuple[Array, Array]:
    """Compute the derivative by capped logits, and the curvature by the logits themselves.

    It uses up the exponentials of the row.
    """
    backend = row.backend
    plain = not (kernel.maps_logits or kernel.has_z_loss)
    if isinstance(row, StatsWithoutMax) and plain:
        return plain_gradient_and_curvature(row, targets.label_mass, factor, bound=bound)
    hessian, of = hessian_of(kernel, row, targets), targets.of
    factor = kernel._over_temperature(factor)
    twice = kernel._over_temperature(factor)
    curvature = backend.scale_rows(hessian.diagonal(), twice)
    off_diagonal = backend.scale_rows(hessian.off_diagonal(), abs(twice)) if bound else None
    gradient = kernel._by_softmax_logits(row, targets, factor)
    if of.slope is not None:
        curvature = curvature + gradient * _cap_second(of)
    return gradient, curvature if off_diagonal is None else abs(curvature) + off_diagonal


def hessian_of(kernel: Any, row: RowStats, targets: Any) -> Hessian:
    """Return the Hessian by the logits of the softmax."""
    second, scale = None, 1.0
    if not kernel.transform.is_linear:
        second = targets.label_mass * kernel.transform.second(row)
        scale = kernel.transform.scale(row)
    push, mass = 2 * kernel.z_loss, kernel._mass(row, targets)
    return Hessian(row, mass, push, second, scale, targets.of.slope)


def _second(kernel: Any, row: RowStats, targets: Any, change: Array) -> Array:
    """Compute a·f''(ℓ_y) times the change of ℓ_y, which is scaled first."""
    backend, transform = row.backend, kernel.transform
    by_label = change - backend.take_label(change, row.reference)
    of_nll = backend.row_sum(row.probabilities * by_label) / transform.scale(row)
    return targets.label_mass * transform.second(row) * of_nll


def _label_distance(top: RowStats, rows: Rows) -> Array:
    """Compute p − δ_y, the derivative of ℓ_y."""
    xp, p, backend = top.xp, top.probabilities, top.backend
    below = backend.take_label(p, rows.label) - 1
    at_label = xp.where(rows.label == top.reference, -top.one_minus_p, below)
    return backend.set_at_label(p, rows.label, at_label)


def _cap_second(of: Any) -> Array:
    """Return the second derivative of the capped logits by the logits."""
    return -2 * of.cap * of.slope
