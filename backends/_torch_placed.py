"""How DTensors are placed: brought to other placements, and the lengths of all parts."""

import itertools
from collections.abc import Sequence
from typing import Any

from torch.distributed.tensor import DTensor, Replicate, Shard


def settled(x: Any, mesh: Any = None, axes: dict[int, int] | None = None) -> DTensor:
    """Return a tensor as a DTensor whose axes these dimensions of the mesh split.

    None: as it is, but that no part is a summand.
    """
    if not isinstance(x, DTensor):
        x = DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False)
    if axes is None:
        axes = {dim: at.dim for dim, at in enumerate(x.placements) if isinstance(at, Shard)}
    wanted = [
        Shard(axes[dim] % x.ndim) if dim in axes else Replicate()
        for dim in range(x.device_mesh.ndim)
    ]
    return x if tuple(x.placements) == tuple(wanted) else x.redistribute(placements=wanted)


def part_shapes(shape: dict[int, int], split: dict[int, int], mesh: Any) -> list[tuple[int, ...]]:
    """Return the lengths of axes in all parts, in the order of their ranks."""
    found = []
    for place in itertools.product(*(range(mesh.size(dim)) for dim in split)):
        here = dict(shape)
        for (dim, axis), at in zip(split.items(), place, strict=True):
            here[axis] = chunks(here[axis], [mesh.size(dim)])[at]
        found.append(tuple(here.values()))
    return found


def chunks(length: int, sizes: Sequence[int]) -> list[int]:
    """Return how long the parts are when ranks of these numbers divide a length one by one."""
    parts = [length]
    for size in sizes:
        divided = []
        for part in parts:
            step = -(-part // size)
            divided += [max(0, min(step, part - at * step)) for at in range(size)]
        parts = divided
    return parts


def refuse_strided(placement: Any) -> None:
    if type(placement) is not Shard:
        raise TypeError(f"logits: got placement {placement}, wanted Shard, Replicate or Partial")
