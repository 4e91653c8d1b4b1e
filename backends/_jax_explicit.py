"""JAX: arrays that are split over explicit axes of a mesh, as those of `jax.make_mesh` are.

There each operation must tell from its operands how its result is split, and refuses where it
cannot: a label's logit among split classes, a classifier's gradient over split rows. So a loss is
evaluated with these axes left to the compiler, and what it returns is split as its arguments are.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from xp_xent.backends._base import Array


def mesh_of(*values: Any) -> AbstractMesh | None:
    """Find the mesh over explicit axes of which any of the values, if it is an array, is split."""
    for x in values:
        if isinstance(x, jax.Array):
            sharding = jax.typeof(x).sharding
            if sharding.mesh.explicit_axes and any(sharding.spec):
                return sharding.mesh
    return None


def evaluated(mesh: AbstractMesh, function: Callable[..., Any], *values: Any) -> Any:
    """Call a function with the explicit axes left to the compiler; values may be anything."""
    left = mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))
    with jax.sharding.use_abstract_mesh(left):
        return function(*[_left(x) for x in values])


def _left(x: Any) -> Any:
    if not isinstance(x, jax.Array) or jax.typeof(x).sharding.mesh.empty:
        return x
    return jax.sharding.reshard(x, PartitionSpec())


def split(x: Array, mesh: AbstractMesh, *spec: Any) -> Array:
    """Split an array over axes of the mesh; without any, each device gets all of it."""
    return jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*spec)))


def split_like(x: Array, like: Array, mesh: AbstractMesh, axis: int = -1) -> Array:
    """Split a result as an array of its shape, or of its shape but for the class axis."""
    given = jax.typeof(like).sharding
    spec = list(given.spec) if given.mesh == mesh else [None] * like.ndim
    if x.ndim == 0:
        return split(x, mesh)
    if x.ndim != like.ndim:
        del spec[axis]
    if x.ndim > like.ndim:  # a matrix of classes for each row
        spec += [None, None]
    # What does not come out even cannot be split: an axis kept of length 1, a text less its first.
    pairs = zip(spec, x.shape, strict=True)
    return split(
        x, mesh, *[name if size % _devices(mesh, name) == 0 else None for name, size in pairs]
    )


def _devices(mesh: AbstractMesh, names: Any) -> int:
    """Count what an axis split over these axes of the mesh is split into."""
    count = 1
    for name in names if isinstance(names, tuple) else (names,):
        count *= 1 if name is None else mesh.shape[name]
    return count


def evaluate(
    mesh: AbstractMesh,
    function: Callable[..., Any],
    loss: Any,
    ask: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    more: tuple[Any, ...],
) -> Any:
    """Call ``function(loss, ask, arrays, options, *more)``; its results are split as arguments are.

    A loss is split as the logits are, curvature too, a gradient as its argument.
    """
    count, names = len(arrays), tuple(options)

    def call(*values: Any) -> Any:
        end = count + len(names)
        named = dict(zip(names, values[count:end], strict=True))
        return function(loss, ask, values[:count], named, *values[end:])

    found = evaluated(mesh, call, *arrays, *options.values(), *more)
    first, axis = arrays[0], options.get("axis", -1)
    if ask is not None and ask.method == "value_and_grads":
        value, gradients = found
        given = dict(zip(loss.arguments, arrays, strict=True)) | options
        pairs = zip(ask.arguments[0], gradients, strict=True)
        gradients = tuple([split_like(gradient, given[name], mesh) for name, gradient in pairs])
        return jax.tree.map(lambda x: split_like(x, first, mesh, axis), value), gradients
    return jax.tree.map(lambda x: split_like(x, first, mesh, axis), found)
