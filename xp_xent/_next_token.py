"""Cross-entropy of a language model's next tokens."""

from typing import Any

from xp_xent import _checks as check
from xp_xent._cross_entropy import softmax_kernel
from xp_xent._evaluation import Evaluation, loss
from xp_xent._layout import Layout
from xp_xent._problem import RowOptions
from xp_xent._targets import softmax_evaluation
from xp_xent.backends import backend_of

Array = Any

__all__ = ["next_token_cross_entropy"]


@loss
def next_token_cross_entropy(
    logits: Array,
    tokens: Array,
    /,
    *,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    where: Array | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    smoothing: str = "uniform",
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
    normalizer: float | Array | None = None,
) -> Evaluation:
    """Cross-entropy of a language model: the logits at position t predict the token at t + 1.

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
    weight, ignore_index, label_smoothing, smoothing, z_loss, softcap, reduction, normalizer
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
    optional = {"sample_weight": sample_weight, "where": where}
    given = {name: array for name, array in optional.items() if array is not None}
    backend = backend_of(logits=logits, tokens=tokens, **given)
    xp = backend.xp
    check.labels("tokens", tokens)
    if len(logits.shape) < 2:
        raise ValueError(f"logits: got shape {tuple(logits.shape)}, wanted (..., T, V)")
    for name, array in {"tokens": tokens, **given}.items():
        check.shape(name, array, logits.shape[:-1], "the logits' without the vocabulary")
    length = logits.shape[-2]
    predicts = xp.broadcast_to(backend.arange(length, like=tokens) < length - 1, tokens.shape)
    if where is not None:
        check.boolean("where", where)
        predicts = predicts & _following(xp, where)
    if sample_weight is not None:
        sample_weight = _following(xp, sample_weight)
    found = softmax_evaluation(
        logits,
        _following(xp, tokens),
        -1,
        RowOptions(
            weight, sample_weight, predicts, ignore_index, reduction, normalizer, shifted=True
        ),
        softmax_kernel(z_loss, softcap),
        label_smoothing=label_smoothing,
        smoothing=smoothing,
        names=("logits", "tokens"),
    )
    return found._replace(layout=_NextTokens(xp, found.layout.axis))


def _following(xp: Any, array: Array) -> Array:
    """Give each position what the next one has, and the last, which is not used, the first's.

    It is a roll; but PyTorch's asks if there is any position, which a compiler may not know.
    """
    if check.known(array.shape[-1], 0):
        return array
    return xp.concat([array[..., 1:], array[..., :1]], axis=-1)


class _NextTokens(Layout):
    """Hides the last position, which predicts nothing, from what the user sees of the losses."""

    def losses_shape(self, rows: Array) -> tuple[int, ...]:
        return tuple(self.losses_outward(rows[..., :1]).shape)

    def losses_outward(self, losses: Array) -> Array:
        found = super().losses_outward(losses)
        # Without a position there is none to hide.
        return found if check.known(found.shape[-1], 0) else found[..., :-1]

    def cotangent_inward(self, cotangent: Array) -> Array:
        padding = self.xp.zeros_like(self.xp.sum(cotangent, axis=-1, keepdims=True))
        return super().cotangent_inward(self.xp.concat([cotangent, padding], axis=-1))
