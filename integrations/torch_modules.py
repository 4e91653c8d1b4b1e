# ruff: noqa: A002 (PyTorch's names of arguments)
"""PyTorch's modules of losses with a `forward` of this library's; all else is inherited."""

import torch
from torch import Tensor

from xp_xent.integrations.torch_functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    nll_loss,
)

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "KLDivLoss", "NLLLoss"]


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """``torch.nn.CrossEntropyLoss`` that computes `cross_entropy` of this module.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction, label_smoothing
        As in `cross_entropy`. The weights are a buffer, as PyTorch's are.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import CrossEntropyLoss
    >>> criterion = CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
    >>> criterion(torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss."""
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(torch.nn.NLLLoss):
    """``torch.nn.NLLLoss`` that computes `nll_loss` of this module.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction
        As in `nll_loss`. The weights are a buffer, as PyTorch's are.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import NLLLoss
    >>> NLLLoss()(torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([0]))
    tensor(0.3567)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss."""
        return nll_loss(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """``torch.nn.BCEWithLogitsLoss`` that computes this module's function.

    Parameters
    ----------
    weight, size_average, reduce, reduction, pos_weight
        As in `binary_cross_entropy_with_logits`. Both weights are buffers, as PyTorch's are.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import BCEWithLogitsLoss
    >>> BCEWithLogitsLoss()(torch.zeros(2), torch.tensor([0.0, 1.0]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss."""
        return binary_cross_entropy_with_logits(
            input,
            target,
            weight=self.weight,
            reduction=self.reduction,
            pos_weight=self.pos_weight,
        )


class KLDivLoss(torch.nn.KLDivLoss):
    """``torch.nn.KLDivLoss`` that computes `kl_div` of this module.

    Parameters
    ----------
    size_average, reduce, reduction, log_target
        As in `kl_div`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import KLDivLoss
    >>> KLDivLoss(reduction="batchmean")(torch.full((1, 4), 0.25).log(), torch.eye(4)[:1])
    tensor(1.3863)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the divergence."""
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
