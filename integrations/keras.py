"""Losses for Keras 3, with the names and parameters of its own, computed by this package.

They take logits. Keras' own default, probabilities, is refused: a softmax that has been rounded no
longer holds the digits that a loss of confident rows is made of.
"""

from typing import Any

import keras
from keras import ops
from keras.src.backend import set_keras_mask  # Keras makes it public nowhere

from xp_xent.integrations._keras_rows import row_losses
from xp_xent.losses.binary import binary_cross_entropy_with_logits
from xp_xent.losses.cross_entropy import cross_entropy
from xp_xent.losses.focal import softmax_focal_loss

_Tensor = Any

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "SparseCategoricalCrossentropy",
]


class _LogitsLoss(keras.losses.Loss):
    """What the losses share: logits only, and options that are saved."""

    def __init__(
        self, from_logits: bool, reduction: str | None, name: str, dtype: Any, **options: Any
    ) -> None:
        if from_logits is not True:
            raise ValueError(
                f"from_logits: got {from_logits!r}, wanted True: rounded probabilities have lost "
                "the digits of the loss; leave out the last softmax or sigmoid"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._options = options

    def call(self, y_true: _Tensor, y_pred: _Tensor) -> _Tensor:
        """Compute the losses that Keras weighs and reduces."""
        return self._rows(ops.convert_to_tensor(y_pred), ops.convert_to_tensor(y_true))

    def _rows(self, logits: _Tensor, targets: _Tensor) -> _Tensor:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Give the parameters, from which ``from_config`` makes the same loss."""
        return super().get_config() | {"from_logits": True} | self._options


@keras.saving.register_keras_serializable(package="xp_xent")
class CategoricalCrossentropy(_LogitsLoss):
    """Cross-entropy between logits and one-hot or other probabilities.

    Parameters
    ----------
    from_logits : bool, default False
        Must be True.
    label_smoothing : float in [0, 1], default 0.0
        Mass taken from the targets and spread evenly over the classes.
    axis : int, default -1
        The class axis.
    reduction : {"sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"} or None
        As Keras' own; sample weights and masks are applied by Keras.
    name : str
        What Keras reports it as.
    dtype : str or DTypePolicy, optional
        What Keras casts logits and targets to; by default ``keras.config.floatx()``.

    Raises
    ------
    ValueError
        `from_logits` is not True.
    NotImplementedError
        When called, on a backend of Keras other than JAX, PyTorch, TensorFlow and NumPy.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
       2016 (label smoothing).

    Examples
    --------
    >>> from xp_xent.integrations.keras import CategoricalCrossentropy
    >>> loss = CategoricalCrossentropy(from_logits=True)
    >>> print(f"{float(loss([[1.0, 0.0, 0.0]], [[20.0, 0.0, 0.0]])):.5g}")
    4.1223e-09
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits, reduction, name, dtype, label_smoothing=label_smoothing, axis=axis
        )

    def _rows(self, logits: _Tensor, targets: _Tensor) -> _Tensor:
        return row_losses(cross_entropy, logits, targets, **self._options)


@keras.saving.register_keras_serializable(package="xp_xent")
class SparseCategoricalCrossentropy(_LogitsLoss):
    """Cross-entropy between logits and integer labels.

    Parameters
    ----------
    from_logits : bool, default False
        Must be True.
    ignore_class : int, optional
        Rows with this label have loss 0 and do not count in a mean.
    reduction : {"sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"} or None
        As Keras' own; sample weights and masks are applied by Keras.
    axis : int, default -1
        The class axis.
    name : str
        What Keras reports it as.
    dtype : str or DTypePolicy, optional
        What Keras casts logits and labels to; by default ``keras.config.floatx()``. Half precision
        rounds labels: float16 above 2048, bfloat16 above 256.

    Raises
    ------
    ValueError
        `from_logits` is not True. When called: a label out of range, where it can be looked at; a
        traced one makes its row NaN.
    NotImplementedError
        When called, on a backend of Keras other than JAX, PyTorch, TensorFlow and NumPy.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.4.

    Examples
    --------
    >>> from xp_xent.integrations.keras import SparseCategoricalCrossentropy
    >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    >>> print(f"{float(loss([0, -1], [[20.0, 0.0, 0.0], [1.0, 2.0, 3.0]])):.5g}")
    4.1223e-09
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, reduction, name, dtype, ignore_class=ignore_class, axis=axis)

    def _rows(self, logits: _Tensor, targets: _Tensor) -> _Tensor:
        ignored, axis = self._options["ignore_class"], self._options["axis"]
        if len(targets.shape) == len(logits.shape):
            targets = ops.squeeze(targets, axis)
        labels = ops.cast(targets, "int32")
        rows = row_losses(cross_entropy, logits, labels, axis=axis, ignore_index=ignored)
        if ignored is not None:
            set_keras_mask(rows, ops.not_equal(labels, ignored))
        return rows


@keras.saving.register_keras_serializable(package="xp_xent")
class CategoricalFocalCrossentropy(_LogitsLoss):
    """Focal loss of logits and one-hot or other probabilities.

    Parameters
    ----------
    alpha : float or list of K floats, default 0.25
        A factor for each class.
    gamma : float, default 2.0
        The focusing exponent, ≥ 0.
    from_logits, label_smoothing, axis, reduction, name, dtype
        As in `CategoricalCrossentropy`.

    Raises
    ------
    ValueError, NotImplementedError
        As in `CategoricalCrossentropy`.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Examples
    --------
    >>> from xp_xent.integrations.keras import CategoricalFocalCrossentropy
    >>> loss = CategoricalFocalCrossentropy(from_logits=True)
    >>> print(f"{float(loss([[1.0, 0.0, 0.0]], [[2.0, 1.0, 0.1]])):.6f}")
    0.012123
    """

    def __init__(
        self,
        alpha: float | list[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ) -> None:
        focal = {"alpha": alpha, "gamma": gamma, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(from_logits, reduction, name, dtype, **focal)

    def _rows(self, logits: _Tensor, targets: _Tensor) -> _Tensor:
        return row_losses(softmax_focal_loss, logits, targets, **self._options)


@keras.saving.register_keras_serializable(package="xp_xent")
class BinaryCrossentropy(_LogitsLoss):
    """Binary cross-entropy of logits, the mean of each row's.

    Parameters
    ----------
    from_logits : bool, default False
        Must be True.
    label_smoothing : float in [0, 1], default 0.0
        Targets become (1 − ε)·y + ε/2.
    axis : int, default -1
        Along which the mean is taken.
    reduction, name, dtype
        As in `CategoricalCrossentropy`.

    Raises
    ------
    ValueError, NotImplementedError
        As in `CategoricalCrossentropy`.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.2.

    Examples
    --------
    >>> from xp_xent.integrations.keras import BinaryCrossentropy
    >>> loss = BinaryCrossentropy(from_logits=True)
    >>> print(f"{float(loss([[1.0], [0.0]], [[20.0], [-20.0]])):.5g}")
    2.0612e-09
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(
            from_logits, reduction, name, dtype, label_smoothing=label_smoothing, axis=axis
        )

    def _rows(self, logits: _Tensor, targets: _Tensor) -> _Tensor:
        if len(targets.shape) + 1 == len(logits.shape):
            targets = ops.expand_dims(targets, -1)
        smoothing = self._options["label_smoothing"]
        losses = row_losses(
            binary_cross_entropy_with_logits, logits, targets, label_smoothing=smoothing
        )
        return ops.mean(losses, self._options["axis"])
