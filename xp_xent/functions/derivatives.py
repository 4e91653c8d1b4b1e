"""Gradients and curvature of every loss, in closed form, on every array library."""

from collections.abc import Callable
from typing import Any

from xp_xent.flow import checks as check
from xp_xent.flow.plan import Ask, loss_of
from xp_xent.functions.callables import HVP, Derivative, ValueAndGrad

Array = Any
Argument = int | str

__all__ = [
    "hessian",
    "hessian_diagonal",
    "hvp",
    "value_and_grad",
    "value_grad_and_hessian_diagonal",
]


def value_and_grad(
    loss: Callable[..., Array], argnums: Argument | tuple[Argument, ...] = 0
) -> Callable[..., tuple[Array, Any]]:
    r"""Make a function that computes a loss and its gradient.

    For a row of cross-entropy, whose targets q add up to 1, and p = softmax(z) the gradient is

    .. math:: \nabla_z L = p - q.

    The gradient is the closed form, not automatic differentiation: it works where the library
    has none, and nothing in it cancels.

    Parameters
    ----------
    loss : callable
        A loss of this package, a `CrossEntropyLoss` or `BCEWithLogitsLoss`, or a
        `functools.partial` of one.
    argnums : int, str, or tuple of these, default 0
        The arrays to differentiate by: positions or names of the positional ones, or ``"bias"`` of
        `linear_cross_entropy`. Position 1 of `cross_entropy` stands for probability targets.

    Returns
    -------
    callable
        ``f(*arrays, cotangent=None, out=None, **options) -> (value, gradient)``: arrays and
        options as the loss takes them; `gradient` is one array, or a tuple for a tuple of
        `argnums`, each of the shape and dtype of its argument. With ``reduction="none"`` it is
        the gradient of each row's own loss, and `cotangent`, of the loss's shape, weighs the
        rows. `out`, an array of the gradient's shape and dtype, is written into and returned as
        the gradient: memory in use is quicker to write than new memory. For a tuple of `argnums`
        it is a tuple, with None for a gradient that needs none. NumPy, CuPy and PyTorch have it.
        It is not touched where a call is refused. The function can be pickled, printed, compared
        and hashed, as those of the other functions here: by the loss and the settings, arrays
        that a partial holds by identity.

    Raises
    ------
    TypeError
        `loss` is not one of this package, an argument is not floating, or `out` is of another
        dtype or library, or of one whose arrays are not written into.
    ValueError
        `argnums` names no argument of the loss, or `cotangent` does not fit; or `out` has another
        shape or device, is read-only, or shares memory with an input, another output or itself.

    See Also
    --------
    hvp : second derivatives.
    value_grad_and_hessian_diagonal : these and the curvature, in one walk over the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy, value_and_grad
    >>> logits = np.asarray([20, 0, 0], dtype=np.float32)
    >>> value, gradient = value_and_grad(cross_entropy)(logits, np.asarray(0))
    >>> print(f"{value:.5g} {gradient[0]:.5g}")
    4.1223e-09 -4.1223e-09
    >>> room = np.empty_like(logits)
    >>> value, gradient = value_and_grad(cross_entropy)(logits, np.asarray(0), out=room)
    >>> gradient is room
    True
    >>> value_and_grad(cross_entropy, "logits")
    value_and_grad(cross_entropy, argnums='logits')
    """
    found, _, _ = loss_of(loss)
    if single := not isinstance(argnums, tuple):
        names: tuple[str, ...] = (_name(found, argnums),)
        argnums = argnums if isinstance(argnums, str) else int(argnums)
    else:
        names = tuple([_name(found, one) for one in argnums])
        argnums = tuple([one if isinstance(one, str) else int(one) for one in argnums])
    if not names:
        raise ValueError("argnums: got (), wanted at least one argument to differentiate by")
    ask = Ask("value_and_grads", (names,))
    return ValueAndGrad(value_and_grad, loss, ask, single=single, argnums=argnums)


def hvp(loss: Callable[..., Array]) -> Callable[..., Array]:
    r"""Make a function that multiplies a loss's Hessian by a vector.

    For a row of cross-entropy, whose targets add up to 1, and p = softmax(z) it is

    .. math:: H v = p \odot (v - p^\top v).

    Parameters
    ----------
    loss : callable
        As for `value_and_grad`.

    Returns
    -------
    callable
        ``f(*arrays, vector, **options) -> array``: the arrays as the loss takes them, then the
        vector, of the first array's shape; the result is the Hessian of the reduced loss by the
        first array, times the vector (with ``reduction="none"``, of the sum of the losses).

    Raises
    ------
    TypeError, ValueError
        As the loss, or for a vector that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy, hvp
    >>> logits, vector = np.zeros((1, 2)), np.asarray([[1.0, 0.0]])
    >>> print(hvp(cross_entropy)(logits, np.asarray([0]), vector))
    [[ 0.25 -0.25]]
    """
    return HVP(hvp, loss, Ask("hvp"))


