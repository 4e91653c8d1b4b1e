"""Metrics of TorchMetrics: mean cross-entropy and perplexity, over batches and processes."""

from inspect import signature
from typing import Any

import torch
from torchmetrics import Metric

from xp_xent import cross_entropy

_Array = Any

__all__ = ["CrossEntropy", "Perplexity"]

# The first two belong to a batch; the others are no part of a mean over tokens.
_TAKEN = {"sample_weight", "where", "normalizer", "reduction", "return_stats", "weight"}


class CrossEntropy(Metric):
    """The mean cross-entropy of all batches of all processes.

    Its states are two sums in float64, as a `LossAccumulator` has them, which processes add up.
    Nothing here carries a gradient.

    Parameters
    ----------
    metric_options : dict, optional
        Options of ``torchmetrics.Metric``: ``sync_on_compute``, ``dist_sync_on_step`` …
    **options
        Options of `cross_entropy`: ``axis``, ``ignore_index``, ``label_smoothing`` …; not
        ``weight``, nor those of a batch, which `update` takes, nor those of the reduction.

    Raises
    ------
    TypeError
        An option that is unknown or not to be chosen.

    See Also
    --------
    Perplexity : its exponential.
    xp_xent.LossAccumulator : the same of any array library, without TorchMetrics.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torchmetrics import CrossEntropy
    >>> metric = CrossEntropy()
    >>> for rows in (3, 5):
    ...     metric.update(torch.zeros(rows, 10), torch.arange(rows))
    >>> print(f"{metric.compute():.6f}")
    2.302585
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, *, metric_options: dict[str, Any] | None = None, **options: Any) -> None:
        if taken := _TAKEN & options.keys():
            raise TypeError(f"{min(taken)}: it is no option of this metric")
        signature(cross_entropy).bind(None, None, **options)
        super().__init__(**(metric_options or {}))
        self.options = options
        for name in ("total", "count"):
            zero = torch.zeros((), dtype=torch.float64)
            self.add_state(name, default=zero, dist_reduce_fx="sum")

    def update(
        self,
        logits: _Array,
        targets: _Array,
        sample_weight: _Array | None = None,
        where: _Array | None = None,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        logits, targets, sample_weight, where : tensor
            As in `cross_entropy`.
        """
        losses = cross_entropy(
            logits.detach(), targets, sample_weight=sample_weight, where=where, reduction="none",
            **self.options,
        )  # fmt: skip
        shares = torch.ones_like(losses, dtype=torch.float64)
        if sample_weight is not None:
            shares = shares * sample_weight
        if where is not None:
            shares = torch.where(where != 0, shares, 0.0)
        ignored = self.options.get("ignore_index", -100)
        if ignored is not None and not targets.is_floating_point():
            shares = torch.where(targets == ignored, 0.0, shares)
        self.total += losses.sum(dtype=torch.float64)
        self.count += shares.sum()

    def compute(self) -> _Array:
        """Return the mean in nats, a 0-d float64 tensor; NaN where nothing counted."""
        return self.total / self.count


class Perplexity(CrossEntropy):
    """The exponential of the mean cross-entropy of all batches of all processes.

    Parameters
    ----------
    metric_options, **options
        As in `CrossEntropy`.

    Raises
    ------
    TypeError
        As in `CrossEntropy`.

    See Also
    --------
    xp_xent.perplexity : that of one batch, or of each of its sequences.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torchmetrics import Perplexity
    >>> metric = Perplexity()
    >>> metric.update(torch.zeros(2, 3, 100), torch.tensor([[0, 1, 2], [3, 4, -100]]))
    >>> print(f"{metric.compute():.4f}")
    100.0000
    """

    def compute(self) -> _Array:
        """Return the perplexity, a 0-d float64 tensor; NaN where nothing counted."""
        return super().compute().exp()
