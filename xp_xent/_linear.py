"""Cross-entropy of a linear classifier: the logits are features times classes."""

from typing import Any

from xp_xent import _checks as check
from xp_xent._cross_entropy import softmax_kernel
from xp_xent._evaluation import loss
from xp_xent._linear_evaluation import Layer, LinearEvaluation
from xp_xent._problem import RowOptions, open_problem
from xp_xent._targets import smoothing_of, target_rows
from xp_xent.backends import dtype_name, same_shape

Array = Any

__all__ = ["linear_cross_entropy"]


@loss
def linear_cross_entropy(
    features: Array,
    classifier: Array,
    targets: Array,
    /,
    *,
    bias: Array | None = None,
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
) -> LinearEvaluation:
    """Cross-entropy of the logits ``features @ classifier.T + bias``.

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
    weight, sample_weight, where, ignore_index, label_smoothing, smoothing, z_loss, softcap
        As in `cross_entropy`.
    reduction, normalizer
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
    parts = {"features": features, "classifier": classifier}
    if bias is not None:
        parts["bias"] = bias
    backend = check.together(**parts)
    for name, array in parts.items():
        check.floating(name, array)
        if (dtype_name(array.dtype) == "float64") != (dtype_name(features.dtype) == "float64"):
            raise TypeError(
                f"{name}: got {dtype_name(array.dtype)} beside features of "
                f"{dtype_name(features.dtype)}; float64 goes with float64 only, for digits would "
                "be lost or made up: convert one explicitly"
            )
    if len(features.shape) == 0:
        raise ValueError("features: got shape (), wanted (..., D)")
    if len(classifier.shape) != 2 or not same_shape(classifier.shape[1:], features.shape[-1:]):
        raise ValueError(
            f"classifier: got shape {tuple(classifier.shape)}, wanted (K, {features.shape[-1]}), "
            "a row for each class; is it transposed?"
        )
    if bias is not None:
        check.shape("bias", bias, (classifier.shape[0],), "one number a class")
    options = RowOptions(weight, sample_weight, where, ignore_index, reduction, normalizer)
    arrays = {"features": features, "targets": targets}
    names, classes = ("logits", "targets"), classifier.shape[0]
    problem = open_problem(arrays, -1, options, names, classes)
    smoother = smoothing_of(label_smoothing, smoothing, classes)
    rows, reduced = target_rows(problem, targets, -1, smoother)
    kernel = softmax_kernel(z_loss, softcap)(problem.dtype, smoother)
    weights = backend.cast(classifier, problem.dtype)
    layer = Layer(backend, features, classifier, bias, weights, problem.dtype)
    return LinearEvaluation(backend, kernel, rows, reduced, layer)
