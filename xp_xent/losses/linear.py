"""Cross-entropy of a linear classifier: the logits are features times classes."""

from typing import Any

from xp_xent.flow.execute import compute
from xp_xent.flow.linear import LinearLoss
from xp_xent.flow.plan import public
from xp_xent.flow.prepare import SOFTMAX_NUMBERS, softmax_kernel

Array = Any

__all__ = ["linear_cross_entropy"]


_LINEAR = LinearLoss(softmax_kernel, SOFTMAX_NUMBERS)


@public(_LINEAR)
def linear_cross_entropy(
    features: Array,
    classifier: Array,
    targets: Array,
    /,
    *,
    bias: Array | None = None,
    shift: bool = False,
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
    r"""Cross-entropy of the logits ``features @ classifier.T + bias``.

    For features h with label y, a classifier W and a bias b this is

    .. math:: -\log \mathrm{softmax}(W h + b)_y.

    Parameters
    ----------
    features : array, shape (..., D)
        What the classifier reads; float16, bfloat16, float32 or float64.
    classifier : array, shape (K, D)
        A row for each class. Half precision and float32 go together, in any mixture.
    targets : array
        Integer labels of shape (...), or floating probabilities of shape (..., K).
    bias : array, shape (K,), optional
        Added to the logits.
    shift : bool, default False
        Each position of features (..., T, D) is scored by the target after it, as in
        `next_token_cross_entropy`: the last one has no loss, and gradient 0, and weights and masks
        are given for the token that is predicted.
    class_where : boolean array, optional
        As in `cross_entropy`: it broadcasts against the logits, (..., K).
    weight, sample_weight, where, ignore_index, label_smoothing, smoothing
        As in `cross_entropy`.
    z_loss, softcap, temperature
        As in `cross_entropy`.
    reduction, normalizer, return_stats
        As in `cross_entropy`.

    Returns
    -------
    array
        The loss in nats, as in `cross_entropy`. All products are computed in its dtype: float64
        for arrays of float64, else float32, as in `torch.autocast`, too. A gradient has the dtype
        of its argument, and is rounded once.

    Notes
    -----
    The logits are computed, used and dropped for some rows at a time, in the gradient too. Where
    PyTorch compiles, exports or transforms the loss (`torch.compile`, `torch.export`,
    `torch.func`) all rows are one step, and the logits take as much memory as without it.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`; and float64 beside other floating features, classifier or bias.

    See Also
    --------
    xp_xent.value_and_grad : with ``argnums=(0, 1, "bias")``, the gradients by all three.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import linear_cross_entropy
    >>> features = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    >>> classifier = np.asarray([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> print(round(float(linear_cross_entropy(features, classifier, np.asarray([0, 1]))), 6))
    0.239545
    """
    options = {
        "bias": bias, "shift": shift, "weight": weight, "sample_weight": sample_weight,
        "where": where, "class_where": class_where, "ignore_index": ignore_index,
        "label_smoothing": label_smoothing, "smoothing": smoothing, "z_loss": z_loss,
        "softcap": softcap, "temperature": temperature, "reduction": reduction,
        "normalizer": normalizer, "return_stats": return_stats,
    }  # fmt: skip
    return compute(_LINEAR, None, (features, classifier, targets), options)
