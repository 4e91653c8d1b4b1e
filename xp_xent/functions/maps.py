"""The stable maps beneath the losses: softmax, logarithms of sums, sigmoids."""

from typing import Any

from xp_xent.backends import Backend
from xp_xent.flow.mapped import map_elements, map_rows
from xp_xent.kernels.elementary import sigmoid_pair, softplus_parts
from xp_xent.kernels.maps import (
    log_softmax_rows,
    log_sum_and_sign_rows,
    log_sum_rows,
    softmax_rows,
)

Array = Any
Axis = int | tuple[int, ...] | None

__all__ = ["log_sigmoid", "log_softmax", "logsumexp", "sigmoid", "softmax"]


def softmax(
    x: Array, /, *, axis: Axis = -1, where: Array | None = None, temperature: Any = 1.0
) -> Array:
    r"""Softmax: exponentials that are divided by their sum.

    .. math:: \mathrm{softmax}(x)_j = \frac{e^{x_j}}{\sum_k e^{x_k}}

    Parameters
    ----------
    x : array
        Logits; float16, bfloat16, float32 or float64.
    axis : int, tuple of int or None, default -1
        The axes over which the result sums to 1; None for all.
    where : boolean array, optional
        Entries that take part; others are as if −inf, whatever they hold. It broadcasts to `x`;
        integers 0 and 1, NumPy arrays and sequences are taken too.
    temperature : float or array (), default 1.0
        A positive number that `x` is divided by. Where it is an array that cannot be read without
        waiting for a device, or traced, the result is NaN if it is not positive.

    Returns
    -------
    array
        Of the shape and dtype of `x`. NaN along a slice that is −inf throughout, but 0 for entries
        that take no part.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis; `where` is no mask, or does not broadcast to `x`;
        `temperature` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import softmax
    >>> x = np.asarray([0.0, np.log(3.0)])
    >>> print(softmax(x))
    [0.25 0.75]
    >>> print(softmax(x, temperature=0.5))
    [0.1 0.9]
    >>> print(softmax(np.zeros((2, 2)), axis=None, where=[[1, 1], [1, 0]]).round(3))
    [[0.333 0.333]
     [0.333 0.   ]]
    """
    return map_rows(softmax_rows, x, axis, where=where, temperature=temperature)[0]


def log_softmax(
    x: Array, /, *, axis: Axis = -1, where: Array | None = None, temperature: Any = 1.0
) -> Array:
    r"""Logarithm of the softmax; accurate for classes of probability near 1, too.

    .. math:: \log \mathrm{softmax}(x)_j = x_j - \log \sum_k e^{x_k}

    Parameters
    ----------
    x : array
        Logits; float16, bfloat16, float32 or float64.
    axis : int, tuple of int or None, default -1
        The axes over which the exponentials of the result sum to 1; None for all.
    where : boolean array, optional
        Entries that take part; others are as if −inf, whatever they hold. It broadcasts to `x`;
        integers 0 and 1, NumPy arrays and sequences are taken too.
    temperature : float or array (), default 1.0
        A positive number that `x` is divided by. Where it is an array that cannot be read without
        waiting for a device, or traced, the result is NaN if it is not positive.

    Returns
    -------
    array
        Of the shape and dtype of `x`. NaN along a slice that is −inf throughout, but −inf for
        entries that take no part.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis; `where` is no mask, or does not broadcast to `x`;
        `temperature` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import log_softmax
    >>> print(log_softmax(np.asarray([0.0, 0.0])))
    [-0.69314718 -0.69314718]
    >>> print(log_softmax(np.asarray([0.0, np.nan, 0.0]), where=[True, False, True]))
    [-0.69314718        -inf -0.69314718]
    """
    return map_rows(log_softmax_rows, x, axis, where=where, temperature=temperature)[0]


def logsumexp(
    x: Array,
    /,
    *,
    axis: Axis = -1,
    b: Any = None,
    return_sign: bool = False,
    keepdims: bool = False,
    where: Array | None = None,
) -> Any:
    r"""Logarithm of a sum of exponentials, each with a factor of `b` where that is given.

    .. math:: \log \sum_j b_j e^{x_j}

    Parameters
    ----------
    x : array
        Floating values; −inf adds nothing, and the result is −inf where all are.
    axis : int, tuple of int or None, default -1
        The axes that are summed over, of `x` as `b` broadcasts it; None for all.
    b : array or number, optional
        Weights of the exponentials, negative ones too; `x` and `b` broadcast against each other. A
        weight of 0 adds nothing, whatever `x` is there. NumPy arrays and sequences are taken too.
    return_sign : bool, default False
        Return the logarithm of the magnitude, and the sign.
    keepdims : bool, default False
        Keep the axes, of length 1.
    where : boolean array, optional
        Entries that take part; others add nothing, whatever they hold. It broadcasts to `x`;
        integers 0 and 1, NumPy arrays and sequences are taken too.

    Returns
    -------
    array
        The logarithm, of the dtype of `x`: −inf where nothing adds to the sum, inf where an
        infinite term does, NaN where `x` or `b` is, where infinite terms have both signs, and,
        without `return_sign`, where the sum is negative.
    array
        With `return_sign`, the sum's sign in the same dtype: 1, −1, 0 of a sum of 0, or NaN.

    Raises
    ------
    TypeError, ValueError
        `x` is not floating, or has no such axis; `b` is not real, or does not broadcast with `x`;
        `where` is no mask, or does not broadcast to `x`.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import logsumexp
    >>> print(logsumexp(np.asarray([1e8, 1e8])) - 1e8)
    0.6931471824645996
    >>> value, sign = logsumexp(np.log(np.asarray([1.0, 3.0])), b=[1.0, -1.0], return_sign=True)
    >>> print(value.round(6), sign)
    0.693147 -1.0
    """
    function = log_sum_and_sign_rows if return_sign else log_sum_rows
    found = map_rows(function, x, axis, keepdims=keepdims, where=where, b=b)
    return found if return_sign else found[0]


def sigmoid(x: Array, /) -> Array:
    r"""Logistic sigmoid.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}

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
    return map_elements(x, lambda backend, z: sigmoid_pair(backend.xp, z)[0])


def log_sigmoid(x: Array, /) -> Array:
    r"""Logarithm of the sigmoid.

    .. math:: \log \sigma(x) = -\log(1 + e^{-x})

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

    return map_elements(x, by_row)
