"""Cross-entropy of a language model's next tokens."""

from typing import Any

from xp_xent.flow import checks as check
from xp_xent.flow.execute import compute
from xp_xent.flow.plan import RowPlan, public
from xp_xent.flow.prepare import SOFTMAX_NUMBERS, RowLoss, softmax_kernel
from xp_xent.flow.validate import common_backend

Array = Any

__all__ = ["next_token_cross_entropy"]


class _NextTokenPlan(RowPlan):
    """Hide the last position, which predicts nothing, from what the user sees of the losses."""

    def losses_shape(self) -> tuple[int, ...]:
        length: Any = self.rows_shape[-1]
        if length is None or check.known(length, 0):
            return self.rows_shape
        return (*self.rows_shape[:-1], length - 1)

    def from_column(self, losses: Array) -> Array:
        found = super().from_column(losses)
        # Without a position there is none to hide.
        return found if check.known(found.shape[-1], 0) else found[..., :-1]

    def cotangent_to_column(self, cotangent: Array) -> Array:
        xp = self.backend.xp
        padding = xp.zeros_like(xp.sum(cotangent, axis=-1, keepdims=True))
        return super().cotangent_to_column(xp.concat([cotangent, padding], axis=-1))


class _NextTokenLoss(RowLoss):
    """Each position's label is the token after it; so are its weight and whether it counts."""

    shift = 1
    plan_type = _NextTokenPlan

    def validate(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> RowPlan:
        logits, tokens = arrays
        optional = {name: options[name] for name in ("sample_weight", "where")}
        given = {name: array for name, array in optional.items() if array is not None}
        common_backend(logits=logits, tokens=tokens, **given)
        check.labels("tokens", tokens)
        if len(logits.shape) < 2:
            raise ValueError(f"logits: got shape {tuple(logits.shape)}, wanted (..., T, V)")
        for name, array in {"tokens": tokens, **given}.items():
            check.shape(name, array, logits.shape[:-1], "the logits' without the vocabulary")
        plan = super().validate(arrays, options | {"axis": -1})
        plan.reduction = None  # each text has a position that does not count
        return plan

    def aligned(
        self, plan: RowPlan, tokens: Array, options: dict[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        where, sample_weight, xp = options["where"], options["sample_weight"], plan.backend.xp
        predicts = xp.ones_like(tokens, dtype=xp.bool)
        if not check.known(tokens.shape[-1], 0):
            predicts = xp.concat([predicts[..., 1:], ~predicts[..., :1]], axis=-1)
        if where is not None:
            predicts = predicts & _following(xp, where)
        if sample_weight is not None:
            sample_weight = _following(xp, sample_weight)
        options = options | {"where": predicts, "sample_weight": sample_weight}
        return _following(xp, tokens), options


_NEXT_TOKEN = _NextTokenLoss(softmax_kernel, ("logits", "tokens"), numbers=SOFTMAX_NUMBERS)


@public(_NEXT_TOKEN)
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
) -> Array:
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
    options = {
        "weight": weight, "sample_weight": sample_weight, "where": where,
        "ignore_index": ignore_index, "label_smoothing": label_smoothing, "smoothing": smoothing,
        "z_loss": z_loss, "softcap": softcap, "reduction": reduction, "normalizer": normalizer,
    }  # fmt: skip
    return compute(_NEXT_TOKEN, None, (logits, tokens), options)


def _following(xp: Any, array: Array) -> Array:
    """Return each position what the next one has, and the last, which is not used, the first's.

    It is a roll; but PyTorch's asks if there is any position, which a compiler may not know.
    """
    if check.known(array.shape[-1], 0):
        return array
    return xp.concat([array[..., 1:], array[..., :1]], axis=-1)
