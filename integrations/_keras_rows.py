"""The losses of the rows, on the backend that Keras runs on."""

from collections.abc import Callable
from typing import Any

import keras

from xp_xent import value_and_grad

_Tensor = Any


def row_losses(
    loss: Callable[..., _Tensor], logits: _Tensor, targets: _Tensor, **options: Any
) -> _Tensor:
    """Compute a loss of this package of each row.

    JAX, PyTorch and NumPy are served by the package itself. TensorFlow has no backend here.
    """
    name = keras.config.backend()
    if name == "tensorflow":
        return _through_numpy(loss, logits, targets, options)
    if name not in ("jax", "torch", "numpy"):
        raise NotImplementedError(
            f"Keras' backend: got {name!r}, wanted 'jax', 'torch', 'tensorflow' or 'numpy'"
        )
    return loss(logits, targets, reduction="none", **options)


def _through_numpy(
    loss: Callable[..., _Tensor], logits: _Tensor, targets: _Tensor, options: dict[str, Any]
) -> _Tensor:
    """Compute loss and gradient in closed form on NumPy's arrays, in one walk."""
    import tensorflow as tf

    axis = options.get("axis")  # of the classes; the binary losses have none

    def derivative(logits: _Tensor, targets: _Tensor) -> tuple[_Tensor, _Tensor]:
        value, slope = value_and_grad(loss)(logits, targets, reduction="none", **options)
        return value.astype(logits.dtype), slope

    @tf.custom_gradient
    def rows(logits: _Tensor) -> tuple[_Tensor, Callable[[_Tensor], _Tensor]]:
        value, slope = tf.numpy_function(derivative, (logits, targets), (logits.dtype,) * 2)
        slope.set_shape(logits.shape)
        value.set_shape(_without(logits.shape.as_list(), axis))

        def backward(cotangent: _Tensor) -> _Tensor:
            return slope * (cotangent if axis is None else tf.expand_dims(cotangent, axis))

        return value, backward

    return rows(logits)


def _without(shape: list[int | None], axis: int | None) -> list[int | None]:
    """Leave the class axis out of a shape."""
    if axis is not None:
        del shape[axis]
    return shape
