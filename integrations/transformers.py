"""Losses for the Trainer of Transformers, which count an accumulated batch as the Trainer does."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from xp_xent import cross_entropy, next_token_cross_entropy

_Array = Any

__all__ = ["causal_lm_loss", "classification_loss"]

# What belongs to a batch; and the Trainer counts the labels that are not −100.
_TAKEN = {"ignore_index", "normalizer", "reduction", "return_stats", "sample_weight", "where"}


@dataclass(frozen=True)
class _TrainerLoss:
    """A loss and its options."""

    loss: Callable[..., _Array]
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if taken := _TAKEN & self.options.keys():
            raise TypeError(f"{min(taken)}: the Trainer decides it, got it as an option")
        signature(self.loss).bind(None, None, **self.options)

    def __call__(
        self, outputs: Any, labels: _Array, num_items_in_batch: _Array | int | None = None
    ) -> _Array:
        """Return the loss of a batch, as its part of the accumulated batch."""
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if labels is None:
            raise TypeError("labels: got None, wanted a column `labels` in the training data")
        labels = labels.to(logits.device)  # a model on several devices ends on another
        count = _number(num_items_in_batch, logits)
        if count is not None and labels.is_floating_point():
            classes = logits.shape[self.options.get("axis", -1)]
            count = count / classes  # the Trainer counted each probability
        return self.loss(logits, labels, normalizer=count, **self.options)


def _number(count: Any, logits: _Array) -> Any:
    """Return the count as one number beside the logits; DataParallel's is repeated for each GPU."""
    return count.reshape(-1)[0].to(logits.device) if hasattr(count, "reshape") else count


def causal_lm_loss(**options: Any) -> Callable[..., _Array]:
    """Make a ``compute_loss_func`` of a causal language model.

    Parameters
    ----------
    **options
        Options of `next_token_cross_entropy`: ``label_smoothing``, ``z_loss``, ``softcap``,
        ``temperature``, ``weight`` …; not those of a batch, nor ``ignore_index``, since the Trainer
        counts the labels that are not −100.

    Returns
    -------
    callable
        ``loss(outputs, labels, num_items_in_batch=None)`` for
        ``transformers.Trainer(compute_loss_func=)``, of logits (N, T, V) and labels (N, T), which
        are shifted here. The sum of the losses over `num_items_in_batch`, the number of labels in
        all batches that are accumulated; without it, the mean. It can be pickled.

    Raises
    ------
    TypeError
        An option that is unknown or not to be chosen; when called, without labels.
    ValueError
        When called: as in `next_token_cross_entropy`.

    See Also
    --------
    classification_loss : labels that belong to the logits at their own position.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.transformers import causal_lm_loss
    >>> loss = causal_lm_loss(z_loss=1e-4)
    >>> outputs = {"logits": torch.zeros(2, 5, 256)}
    >>> tokens = torch.tensor([[72, 101, 108, 108, 111], [72, 105, -100, -100, -100]])
    >>> print(f"{loss(outputs, tokens):.4f}")
    5.5483
    >>> print(f"{loss(outputs, tokens, num_items_in_batch=torch.tensor(10)):.4f}")
    2.7741
    """
    return _TrainerLoss(next_token_cross_entropy, options)


def classification_loss(**options: Any) -> Callable[..., _Array]:
    """Make a ``compute_loss_func`` of classes: of sequences, tokens, images, masked tokens.

    Parameters
    ----------
    **options
        Options of `cross_entropy`, but for those that `causal_lm_loss` refuses.

    Returns
    -------
    callable
        As that of `causal_lm_loss`, of logits (..., K) and labels (...), or probabilities
        (..., K), of which the Trainer counts each entry and the loss each row; K along ``axis``.

    Raises
    ------
    TypeError, ValueError
        As in `causal_lm_loss`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.transformers import classification_loss
    >>> loss = classification_loss(label_smoothing=0.1)
    >>> outputs = {"logits": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
    >>> print(f"{loss(outputs, torch.tensor([0, 1])):.4f}")
    0.2951
    """
    return _TrainerLoss(cross_entropy, options)
