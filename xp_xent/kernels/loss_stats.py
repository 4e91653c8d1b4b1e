"""What a loss may come with: a named tuple of arrays."""

from typing import Any, NamedTuple

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
        Σ λ·lse² over the rows that count, weighted by sample, before the denominator; 0 without λ.

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
