"""Cross-entropy of a language model's next tokens."""

from typing import Any

from xp_xent.flow.execute import compute
from xp_xent.flow.plan import public
from xp_xent.flow.prepare import SOFTMAX_NUMBERS, NextTokenLoss, softmax_kernel

Array = Any

__all__ = ["next_token_cross_entropy"]


_NEXT_TOKEN = NextTokenLoss(softmax_kernel, ("logits", "tokens"), ranges=SOFTMAX_NUMBERS)


@public(_NEXT_TOKEN)
def next_token_cross_entropy(
    logits: Array,
    tokens: Array,
    /,
    *,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    class_where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float | Array = 0.0,
    smoothing: str = "uniform",
    z_loss: float | Array = 0.0,
    softcap: float | Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
    return_stats: bool = False,
) -> Array:
    r"""Cross-entropy of a language model: the logits at position t predict the token at t + 1.

    For tokens x_1 … x_T the losses are

    .. math:: -\log \mathrm{softmax}(z_t)_{x_{t+1}}, \qquad t = 1, \ldots, T - 1.

    The logits are not sliced, padded or copied; the tokens are shifted.

    Parameters
    ----------
    logits : array, shape (..., T, V)
        A row of logits over the vocabulary for each position. The last row predicts nothing that
        is known: it has no loss, and its gradient is 0.
    tokens : integer array, shape (..., T)
        The tokens that the model read.
    sample_weight, where : array, shape (..., T), optional
        As in `cross_entropy`, given for the token that is predicted; the first position is unused.
    class_where : boolean array, optional
        As in `cross_entropy`: it broadcasts against the logits, whose positions predict.
    weight, ignore_index, label_smoothing, smoothing, z_loss, softcap, temperature
        As in `cross_entropy`.
    reduction, normalizer, return_stats
        As in `cross_entropy`.

    Returns
    -------
    array
        The loss in nats a token; of shape (..., T − 1) with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

    See Also
    --------
    xp_xent.perplexity : the exponential of a mean cross-entropy.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import next_token_cross_entropy
    >>> logits = np.zeros((1, 4, 256))
    >>> tokens = np.asarray([[72, 105, 33, 10]])
    >>> print(round(float(next_token_cross_entropy(logits, tokens)), 6))
    5.545177
    """
    options = {
        "weight": weight, "sample_weight": sample_weight, "where": where,
        "class_where": class_where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "smoothing": smoothing, "z_loss": z_loss,
        "softcap": softcap, "temperature": temperature, "reduction": reduction,
        "normalizer": normalizer, "return_stats": return_stats,
    }  # fmt: skip
    return compute(_NEXT_TOKEN, None, (logits, tokens), options)
