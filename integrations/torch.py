"""PyTorch's own signatures for this library's losses, functions and modules.

To be imported in place of ``torch.nn.functional`` and ``torch.nn``. Parameters, their order,
defaults and shapes are PyTorch's, numbers and refusals this library's: what that changes is listed
on the documentation's page of PyTorch.
"""

from xp_xent.integrations.torch_functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    nll_loss,
)
from xp_xent.integrations.torch_modules import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    KLDivLoss,
    NLLLoss,
)

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "NLLLoss",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "kl_div",
    "nll_loss",
]
