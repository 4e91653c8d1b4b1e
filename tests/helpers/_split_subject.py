"""xp_xent on JAX arrays whose classes two devices share, for the conformance vectors to ask.

A number of classes that is odd is filled up by a column, of which `split` is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _programs import compiled

import xp_xent
from xp_xent.conformance import Subject
from xp_xent.conformance._subjects import LOSSES, closed_form

Array = Any
AXIS = "model"
OF_LAYER = "linear_cross_entropy"
BINARY = ("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "binary_cross_entropy")
MAPS = ("softmax", "log_softmax", "logsumexp")
WHOLE = ("weight", "alpha", "cotangent")


class Call:
    """A call of one function, and how its arrays are split."""

    def __init__(self, name: str, arrays: tuple[Array, ...], options: dict[str, Any]) -> None:
        self.name, self.given = name, dict(enumerate(arrays)) | options
        axis = options.get("axis", -1)
        if not isinstance(axis, int) or name in BINARY or 0 in arrays[0].shape:
            # Of no rows, XLA's partitioner refuses a result that depends on nothing.
            raise NotImplementedError("several axes, no classes, or no rows")
        self.shape = arrays[0].shape
        self.axis = axis % max(len(self.shape), 1) - len(self.shape)  # from the end
        self.classes = arrays[1].shape[0] if name == OF_LAYER else self.shape[self.axis]

    def axis_of(self, key: int | str, array: Array) -> int | None:
        """Where an array has what is split, counted from the end; None: it has nothing."""
        rows = self.shape[: self.axis] + self.shape[len(self.shape) + self.axis + 1 :]
        if key in WHOLE:
            return None
        if self.name == OF_LAYER:
            if key in (1, "bias"):
                return -array.ndim
            like = key in (2, "class_where") and array.shape[-1:] == (self.classes,)
            floating = key == "class_where" or array.dtype.kind not in "iu"
            return -1 if like and floating else None
        if key != 0 and array.shape == rows and key != "b":
            return None
        has = array.ndim >= -self.axis and array.shape[self.axis] == self.classes
        return self.axis if has and (key != "where" or self.name in MAPS) else None

    def run(self, function: Callable[..., Array], kind: str, *, of_first: bool) -> Array:
        """Call with split arrays; the result is of the shape of the first argument, or of rows."""
        import jax
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        axes = AxisType.Auto if kind == "named" else AxisType[kind]
        mesh = jax.make_mesh((2,), (AXIS,), axis_types=(axes,))
        odd = self.classes % 2
        how: dict[str, Any] = {"num_classes": self.classes} if odd else {}
        how |= {"classes": AXIS} if kind == "named" else {}
        keys, arrays, specs = [], [], []
        for key, x in self.given.items():
            if not hasattr(x, "dtype"):
                continue
            at, spec = self.axis_of(key, x), PartitionSpec()
            if at is not None:
                places = [None] * x.ndim
                places[at] = AXIS
                spec = PartitionSpec(*places)
                if odd:
                    widths = [(0, int(i == x.ndim + at)) for i in range(x.ndim)]
                    of_logs = key == 1 and self.given.get("log_targets", False)
                    filling = -np.inf if of_logs else 0
                    x = jax.numpy.pad(x, widths, constant_values=filling)  # noqa: PLW2901
            keys.append(key)
            arrays.append(x)
            specs.append(spec)
        count = sum(isinstance(key, int) for key in keys)
        fixed = {key: x for key, x in self.given.items() if not hasattr(x, "dtype")}

        def call(*values: Array) -> Array:
            named = dict(zip(keys[count:], values[count:], strict=True))
            with xp_xent.split(**how):
                return function(*values[:count], **fixed, **named)

        is_split = of_first and self.name != OF_LAYER
        if kind == "named":
            out = specs[0] if is_split else PartitionSpec()
            call = jax.shard_map(call, mesh=mesh, in_specs=tuple(specs), out_specs=out)
        with jax.set_mesh(mesh):
            placed = [
                jax.device_put(x, NamedSharding(mesh, spec))
                for x, spec in zip(arrays, specs, strict=True)
            ]
            found = np.asarray(compiled(call)(*placed))
        if odd and is_split:
            found = np.take(found, range(self.classes), self.axis)
        return jax.numpy.asarray(found)


def subject(kind: str) -> Subject:
    """Losses and maps, and closed gradients: "named" axes inside shard_map, or a kind of axes."""

    def asked(name: str, function: Any, *, of_first: bool) -> Any:
        def call(*arrays: Array, **options: Any) -> Array:
            return Call(name, arrays, options).run(function, kind, of_first=of_first)

        return call

    values = {
        name: asked(name, getattr(xp_xent, name), of_first=name in MAPS[:2])
        for name in (*LOSSES, *MAPS)
    }
    gradients = {name: asked(name, closed_form(name), of_first=True) for name in LOSSES}
    return Subject(f"xp_xent on jax, split ({kind})", "jax", values, gradients, traced=True)
