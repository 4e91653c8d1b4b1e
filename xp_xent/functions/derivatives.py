"""Gradients and curvature of every loss, in closed form, on every array library."""

from collections.abc import Callable
from numbers import Real
from typing import Any

from xp_xent.flow import checks as check
from xp_xent.flow.execute import compute
from xp_xent.flow.plan import Ask, loss_of
from xp_xent.flow.validate import common_backend

Array = Any
Argument = int | str

__all__ = ["hessian_diagonal", "hvp", "value_and_grad", "value_grad_and_hessian_diagonal"]


def value_and_grad(
    loss: Callable[..., Array], argnums: Argument | tuple[Argument, ...] = 0
) -> Callable[..., tuple[Array, Any]]:
    """Make a function that computes a loss and its gradient.

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
        ``f(*arrays, cotangent=None, **options) -> (value, gradient)``: arrays and options as the
        loss takes them; `gradient` is one array, or a tuple for a tuple of `argnums`, each of the
        shape and dtype of its argument. With ``reduction="none"`` it is the gradient of each
        row's own loss, and `cotangent`, of the loss's shape, weighs the rows.

    Raises
    ------
    TypeError
        `loss` is not one of this package, or an argument is not floating.
    ValueError
        `argnums` names no argument of the loss, or `cotangent` does not fit.

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
    """
    found, first, settings = loss_of(loss)
    single = not isinstance(argnums, tuple)
    wanted = argnums if isinstance(argnums, tuple) else (argnums,)
    names = tuple([_name(found, one) for one in wanted])
    if not names:
        raise ValueError("argnums: got (), wanted at least one argument to differentiate by")

    ask = Ask("value_and_grads", (names,))

    def call(*arrays: Array, cotangent: Any = None, **options: Any) -> tuple[Array, Any]:
        arrays = (*first, *arrays)
        if cotangent is not None and not isinstance(cotangent, Real):
            _of_one_library(arrays, cotangent=cotangent)
        options = found.with_defaults(arrays, settings | options)
        value, gradients = compute(found, ask, arrays, options, cotangent)
        return value, gradients[0] if single else gradients

    return call


def hvp(loss: Callable[..., Array]) -> Callable[..., Array]:
    """Make a function that multiplies a loss's Hessian by a vector.

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
    found, first, settings = loss_of(loss)
    ask = Ask("hvp")

    def call(*arrays: Array, **options: Any) -> Array:
        if len(arrays) < 2:
            raise TypeError("hvp: wanted the loss's arrays and then the vector, all positional")
        _of_one_library(arrays[:-1], vector=arrays[-1])
        *given, vector = arrays
        arrays = (*first, *given)
        options = found.with_defaults(arrays, settings | options)
        return compute(found, ask, arrays, options, vector)

    return call


def hessian_diagonal(loss: Callable[..., Array]) -> Callable[..., Array]:
    """Make a function that computes the diagonal of a loss's Hessian.

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
    return _asking(loss, Ask("hessian_diagonal"))


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
        An unknown `curvature`; an upper bound of `entropy`, `jensen_shannon_divergence` or
        `linear_cross_entropy`, which has no closed form of a number an entry; or as the loss.

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
    return _asking(loss, Ask("value_gradient_and_curvature", (bound,)))


def _asking(loss: Any, ask: Ask) -> Callable[..., Any]:
    """Make a function that asks the evaluation of a loss for something."""
    found, first, settings = loss_of(loss)

    def call(*arrays: Array, **options: Any) -> Any:
        arrays = (*first, *arrays)
        return compute(found, ask, arrays, found.with_defaults(arrays, settings | options))

    return call


def _of_one_library(arrays: tuple[Array, ...], **more: Array) -> None:
    """Refuse arrays of several libraries or devices."""
    common_backend(**{f"argument {i}": array for i, array in enumerate(arrays)}, **more)


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
