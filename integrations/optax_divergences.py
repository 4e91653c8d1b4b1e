"""optax's divergences, which its functions of log-probabilities are."""

import jax
import jax.numpy as jnp

import xp_xent
from xp_xent.integrations._optax_arguments import ArrayLike, Axes, of_probabilities

__all__ = ["kl_divergence", "kl_divergence_with_log_targets"]


def kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute `xp_xent.kl_divergence` by the signature of ``optax.losses.kl_divergence``.

    Parameters
    ----------
    log_predictions : array, shape (..., K, ...)
        Log-probabilities, which are not normalised again.
    targets : array, the same shape
        Probabilities.
    axis : int, tuple of int or None, default -1
        The axis or axes of the classes; None: all.
    where : boolean array, optional
        The entries whose terms count; broadcasts against the log-probabilities.

    Returns
    -------
    array
        One divergence a row, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.kl_divergence`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import kl_divergence
    >>> print(kl_divergence(jnp.log(jnp.full(4, 0.25)), jnp.eye(4)[0]))
    1.3862944
    """
    return _kl_divergence(log_predictions, targets, axis, where, 0.0)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike,
    log_targets: ArrayLike,
    axis: Axes = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Compute `kl_divergence` of targets that are log-probabilities.

    Parameters
    ----------
    log_predictions, axis, where
        As in `kl_divergence`.
    log_targets : array, the same shape
        Log-probabilities; −inf is a probability of 0.

    Returns
    -------
    array
        One divergence a row, as in `kl_divergence`.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.kl_divergence`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xp_xent.integrations.optax import kl_divergence_with_log_targets
    >>> log_q = jnp.log(jnp.asarray([0.5, 0.5, 0.0, 0.0]))
    >>> print(kl_divergence_with_log_targets(jnp.log(jnp.full(4, 0.25)), log_q))
    0.6931472
    """
    return _kl_divergence(log_predictions, log_targets, axis, where, -jnp.inf)


def _kl_divergence(
    log_p: ArrayLike, targets: ArrayLike, axis: Axes, where: ArrayLike | None, nothing: float
) -> jax.Array:
    if where is not None:  # of entries, as NumPy broadcasts
        where = jnp.broadcast_to(where, jnp.shape(log_p))
    log_p, targets, options = of_probabilities(log_p, targets, axis, where, nothing)
    log_targets = nothing != 0
    return xp_xent.kl_divergence(
        log_p, targets, normalized=True, log_targets=log_targets, reduction="none", **options
    )
