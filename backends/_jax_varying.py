"""JAX inside `jax.shard_map`: what its types tell of arrays that vary from device to device."""

from typing import Any

import jax

from xp_xent.backends import _split
from xp_xent.backends._base import Array
from xp_xent.backends._numbers import dtype_kind


def varying_axes(x: Any) -> frozenset[str]:
    """Return the axes of the mesh along which an array is not known to be the same."""
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)  # older releases have `vma` instead
    return frozenset(kind.vma if manual is None else manual.varying)


def refuse_unnamed(loss: Any, arrays: tuple[Array, ...]) -> None:
    """Refuse logits that vary along an axis of the mesh and labels that do not.

    They may be a part of the classes each, and labels of the whole would be taken for local ones.
    """
    if loss.labels is None or not isinstance(arrays[0], jax.core.Tracer):
        return
    split = _split.current.get()
    named = dict(zip(loss.arguments, arrays, strict=False))
    labels = named.pop(loss.labels, None)
    if not isinstance(labels, jax.Array) or (split is not None and split.classes is not None):
        return
    if dtype_kind(labels.dtype) != "integer" or labels.ndim != arrays[0].ndim - 1:
        return
    rows = () if split is None else split.rows
    rows = rows if isinstance(rows, tuple) else (rows,)
    for name, x in named.items():
        axes = varying_axes(x) - varying_axes(labels) - set(rows)
        if axes:
            axis = min(axes)
            raise ValueError(
                f"{loss.labels}: got labels that are the same along {axis!r}, an axis of the mesh "
                f"along which the {name} vary; where the classes are split over it, call within "
                f"xp_xent.split(classes={axis!r}); where each device has rows of its own, pass "
                f"jax.lax.pcast({loss.labels}, {axis!r}, to='varying')"
            )
