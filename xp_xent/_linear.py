"""Cross-entropy of a linear classifier: the logits are features times classes."""

from dataclasses import dataclass
from typing import Any

from xp_xent import _checks as check
from xp_xent._cross_entropy import softmax_kernel
from xp_xent._evaluation import Evaluation, loss
from xp_xent._problem import RowOptions, loss_dtype
from xp_xent._reduction import Reduction
from xp_xent._targets import counted_rows, softmax_evaluation
from xp_xent.backends import backend_of

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
) -> "LinearEvaluation":
    """Cross-entropy of the logits ``features @ classifier.T + bias``.

    Parameters
    ----------
    features : array, shape (..., D)
        What the classifier reads; float16, bfloat16, float32 or float64.
    classifier : array, shape (K, D)
        A row for each class, of the features' dtype.
    targets : array
        Integer labels of shape (...), or floating probabilities of shape (..., K).
    bias : array, shape (K,), optional
        Added to the logits, of the features' dtype.
    weight, sample_weight, where, ignore_index, label_smoothing, smoothing, z_loss, softcap
        As in `cross_entropy`.
    reduction, normalizer
        As in `cross_entropy`.

    Returns
    -------
    array
        The loss in nats, as in `cross_entropy`. The products of float16 and bfloat16 features are
        computed in float32.

    Raises
    ------
    TypeError, ValueError
        As in `cross_entropy`.

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
    backend = backend_of(**parts)
    check.same_device(backend, **parts)
    for name, array in parts.items():
        check.floating(name, array)
        if array.dtype != features.dtype:
            raise TypeError(f"{name}: got {array.dtype}, wanted the features' {features.dtype}")
    if len(features.shape) == 0:
        raise ValueError("features: got shape (), wanted (..., D)")
    if len(classifier.shape) != 2 or classifier.shape[1] != features.shape[-1]:
        raise ValueError(
            f"classifier: got shape {tuple(classifier.shape)}, wanted (K, {features.shape[-1]}), "
            "a row for each class; is it transposed?"
        )
    if bias is not None:
        check.shape("bias", bias, (classifier.shape[0],), "one number a class")
    xp = backend.xp
    options = RowOptions(weight, sample_weight, where, ignore_index, reduction, normalizer)
    counted = _counted_features(features, targets, options)
    if counted is not None:
        # Blanked here already: the classifier's gradient is a product with the features.
        features = xp.where(counted[..., None], features, xp.zeros_like(features))
    wide = Wide(xp, features, classifier, bias, loss_dtype(xp, features))
    inner = softmax_evaluation(
        wide.logits(backend),
        targets,
        -1,
        options,
        softmax_kernel(z_loss, softcap),
        label_smoothing=label_smoothing,
        smoothing=smoothing,
    )
    return LinearEvaluation(inner, wide)


def _counted_features(features: Array, targets: Array, options: RowOptions) -> Array | None:
    """Give the rows that count; targets and masks of other shapes are refused later, by name."""
    rows = tuple(features.shape[:-1])
    backend = backend_of(features=features, targets=targets, **options.arrays())
    where = options.where
    if where is not None and (tuple(where.shape) != rows or check.kind(where) != "bool"):
        return None
    labels = check.kind(targets) == "integer" and tuple(targets.shape) == rows
    return counted_rows(backend, options, targets if labels else None)


@dataclass(frozen=True)
class Wide:
    """A linear layer in the loss's dtype, and the derivatives of what comes out of it."""

    xp: Any
    features: Array
    classifier: Array
    bias: Array | None
    dtype: Any

    def widened(self, array: Array) -> Array:
        """Convert to the loss's dtype."""
        return self.xp.astype(array, self.dtype, copy=False)

    def forward(self, features: Array) -> Array:
        """Multiply features (..., D) to (..., K), without the bias."""
        return self.xp.matmul(features, self.xp.matrix_transpose(self.widened(self.classifier)))

    def logits(self, backend: Any) -> Array:
        """Give the logits (..., K)."""
        with backend.quiet():
            logits = self.forward(self.widened(self.features))
            if self.bias is None:
                return logits
            return logits + self.widened(self.bias)

    def by_features(self, slope: Array) -> Array:
        """Carry a derivative by the logits back to the features."""
        return self.xp.matmul(slope, self.widened(self.classifier))

    def backward(self, wrt: str, slope: Array) -> Array:
        """Carry a derivative by the logits back to one of the arrays."""
        xp, leading = self.xp, tuple(range(len(slope.shape) - 1))
        if wrt == "bias":
            return xp.astype(xp.sum(slope, axis=leading), self.features.dtype, copy=False)
        if wrt == "features":
            return xp.astype(self.by_features(slope), self.features.dtype, copy=False)
        by_classifier = xp.tensordot(slope, self.widened(self.features), axes=(leading, leading))
        return xp.astype(by_classifier, self.classifier.dtype, copy=False)


@dataclass(frozen=True)
class LinearEvaluation:
    """The evaluation of a cross-entropy behind a linear layer."""

    inner: Evaluation
    layer: Wide

    arguments = ("features", "classifier", "targets")
    variables = ("features", "classifier", "bias")

    @property
    def reduction(self) -> Reduction:
        """How the rows' losses are reduced."""
        return self.inner.reduction

    def value(self) -> Array:
        """Give the reduced loss."""
        return self.inner.value()

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Give the reduced loss, and its derivative by each of the arguments named."""
        for name in wrt:
            if name not in ("bias", *self.arguments) or getattr(self.layer, name, 0) is None:
                known = ", ".join(map(repr, (*self.arguments, "bias")))
                raise ValueError(f"argnums: got {name!r}, wanted one of {known} that is given")
        asked = tuple(dict.fromkeys("targets" if name == "targets" else "logits" for name in wrt))
        value, slopes = self.inner.value_and_grads(asked, cotangent)
        found = dict(zip(asked, slopes, strict=True))
        with self.inner.backend.quiet():
            return value, tuple(
                found[name] if name == "targets" else self.layer.backward(name, found["logits"])
                for name in wrt
            )

    def hvp(self, vector: Array, cotangent: Any = None) -> Array:
        """Give the Hessian of the reduced loss by the features, times a vector."""
        features = self.layer.features
        check.floating("vector", vector)
        check.shape("vector", vector, tuple(features.shape), "the features'")
        with self.inner.backend.quiet():
            along = self.layer.forward(self.layer.widened(vector))
            slope = self.inner.hvp(along, cotangent)
            return self.layer.backward("features", slope)

    def hessian_diagonal(self, cotangent: Any = None) -> Array:
        """Give the diagonal of the Hessian of the reduced loss by the features."""
        xp, features = self.layer.xp, self.layer.features
        size = features.shape[-1]
        columns = []
        for entry in range(size):
            unit = self.inner.backend.arange(size, like=features) == entry
            vector = xp.zeros_like(features) + xp.astype(unit, features.dtype)
            columns.append(self.hvp(vector, cotangent)[..., entry])
        return xp.stack(columns, axis=-1) if columns else xp.zeros_like(features)
