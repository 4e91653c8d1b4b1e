"""What optax's `axis` and `where` stand for among this library's options."""

from typing import Any

import jax
import jax.numpy as jnp

Array = Any
ArrayLike = Any
Axes = int | tuple[int, ...] | None
Masks = dict[str, Array]


def joined(x: Array, axis: Axes) -> Array:
    """Bring the class axes to the end, several as one."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    last = jnp.moveaxis(x, axes, range(-len(axes), 0))
    return last if len(axes) == 1 else last.reshape(*last.shape[: x.ndim - len(axes)], -1)


def masks(where: Any, logits: Array, axis: Axes) -> Masks:
    """Take a mask of rows as `where`; of entries, as `class_where` and the rows that have any."""
    if where is None:
        return {}
    where = jnp.asarray(where)
    if where.ndim != logits.ndim:
        return {"where": where}
    entries = joined(jnp.broadcast_to(where, logits.shape), axis)
    return {"where": jnp.any(entries, -1), "class_where": entries}


def of_probabilities(
    logits: Any, labels: Any, axis: Axes, where: Any, nothing: float = 0.0
) -> tuple[jax.Array, jax.Array, Masks]:
    """Return logits, floating labels and masks; `nothing` is the label of what is left out."""
    logits = jnp.asarray(logits)
    labels = jnp.asarray(labels, jnp.result_type(logits, labels))
    options = masks(where, logits, axis)
    logits, labels = joined(logits, axis), joined(labels, axis)
    if "class_where" in options:
        labels = jnp.where(options["class_where"], labels, nothing)
    return logits, labels, options
