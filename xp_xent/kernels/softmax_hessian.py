"""The Hessian of a row's loss by its logits: its diagonal, what is off it, and its magnitudes.

By the capped logits, with d = p − δ_y and the names of `softmax`,

    H = c·(diag p − p pᵀ) + 2λ·p pᵀ + b·d dᵀ        c = G + 2λ·lse        b = a·f''(ℓ_y)

Beside the diagonal the entries of a row have one sign, that of the label's column apart, so that
the sum of their magnitudes takes no more than a number a class. Where b is 0, with slopes s of a
soft cap, it is

    |2λ − c|·s_j p_j Σ_{k≠j} s_k p_k

and otherwise, where there is neither λ nor a cap,

    |b − c|·p_j Σ_{k≠j,y} p_k + p_j·|c·p_y + b·(1 − p_y)|        j ≠ y
    (1 − p_y)·|c·p_y + b·(1 − p_y)|                              j = y

Sums over k ≠ j are not what is left of 1, but of positive terms, where p_j holds most of it.
"""

from typing import Any, NamedTuple

from xp_xent.backends._numbers import is_zero

Array = Any


class Hessian(NamedTuple):
    """The Hessian of rows; but for `entries`, no more than a number a class is ever made of it."""

    row: Any  # RowStats
    mass: Any  # c, (..., 1) or a number
    push: Any  # 2λ
    second: Any  # b·scale, (..., 1), for rows seen from their labels; None where b is 0
    scale: Any  # (..., 1) or a number, of the order of 1 − p_y, or 1
    slope: Array | None  # of the soft cap, (..., K)

    def diagonal(self) -> Array:
        """Return H_jj, less what the second derivative of a soft cap adds."""
        row, backend = self.row, self.row.backend
        result = backend.scale_rows(self._variance(), self.mass)
        if not is_zero(self.push):
            p = row.probabilities
            result = result + self.push * p * p
        if self.second is not None:
            distance = backend.set_at_label(row.probabilities, row.reference, -row.one_minus_p)
            result = result + self.second * (distance / self.scale) * distance
        return result if self.slope is None else result * self.slope * self.slope

    def entries(self, factor: Array | float) -> Array:
        """Return factor·H_jk off the diagonal, (..., K, K), with the classes along the last axis.

        Both entries of a pair have the same bits: each product is of a class's own two numbers.
        """
        row, xp = self.row, self.row.xp
        p = row.probabilities if self.slope is None else row.probabilities * self.slope
        result = outer(p) * _of_matrix((self.push - self.mass) * factor)
        if self.second is None:
            return result
        # The scale is shared by the two distances, as each square of one might underflow.
        distance = row.backend.set_at_label(row.probabilities, row.reference, -row.one_minus_p)
        scale = self.scale if isinstance(self.scale, float) else xp.sqrt(self.scale)
        return result + outer(distance / scale) * _of_matrix(self.second * factor)

    def off_diagonal(self) -> Array:
        """Return Σ_{k≠j} |H_jk|."""
        if self.second is not None:
            return self._off_diagonal_of_transform()
        row, backend = self.row, self.row.backend
        if self.slope is None:
            found = self._variance()
        else:
            p_capped = row.p_reference * backend.take_label(self.slope, row.reference)
            p = row.exps * self.slope / row.total
            other_sum = backend.row_sum(p)
            found = backend.scale_rows(backend.other_sums(+p, p_capped, other_sum + p_capped), p)
            found = backend.set_at_label(found, row.reference, p_capped * other_sum)
        return backend.scale_rows(found, abs(self.push - self.mass))

    def _variance(self) -> Array:
        """Return p(1 − p)."""
        row, backend = self.row, self.row.backend
        p = row.exps / row.total  # 0 at the reference
        found = backend.scale_rows(backend.other_sums(+p, row.p_reference), p)
        return backend.set_at_label(found, row.reference, row.p_reference * row.one_minus_p)

    def _off_diagonal_of_transform(self) -> Array:
        row, backend = self.row, self.row.backend
        second = self.second * (row.one_minus_p / self.scale)
        by_label = abs(self.mass * row.p_reference + second)
        # Parts of 1 − p_y relative to it, for their squares might underflow.
        scaled = row.exps / row.xp.where(row.other_sum == 0, 1.0, row.other_sum)
        factor = abs(second - self.mass * row.one_minus_p) * row.one_minus_p
        others = factor * scaled * backend.other_sums(+scaled, 0.0)
        p = backend.set_at_label(row.probabilities, row.reference, row.one_minus_p)
        return others + by_label * p


def outer(x: Array) -> Array:
    """Return x_j x_k of rows (..., K)."""
    return x[..., :, None] * x[..., None, :]


def _of_matrix(x: Any) -> Any:
    """View one number a row (..., 1) as (..., 1, 1)."""
    return x[..., None] if hasattr(x, "shape") and len(x.shape) else x


def with_diagonal(backend: Any, matrix: Array, diagonal: Array) -> Array:
    """Return matrices (..., K, K) with another diagonal (..., K), each as one row (..., K²)."""
    xp, index = backend.xp, backend.indices(diagonal, -1)
    index = xp.reshape(index, (-1,))
    at_diagonal = index[:, None] == index[None, :]
    matrix = xp.where(at_diagonal, diagonal[..., None], matrix)
    return xp.reshape(matrix, (*diagonal.shape[:-1], diagonal.shape[-1] ** 2))


def hessian_by_columns(kernel: Any, backend: Any, rows: Any, cotangent: Array | float) -> Array:
    """Return matrices (..., K²), of products with unit vectors."""
    xp, diagonal = backend.xp, kernel.hessian_diagonal(backend, rows, cotangent)
    index = backend.indices(diagonal, -1)
    columns = []
    for place in range(diagonal.shape[-1]):
        unit = xp.zeros_like(diagonal) + backend.cast(index == place, diagonal.dtype)
        columns.append(kernel.hvp(backend, rows, cotangent, unit))
    matrix = xp.stack(columns, axis=-1)
    # Symmetric to the last bit: of two entries, their mean.
    matrix = (matrix + xp.matrix_transpose(matrix)) / 2
    return with_diagonal(backend, matrix, diagonal)


def plain_gradient_and_curvature(
    row: Any, mass: Array | float, factor: Array | float, *, bound: bool
) -> tuple[Array, Array]:
    """Return mass·factor·(p − δ), and of p(1 − p) or, as a `bound`, the magnitude of its double.

    It uses up the exponentials of the row, and makes both of one product with them. The factors
    are not so small that their quotient overflows.
    """
    xp, backend, p_reference, whole = row.xp, row.backend, row.p_reference, mass * factor
    times = 2.0 if bound else 1.0
    # By the total first: the weights' own product might be out of range.
    scaled = mass * (factor / row.total)
    flow = backend.scale_rows(row.exps, scaled)
    known = isinstance(whole, float)
    by = (whole or 1.0) if known else xp.where(whole == 0, 1.0, whole)
    at_reference = 2 * p_reference if bound else p_reference
    others = backend.other_sums(flow / (by / times), at_reference, times)
    # At the label, where these are all, its own entry takes the gradient's place for a moment.
    flow = backend.set_at_label(flow, row.place, (p_reference * whole) * row.one_minus_p)
    curvature = backend.scale_rows(others, flow)
    if bound and not (known and whole > 0):
        curvature = abs(curvature)
    return backend.set_at_label(flow, row.place, -row.other_sum * scaled), curvature
