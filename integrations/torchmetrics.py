"""Metrics of TorchMetrics: mean cross-entropy and perplexity, over batches and processes."""

from inspect import signature
from typing import Any

import torch
from torchmetrics import Metric

from xp_xent import LossAccumulator, cross_entropy

_Array = Any

__all__ = ["CrossEntropy", "Perplexity"]

# The first two belong to a batch; the others are no part of a mean over tokens.
_TAKEN = {"sample_weight", "where", "normalizer", "reduction", "return_stats", "weight"}


class CrossEntropy(Metric):
    """The mean cross-entropy of all batches of all processes.

    Its state is a `LossAccumulator` as bytes: exact sums, so that neither the order of batches nor
    the number of processes changes a bit of the result. Nothing here carries a gradient; `update`
    copies each batch's losses, one a row, to host memory.

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
    sums: torch.Tensor

    def __init__(self, *, metric_options: dict[str, Any] | None = None, **options: Any) -> None:
        if taken := _TAKEN & options.keys():
            raise TypeError(f"{min(taken)}: it is no option of this metric")
        signature(cross_entropy).bind(None, None, **options)
        super().__init__(**(metric_options or {}))
        self.options = options
        self.add_state("sums", default=_sums(LossAccumulator()), dist_reduce_fx=_merged)

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
        self.sums = _sums(self.accumulator.update(losses, shares)).to(self.sums.device)

    @property
    def accumulator(self) -> LossAccumulator:
        """The sums so far: of all processes inside ``sync_context``, else of this one."""
        return _accumulator(self.sums)

    def compute(self) -> _Array:
        """Return the mean in nats, a 0-d float64 tensor; NaN where nothing counted."""
        return self._on_device(self.accumulator.mean)

    def _on_device(self, value: float) -> _Array:
        return torch.tensor(value, dtype=torch.float64, device=self.sums.device)


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
        return self._on_device(self.accumulator.perplexity)


def _sums(total: LossAccumulator) -> _Array:
    return torch.frombuffer(bytearray(total.to_bytes()), dtype=torch.uint8)


def _accumulator(sums: _Array) -> LossAccumulator:
    return LossAccumulator.from_bytes(sums.cpu().numpy().tobytes())


def _merged(gathered: _Array) -> _Array:
    """Return the sum of states that were gathered, one a row."""
    return _sums(sum(map(_accumulator, gathered), LossAccumulator())).to(gathered.device)