def hessian_diagonal(loss: Callable[..., Array]) -> Callable[..., Array]:
    r"""Make a function that computes the diagonal of a loss's Hessian.

    For a row of cross-entropy, whose targets add up to 1, and p = softmax(z) it is

    .. math:: H_{jj} = p_j (1 - p_j).

    Parameters
    ----------
    loss : callable
        As for `value_and_grad`.

    Returns
    -------
    callable
        ``f(*arrays, **options) -> array``, of the first array's shape: second derivatives of
        the reduced loss (with ``reduction="none"``, of each row's own loss).

    Raises
    ------
    TypeError, ValueError
        As the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import binary_cross_entropy_with_logits, hessian_diagonal
    >>> logits, targets = np.zeros(2), np.asarray([1, 0])
    >>> print(hessian_diagonal(binary_cross_entropy_with_logits)(logits, targets, reduction="sum"))
    [0.25 0.25]
    """
    return Derivative(hessian_diagonal, loss, Ask("hessian_diagonal"))


def hessian(loss: Callable[..., Array]) -> Callable[..., Array]:
    r"""Make a function that computes the Hessian of each row: a matrix of its K logits.

    For a row of cross-entropy, whose targets add up to 1, and p = softmax(z) it is

    .. math:: H = \mathrm{diag}(p) - p p^\top.

    Logits of different rows have no second derivatives by each other, so these matrices are the
    whole of the loss's Hessian by the logits.

    Parameters
    ----------
    loss : callable
        As for `value_and_grad`, but no binary loss and not `linear_cross_entropy`.

    Returns
    -------
    callable
        ``f(*arrays, **options) -> array``, of the first array's shape without the class axis, and
        then (K, K), whatever `axis`; of its dtype, symmetric to the last bit. Reductions scale it
        as they do the gradient (with ``reduction="none"`` it is of each row's own loss); it is 0
        where a row does not count.

    Raises
    ------
    TypeError
        `loss` is not one of this package, or not one of rows of logits; or as the loss.
    ValueError
        As the loss.

    See Also
    --------
    hessian_diagonal, hvp : the diagonal, and products with vectors, in the memory of the logits.

    References
    ----------
    .. [1] C. M. Bishop, *Pattern Recognition and Machine Learning*, Springer, 2006, §4.3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy, hessian
    >>> print(hessian(cross_entropy)(np.log(np.asarray([[0.2, 0.8]])), np.asarray([0])).round(6))
    [[[ 0.16 -0.16]
      [-0.16  0.16]]]
    """
    return Derivative(hessian, loss, Ask("hessian"))


def value_grad_and_hessian_diagonal(
    loss: Callable[..., Array], curvature: str = "diagonal"
) -> Callable[..., tuple[Array, Array, Array]]:
    """Make a function that computes a loss, its gradient and its curvature.

    It is what a step of boosting or of Newton's method asks for, in one walk over the rows.

    Parameters
    ----------
    loss : callable
        As for `value_and_grad`.
    curvature : {"diagonal", "upper_bound"}, default "diagonal"
        The Hessian's diagonal H_jj, as `hessian_diagonal` gives it; or ``Σ_k |H_jk|``, the sums of
        the magnitudes in the Hessian's rows. The diagonal matrix of these is never below the
        Hessian, so that a step divided by it does not overshoot the loss's quadratic model. For
        a softmax's plain cross-entropy it is the 2p(1 − p) of XGBoost [1]_; where elements stand
        alone, in binary losses, it is the magnitude of the diagonal.

    Returns
    -------
    callable
        ``f(*arrays, **options) -> (value, gradient, curvature)``: the loss, and its derivatives
        by the first array, of this array's shape and dtype (with ``reduction="none"``, of each
        row's own loss).

    Raises
    ------
    TypeError
        `loss` is not one of this package, or as the loss.
    ValueError
        An unknown `curvature`; an upper bound of `entropy`, `jensen_shannon_divergence`,
        `linear_cross_entropy`, or a focal or
        poly loss of probabilities or smoothed labels, which has no closed form of a number an
        entry; or as the loss.

    See Also
    --------
    value_and_grad, hessian_diagonal : each alone.

    References
    ----------
    .. [1] T. Chen, C. Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import cross_entropy, value_grad_and_hessian_diagonal
    >>> scores, labels = np.zeros((1, 2)), np.asarray([0])
    >>> newton = value_grad_and_hessian_diagonal(cross_entropy, "upper_bound")
    >>> value, gradient, curvature = newton(scores, labels, reduction="sum")
    >>> print(gradient, curvature)
    [[-0.5  0.5]] [[0.5 0.5]]
    """
    check.choice("curvature", curvature, ("diagonal", "upper_bound"))
    bound = curvature == "upper_bound"
    ask = Ask("value_gradient_and_curvature", (bound,))
    return Derivative(value_grad_and_hessian_diagonal, loss, ask, curvature=curvature)


def _name(loss: Any, argument: Argument) -> str:
    """Return the name of an argument that is given by position or name."""
    if isinstance(argument, str):
        return argument
    argument = check.integer("argnums", argument, "positions or names of arrays")
    if not 0 <= argument < len(loss.arguments):
        raise ValueError(
            f"argnums: got {argument}, wanted 0 … {len(loss.arguments) - 1} "
            f"({', '.join(loss.arguments)})"
        )
    return loss.arguments[argument]
