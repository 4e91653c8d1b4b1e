"""What a trainer logs of rows beside their loss: of the statistics that the loss is made of.

For a row with label y, unsmoothed and unweighted, with ties counted as right:

    nll = −log p_y        logsumexp = log Σ exp(u)        correct = (z_y is the largest logit)

Of probabilities q, nll is Σ q_j (−log p_j), and y the first class of the largest.
"""

from typing import Any, NamedTuple

from xp_xent.kernels.row_stats import RowStats
from xp_xent.kernels.rows import Rows, finish_loss, row_factor, valid_rows
from xp_xent.kernels.softmax import Softmax, Targets

Array = Any


class LossStats(NamedTuple):
    """What ``return_stats=True`` gives beside a loss; none of it carries a gradient.

    Parameters
    ----------
    nll : array, shape of the labels
        Negative log-likelihood of each row's label, in nats, without smoothing and weights.
    logsumexp : array, shape of the labels
        log Σ exp of each row's logits, capped and divided by the temperature as in the loss.
    correct : boolean array, shape of the labels
        Whether the label's logit is the largest; ties count.
    z_loss : array, shape ()
        Σ λ·lse² over the rows that count, weighted by sample, before the denominator.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy
    >>> logits, labels = np.asarray([[2.0, 0.0], [1.0, 3.0]]), np.asarray([0, 0])
    >>> loss, stats = cross_entropy(logits, labels, return_stats=True)
    >>> print(stats.correct, round(float(stats.correct.mean()), 2))
    [ True False] 0.5
    """

    nll: Array
    logsumexp: Array
    correct: Array
    z_loss: Array


class SoftmaxWithMetrics(Softmax):
    """The formulas of `Softmax`, whose value comes with nll, logsumexp and correct of each row."""

    def value(self, backend: Any, rows: Rows) -> tuple[Array, ...]:
        """Compute each row's loss, nll, logsumexp and correct, (..., 1)."""
        row, targets = self._stats(backend, rows, "sums", ())
        loss = finish_loss(backend, rows, self._loss(row, targets))
        return loss, *self._metrics(row, targets, rows)

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, ...]:
        """Compute loss and gradient as `Softmax` does, and nll, logsumexp and correct."""
        factor = row_factor(rows, cotangent)
        row, targets = self._stats(backend, rows, "gradient", (factor,))
        loss = finish_loss(backend, rows, self._loss(row, targets))
        metrics = self._metrics(row, targets, rows)
        return loss, self._gradient(row, targets, rows, self._over_temperature(factor)), *metrics

    def _metrics(self, row: RowStats, targets: Targets, rows: Rows) -> tuple[Array, ...]:
        backend, xp = row.backend, row.xp
        if rows.label is None:
            label = xp.argmax(rows.probabilities, axis=backend.class_axis, keepdims=True)
        else:
            label = rows.label
        correct = self._is_largest(row, rows, label)
        nll, lse = self._nll(row, targets, rows), self._lse(row, targets)
        unweighted = rows._replace(row_weight=None)
        nll, lse = (finish_loss(backend, unweighted, x) for x in (nll, lse))
        nll, lse = backend.stop_gradient(nll), backend.stop_gradient(lse)
        correct = correct & ~xp.isnan(nll)
        return nll, lse, correct if rows.valid is None else correct & rows.valid

    def _is_largest(self, row: RowStats, rows: Rows, label: Array) -> Array:
        xp, backend, at_label = row.xp, row.backend, row.reference is rows.label
        if at_label and row.sums.row_max is not None:
            return row.gap >= 0
        z = row.z
        largest = xp.max(z, axis=backend.class_axis, keepdims=True)
        return backend.take_label(z, label) >= largest

    def _nll(self, row: RowStats, targets: Targets, rows: Rows) -> Array:
        xp, backend = row.xp, row.backend
        if rows.label is None:
            q = valid_rows(backend, rows, self.dtype, rows.probabilities)
            return row.cross_entropy(
                q, backend.take_label(q, row.reference), row.other_classes_sum(q)
            )
        if row.reference is rows.label:
            return row.nll
        surprisal = (row.sums.level - backend.take_label(row.z, rows.label)) + row.log_total
        return xp.where(rows.label == row.reference, row.nll, surprisal)
