"""The cross-entropy loss that any array library can call.

One implementation, written against the Python array API, for NumPy, PyTorch, JAX, CuPy, dpnp and
every library that registers a backend. Importing it imports no framework.
"""

from xp_xent.backends._threads import threads
from xp_xent.diagnosis.findings import Finding
from xp_xent.functions.accumulate import LossAccumulator
from xp_xent.functions.class_weights import (
    balanced_class_weights,
    effective_number_weights,
    positive_class_weight,
)
from xp_xent.functions.configured import BCEWithLogitsLoss, CrossEntropyLoss
from xp_xent.functions.derivatives import (
    hessian,
    hessian_diagonal,
    hvp,
    value_and_grad,
    value_grad_and_hessian_diagonal,
)
from xp_xent.functions.diagnose import diagnose
from xp_xent.functions.maps import log_sigmoid, log_softmax, logsumexp, sigmoid, softmax
from xp_xent.functions.metrics import bits_per_byte, perplexity
from xp_xent.kernels.loss_stats import LossStats
from xp_xent.losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    sigmoid_focal_loss,
)
from xp_xent.losses.cross_entropy import cross_entropy, nll_loss
from xp_xent.losses.divergence import entropy, jensen_shannon_divergence, kl_divergence
from xp_xent.losses.focal import poly_cross_entropy, softmax_focal_loss
from xp_xent.losses.linear import linear_cross_entropy
from xp_xent.losses.next_token import next_token_cross_entropy

__version__ = "0.1.0"

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Finding",
    "LossAccumulator",
    "LossStats",
    "balanced_class_weights",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "bits_per_byte",
    "cross_entropy",
    "diagnose",
    "effective_number_weights",
    "entropy",
    "hessian",
    "hessian_diagonal",
    "hvp",
    "jensen_shannon_divergence",
    "kl_divergence",
    "linear_cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "next_token_cross_entropy",
    "nll_loss",
    "perplexity",
    "poly_cross_entropy",
    "positive_class_weight",
    "sigmoid",
    "sigmoid_focal_loss",
    "softmax",
    "softmax_focal_loss",
    "threads",
    "value_and_grad",
    "value_grad_and_hessian_diagonal",
]
