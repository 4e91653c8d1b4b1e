"""What a trainer logs of rows beside their loss: of the statistics that the loss is made of.

For a row with label y, unsmoothed and unweighted, with ties counted as right:

    nll = −log p_y        logsumexp = log Σ exp(u)        correct = (z_y is the largest logit)

Of probabilities q, nll is Σ q_j (−log p_j), and y the first class of the largest.
"""

from collections.abc import Callable, Sequence
from typing import Any

from xp_xent.kernels.elementary import product
from xp_xent.kernels.loss_stats import LossStats
from xp_xent.kernels.row_stats import RowStats
from xp_xent.kernels.rows import Rows, finish_loss, valid_rows

Array = Any


def row_metrics(kernel: Any, row: RowStats, targets: Any, rows: Rows) -> tuple[Array, ...]:
    """Return nll, logsumexp and correct of each row, (..., 1), constant to differentiation."""
    backend = row.backend
    label = backend._row_argmax(rows.probabilities) if rows.label is None else rows.label
    nll, lse = _nll(kernel, row, rows), kernel._lse(row, targets)
    if rows.weighted:
        unweighted = rows._replace(row_weight=None)
        nll, lse = finish_loss(backend, unweighted, nll), finish_loss(backend, unweighted, lse)
    nll, lse = backend.stop_gradient(nll), backend.stop_gradient(lse)
    correct = _is_largest(row, label)
    if rows.weighted:
        correct = correct & (nll >= 0)  # no NaN, of a label out of range
        correct = correct if rows.valid is None else correct & rows.valid
    return nll, lse, correct


def _is_largest(row: RowStats, label: Array) -> Array:
    backend, reference = row.backend, row.reference
    if label is reference:
        return backend._at_largest(row.sums)
    # The reference is the largest class.
    return backend.take_label(row.z, label) >= backend.take_label(row.z, reference)


def _nll(kernel: Any, row: RowStats, rows: Rows) -> Array:
    xp, backend = row.xp, row.backend
    if rows.label is None:
        q = valid_rows(backend, rows, kernel.dtype, rows.probabilities)
        return row.cross_entropy(q, backend.take_label(q, row.reference), row.other_classes_sum(q))
    if row.reference is rows.label:
        return +row.nll  # not in the memory of the loss
    surprisal = (row.sums.level - backend.take_label(row.z, rows.label)) + row.log_total
    return xp.where(rows.label == row.reference, row.nll, surprisal)


def loss_stats(
    evaluation: Any, metrics: Sequence[Array], from_column: Callable[[Array], Array]
) -> LossStats:
    """Return metrics (..., 1) of rows as the user sees them, and the penalty's sum."""
    nll, lse, correct = map(from_column, metrics)
    kernel, backend = evaluation.kernel, evaluation.plan.backend
    if not kernel.has_z_loss:
        return LossStats(nll, lse, correct, backend.full((), 0.0, kernel.dtype, like=lse))
    by_row = kernel.z_loss * lse * lse
    if (weight := evaluation.rows.row_weight) is not None:
        by_row = product(backend.xp, from_column(weight), by_row)
    return LossStats(nll, lse, correct, backend.stop_gradient(backend.total(by_row)))
