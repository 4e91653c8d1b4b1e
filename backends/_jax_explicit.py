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
    """Split a result as an array of its shape, or of its shape with one more axis."""
    given = jax.typeof(like).sharding
    spec = list(given.spec) if given.mesh == mesh else [None] * like.ndim
    if x.ndim == 0:
        return split(x, mesh)
    if x.ndim < like.ndim:
        del spec[axis]
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


class ExplicitEvaluation:
    """An evaluation that is asked for its closed forms on split arrays."""

    def __init__(
        self,
        mesh: AbstractMesh,
        build: Callable[..., Any],
        arrays: tuple[Array, ...],
        options: dict[str, Any],
    ) -> None:
        self.mesh, self.arrays, self.options = mesh, arrays, options
        self.found = evaluated(mesh, *calling(build, arrays, options))
        self.arguments = self.found.arguments

    def value_and_grads(
        self, wrt: tuple[str, ...], cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Give the reduced loss, and its derivative by each of the arguments named."""
        value, gradients = evaluated(
            self.mesh, lambda cotangent: self.found.value_and_grads(wrt, cotangent), cotangent
        )
        given = dict(zip(self.arguments, self.arrays, strict=True)) | self.options
        axis = self.options.get("axis", -1)
        return split_like(value, self.arrays[0], self.mesh, axis), tuple(
            split_like(gradient, given[name], self.mesh)
            for name, gradient in zip(wrt, gradients, strict=True)
        )

    def value_gradient_and_curvature(self, bound: bool) -> tuple[Array, Array, Array]:
        """Give the reduced loss, its gradient and its curvature by the first array."""
        found = evaluated(self.mesh, lambda: self.found.value_gradient_and_curvature(bound))
        value, *by_first = found
        axis = self.options.get("axis", -1)
        like = self.arrays[0]
        gradient, curvature = (split_like(x, like, self.mesh) for x in by_first)
        return split_like(value, like, self.mesh, axis), gradient, curvature

    def hvp(self, vector: Array) -> Array:
        """Give the Hessian of the reduced loss by the first array, times a vector."""
        return split_like(evaluated(self.mesh, self.found.hvp, vector), self.arrays[0], self.mesh)

    def hessian_diagonal(self) -> Array:
        """Give the diagonal of the Hessian of the reduced loss by the first array."""
        found = evaluated(self.mesh, self.found.hessian_diagonal)
        return split_like(found, self.arrays[0], self.mesh)


def calling(
    function: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Give the call as a function of positional arguments alone, and these."""
    count, names = len(arrays), tuple(options)

    def call(*values: Any) -> Any:
        named = dict(zip(names, values[count:], strict=True))
        return function(*values[:count], **named)

    return call, *arrays, *options.values()
