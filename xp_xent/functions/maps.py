"""The stable maps beneath the losses: softmax, logarithms of sums, sigmoids."""

from collections.abc import Callable
from typing import Any

from xp_xent.backends import Backend, backend_of
from xp_xent.flow import checks as check
from xp_xent.flow.elements import ElementPlan
from xp_xent.flow.plan import RowPlan, no_warnings
from xp_xent.flow.validate import loss_dtype
from xp_xent.kernels.elementary import sigmoid_pair, softplus_parts
from xp_xent.kernels.row_stats import row_stats

Array = Any

__all__ = ["log_sigmoid", "log_softmax", "logsumexp", "sigmoid", "softmax"]


def softmax(x: Array, /, *, axis: int = -1) -> Array:
    """Softmax: exp(x) / Σ exp(x).

    Parameters
    ----------
    x : array
        Logits; float16, bfloat16, float32 or float64.
    axis : int, default -1
        The axis that is normalised.

    Returns
    -------
    array
        Of the shape and dtype of `x`. NaN along a slice that is −inf throughout.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import softmax
    >>> print(softmax(np.asarray([0.0, np.log(3.0)])))
    [0.25 0.75]
    """
    return _along(x, axis, lambda backend, z: row_stats(backend, z, None, z.dtype).probabilities)


def log_softmax(x: Array, /, *, axis: int = -1) -> Array:
    """Logarithm of the softmax; accurate for classes of probability near 1, too.

    Parameters
    ----------
    x : array
        Logits; float16, bfloat16, float32 or float64.
    axis : int, default -1
        The axis that is normalised.

    Returns
    -------
    array
        Of the shape and dtype of `x`. NaN along a slice that is −inf throughout.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import log_softmax
    >>> print(log_softmax(np.asarray([0.0, 0.0])))
    [-0.69314718 -0.69314718]
    """
    return _along(x, axis, lambda backend, z: -row_stats(backend, z, None, z.dtype).surprisals)


def logsumexp(x: Array, /, *, axis: int = -1, keepdims: bool = False) -> Array:
    """Logarithm of a sum of exponentials: log Σ exp(x).

    Parameters
    ----------
    x : array
        Floating values; −inf adds nothing, and the result is −inf where all are.
    axis : int, default -1
        The axis that is summed.
    keepdims : bool, default False
        Keep that axis, of length 1.

    Returns
    -------
    array
        Of the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import logsumexp
    >>> print(logsumexp(np.asarray([1e8, 1e8])) - 1e8)
    0.6931471824645996
    """

    def by_row(backend: Backend, z: Array) -> Array:
        xp = backend.xp
        largest = backend.stop_gradient(xp.max(z, axis=backend.class_axis, keepdims=True))
        endless = xp.isinf(largest)  # the result is the largest entry itself
        row = row_stats(backend, xp.where(endless, 0.0, z), None, z.dtype)
        return xp.where(endless, largest, row.lse)

    result = _along(x, axis, by_row)
    return result if keepdims else backend_of(x).xp.squeeze(result, axis=int(axis))


def sigmoid(x: Array, /) -> Array:
    """Logistic sigmoid: 1 / (1 + exp(−x)).

    Parameters
    ----------
    x : array
        Log-odds; float16, bfloat16, float32 or float64.

    Returns
    -------
    array
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError
        `x` is not floating.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import sigmoid
    >>> print(sigmoid(np.asarray([0.0, -np.inf])))
    [0.5 0. ]
    """
    return _by_row(x, None, lambda backend, z: sigmoid_pair(backend.xp, z)[0])


def log_sigmoid(x: Array, /) -> Array:
    """Logarithm of the sigmoid: −log(1 + exp(−x)).

    Parameters
    ----------
    x : array
        Log-odds; float16, bfloat16, float32 or float64.

    Returns
    -------
    array
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError
        `x` is not floating.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import log_sigmoid
    >>> print(log_sigmoid(np.asarray([0.0, -1000.0])))
    [-6.93147181e-01 -1.00000000e+03]
    """

    def by_row(backend: Backend, z: Array) -> Array:
        tail, down, _ = softplus_parts(backend.xp, z)
        return -(tail + down)

    return _by_row(x, None, by_row)


def _along(x: Array, axis: int, function: Callable[[Backend, Array], Array]) -> Array:
    """Apply a function of rows (..., K) along an axis."""
    backend_of(x=x)
    check.floating("x", x)
    return _by_row(x, check.axis(axis, tuple(x.shape), "x"), function)


def _by_row(x: Array, axis: int | None, function: Callable[[Backend, Array], Array]) -> Array:
    """Apply a function of rows (..., K) in the dtype of a loss, and round the result once."""
    backend: Backend = backend_of(x=x)
    check.floating("x", x)
    shape, dtype = tuple(x.shape), loss_dtype(backend.xp, x)
    if axis is None:
        plan: RowPlan = ElementPlan(backend, len(shape), (*shape, 1), dtype, ("x",))
    else:
        backend = backend.with_class_axis(axis - len(shape))
        plan = RowPlan(backend, axis, shape, dtype, ("x",))

    def on_block(rows: Array) -> Array:
        return backend.cast(function(backend, backend.kernel_layout(rows, dtype)), x.dtype)

    with no_warnings(backend):
        return plan.to_user(backend.map_blocks(on_block, plan.to_kernel(x)))
