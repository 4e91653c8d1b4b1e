"""optax's own signatures for this library's losses: to be imported in place of ``optax.losses``.

Parameters, their order and defaults are optax's, and so is what `axis` and `where` mean; numbers
and refusals are this library's: what that changes is listed on the documentation's page of optax.
"""

import jax
import jax.numpy as jnp

import xp_xent
from xp_xent.integrations._optax_arguments import ArrayLike, Axes, joined, masks, of_probabilities
from xp_xent.integrations.optax_divergences import (
    kl_divergence,
    kl_divergence_with_log_targets,
)

__all__ = [
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "poly_loss_cross_entropy",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axes = -1, where: ArrayLike | None = None
) -> jax.Array:
    """Compute `xp_xent.cross_entropy` by the signature of ``optax.losses.softmax_cross_entropy``.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities.
    labels : array, logits' shape
        Probabilities, or one-hot labels.
    axis : int, tuple of int or None, default -1
        The axis or axes of the classes; None: all.
    where : boolean array, optional
        The rows that count, of the shape without `axis`, or the entries, of the logits' shape.
        What is left out has no share of the softmax, and its labels do not count.

    Returns
    -------
    array
        One loss a row, in float32 for float16 and bfloat16; 0 where nothing takes part.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.cross_entropy`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import softmax_cross_entropy
    >>> print(softmax_cross_entropy(jnp.zeros((2, 3)), jnp.eye(3)[:2]))
    [1.0986123 1.0986123]
    """
    logits, labels, options = of_probabilities(logits, labels, axis, where)
    return xp_xent.cross_entropy(logits, labels, reduction="none", **options)


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute `xp_xent.cross_entropy` by the signature of optax's function of that name.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities.
    labels : integer array, logits' shape without `axis`
        Labels; with several axes, flat indices into them. No label is special.
    axis : int or tuple of int, default -1
        The axis or axes of the classes, in the order of the flat index.
    where : boolean array, optional
        As in `softmax_cross_entropy`; a label that is left out has an infinite loss.

    Returns
    -------
    array
        One loss a row, in float32 for float16 and bfloat16; 0 where nothing takes part.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.cross_entropy`; an `axis` of None.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import softmax_cross_entropy_with_integer_labels
    >>> print(softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 3)), jnp.asarray([0, 1])))
    [1.0986123 1.0986123]
    """
    if axis is None:
        raise ValueError("axis: got None, wanted an int or a tuple of ints")
    logits = jnp.asarray(logits)
    options = masks(where, logits, axis)
    return xp_xent.cross_entropy(
        joined(logits, axis), jnp.asarray(labels), ignore_index=None, reduction="none", **options
    )


def safe_softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute `softmax_cross_entropy` along the last axis, which takes logits of −inf anyway.

    Parameters
    ----------
    logits, labels
        As in `softmax_cross_entropy`.

    Returns
    -------
    array
        One loss a row.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import safe_softmax_cross_entropy
    >>> print(safe_softmax_cross_entropy(jnp.asarray([0.0, 0.0, -jnp.inf]), jnp.eye(3)[0]))
    0.6931472
    """
    return softmax_cross_entropy(logits, labels)


def poly_loss_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 2.0,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute `xp_xent.poly_cross_entropy` by the signature of optax's function.

    Parameters
    ----------
    logits, labels, axis, where
        As in `softmax_cross_entropy`.
    epsilon : float, default 2.0
        The coefficient of the polynomial's first term, ≥ −1.

    Returns
    -------
    array
        One loss a row, as in `softmax_cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.poly_cross_entropy`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import poly_loss_cross_entropy
    >>> print(poly_loss_cross_entropy(jnp.zeros(3), jnp.eye(3)[0]))
    2.4319458
    """
    logits, labels, options = of_probabilities(logits, labels, axis, where)
    return xp_xent.poly_cross_entropy(logits, labels, epsilon=epsilon, reduction="none", **options)


def sigmoid_binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Compute `xp_xent.binary_cross_entropy_with_logits` by the signature of optax's function.

    Parameters
    ----------
    logits : array
        Logits of any shape.
    labels : array, logits' shape
        1 for the positive class, or its probability.

    Returns
    -------
    array
        The loss of each element, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import sigmoid_binary_cross_entropy
    >>> print(sigmoid_binary_cross_entropy(jnp.zeros(2), jnp.asarray([0, 1])))
    [0.6931472 0.6931472]
    """
    return xp_xent.binary_cross_entropy_with_logits(
        jnp.asarray(logits), jnp.asarray(labels), reduction="none"
    )


def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike | None = None,
    gamma: ArrayLike = 2.0,
) -> jax.Array:
    """Compute `xp_xent.sigmoid_focal_loss` by the signature of ``optax.losses``'s.

    Parameters
    ----------
    logits, labels
        As in `sigmoid_binary_cross_entropy`.
    alpha : float or array in [0, 1], optional
        Weighs the positive class by α and the negative one by 1 − α.
    gamma : float, default 2.0
        The focusing exponent, ≥ 0.

    Returns
    -------
    array
        The loss of each element, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.sigmoid_focal_loss`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import sigmoid_focal_loss
    >>> print(sigmoid_focal_loss(jnp.zeros(2), jnp.asarray([0, 1]), gamma=1.0))
    [0.3465736 0.3465736]
    """
    return xp_xent.sigmoid_focal_loss(
        jnp.asarray(logits), jnp.asarray(labels), alpha=alpha, gamma=gamma, reduction="none"
    )
