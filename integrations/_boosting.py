"""What boosting libraries share: one walk over scores of either order, labels of any dtype."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from array_api_compat import array_namespace

from xp_xent import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    binary_cross_entropy_with_logits,
    cross_entropy,
    poly_cross_entropy,
    sigmoid_focal_loss,
    softmax_focal_loss,
    value_and_grad,
    value_grad_and_hessian_diagonal,
)

Array = Any

_BINARY = (binary_cross_entropy_with_logits, sigmoid_focal_loss)
_SOFTMAX = (cross_entropy, poly_cross_entropy, softmax_focal_loss)
_TAKEN = {"axis", "normalizer", "reduction", "return_stats", "sample_weight", "where"}
_CURVATURES = ("absolute_gradient", "diagonal", "friedman", "upper_bound")


@dataclass(frozen=True)
class BoostedLoss:
    """A loss of raw scores, and how flat scores of K classes are ordered ("C": by rows)."""

    loss: Callable[..., Array]
    options: dict[str, Any] = field(default_factory=dict)
    order: str = "C"

    def __post_init__(self) -> None:
        if taken := _TAKEN & self.options.keys():
            raise TypeError(f"{min(taken)}: the boosting library decides it, got it as an option")
        if self._function not in (*_BINARY, *_SOFTMAX):
            names = ", ".join(f.__name__ for f in (*_BINARY, *_SOFTMAX))
            raise TypeError(f"loss: got {self.loss!r}, wanted one of {names}")

    @property
    def _function(self) -> Any:
        """The function behind a configured loss."""
        function: Any = self.loss
        if isinstance(function, (CrossEntropyLoss, BCEWithLogitsLoss)):
            function = function.loss
        return function.func if isinstance(function, partial) else function

    @property
    def binary(self) -> bool:
        """Whether each score is a loss's whole argument."""
        return self._function in _BINARY

    @property
    def name(self) -> str:
        """The loss's name."""
        return self._function.__name__

    def value(self, scores: Array, labels: Array, weight: Array | None) -> float:
        """Return the mean loss."""
        scores, targets, weight = self.arrange(scores, labels, weight)
        return float(self.loss(scores, targets, **self._call("mean", weight)))

    def gradient_and_curvature(
        self, scores: Array, labels: Array, weight: Array | None, rule: str
    ) -> tuple[Array, Array]:
        """Return both in the scores' own shape; of the summed loss."""
        rows, targets, weight = self.arrange(scores, labels, weight)
        call = self._call("sum", weight)
        if rule == "absolute_gradient":
            _, gradient = value_and_grad(self.loss)(rows, targets, **call)
            curvature = abs(gradient)
        else:
            kind = "upper_bound" if rule == "upper_bound" else "diagonal"
            newton = value_grad_and_hessian_diagonal(self.loss, kind)
            _, gradient, curvature = newton(rows, targets, **call)
        if rule == "friedman" and not self.binary:
            curvature = curvature * (rows.shape[-1] / (rows.shape[-1] - 1))
        return self._as_given(gradient, scores), self._as_given(curvature, scores)

    def arrange(
        self, scores: Array, labels: Array, weight: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """Return scores of rows, targets as the loss takes them, and a weight for each loss."""
        if not self.binary:
            scores = self._by_rows(scores, labels.shape[0])
        if labels.size == scores.size:
            targets = labels.reshape(scores.shape)
        elif self.binary:
            raise ValueError(f"labels: got {labels.size} of them, {self.name} wants {scores.size}")
        else:
            targets = _class_labels(labels)
        if weight is not None and self.binary and scores.ndim > 1:
            xp = array_namespace(weight)
            weight = xp.broadcast_to(weight[:, None], scores.shape)
        return scores, targets, weight

    def _by_rows(self, scores: Array, rows: int) -> Array:
        """Return scores (rows, K), without a copy."""
        if scores.ndim == 1:
            scores = _split(scores, rows, self.order)
        if scores.shape[-1] < 2:
            raise ValueError(
                f"scores: got one a row, {self.name} wants one a class: set num_class, "
                f"or take binary_cross_entropy_with_logits"
            )
        return scores

    def _as_given(self, rows: Array, scores: Array) -> Array:
        """Flatten what belongs to scores that were flat."""
        if rows.ndim == scores.ndim:
            return rows
        return (rows if self.order == "C" else rows.T).reshape(-1)

    def _call(self, reduction: str, weight: Array | None) -> dict[str, Any]:
        """Return the options of a call."""
        return self.options | {"reduction": reduction, "sample_weight": weight}


@dataclass(frozen=True)
class Objective:
    """What `xgboost_objective` and `lightgbm_objective` return."""

    loss: BoostedLoss
    curvature: str
    minimum: float | None

    def __post_init__(self) -> None:
        if self.curvature not in _CURVATURES:
            wanted = ", ".join(_CURVATURES)
            raise ValueError(f"curvature: got {self.curvature!r}, wanted one of {wanted}")

    # The libraries' wrappers look for this name, or count three parameters.
    def __call__(
        self, first: Any, second: Any, sample_weight: Array | None = None
    ) -> tuple[Array, Array]:
        """Return gradient and curvature, of (scores, data) or (labels, scores, weights)."""
        called = call_arguments(first, second, sample_weight)
        gradient, curvature = self.loss.gradient_and_curvature(*called, self.curvature)
        if self.minimum is not None:
            curvature = array_namespace(curvature).clip(curvature, min=self.minimum)
        return gradient, curvature


def call_arguments(first: Any, second: Any, weight: Array | None) -> tuple[Array, Array, Any]:
    """Return scores, labels and weights of a native call, or of one by scikit-learn's wrappers.

    The former has the arguments (scores, data), the latter (labels, scores, weights).
    """
    if hasattr(second, "get_label"):
        first, second, weight = second.get_label(), first, second.get_weight()
    no_weights = weight is None or len(weight) == 0  # XGBoost's are empty then
    return second, first, None if no_weights else weight


def _split(scores: Array, rows: int, order: str) -> Array:
    """Return flat scores as a matrix."""
    return scores.reshape((rows, -1)) if order == "C" else scores.reshape((-1, rows)).T


def _class_labels(labels: Array) -> Array:
    """Return labels, which the libraries keep as floating numbers, as integers."""
    xp = array_namespace(labels)
    if not xp.isdtype(labels.dtype, "real floating"):
        return labels
    whole = xp.round(labels)
    if not bool(xp.all(whole == labels)):
        raise ValueError("labels: got fractions or NaN, wanted the classes 0 … K − 1")
    return xp.astype(whole, xp.int64)
