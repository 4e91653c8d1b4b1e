"""Maps of tensors that several ranks have parts of: softmax, logarithms of sums, sigmoids.

Each rank applies the map to what it has, by formulas that PyTorch differentiates, and exchanges
numbers of rows; backward exchanges as many. Before that they agree on the call, as for losses.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

from xp_xent.backends import _split, _torch
from xp_xent.backends._base import Array
from xp_xent.backends._rank_part import TorchPart
from xp_xent.backends._ranks import Ranks
from xp_xent.backends._torch_call import refuse_transforms, same, signature
from xp_xent.backends._torch_placed import part_shapes, settled

Call = Callable[[Any, dict[str, Any]], Any]


def of_plain(x: Array, axes: Any, options: dict[str, Any], call: Call) -> Any:
    """Apply a map within `split`, whose classes lie along the axes."""
    split = _split.current.get()
    part = _torch.BACKEND._of_part(split)
    return _applied(x, axes, options, call, part.classes if axes != () else None)


def of_dtensor(x: DTensor, axes: Any, options: dict[str, Any], call: Call) -> Any:
    """Apply a map to a DTensor over axes: an integer, some, or None for all."""
    mesh, x = x.device_mesh, settled(x)
    over = [at % x.ndim for at in _listed(axes, x.ndim)]
    split = {dim: at.dim for dim, at in enumerate(x.placements) if isinstance(at, Shard)}
    inner = {dim: at for dim, at in split.items() if at in over}
    classes = None
    if inner:
        shapes = part_shapes({at: x.shape[at] for at in over}, inner, mesh)
        groups = [mesh.get_group(dim) for dim in inner]
        classes = Ranks(groups, [math.prod(shape) for shape in shapes])

    def here(option: Any) -> Any:
        if not isinstance(option, torch.Tensor) or option.ndim == 0:
            return option
        shift = x.ndim - option.ndim
        axes = {dim: at - shift for dim, at in split.items() if at >= shift}
        axes = {dim: at for dim, at in axes.items() if option.shape[at] == x.shape[at + shift]}
        return settled(option, mesh, axes).to_local()

    def whole(found: Array) -> Any:
        axes, shape = split, list(x.shape)
        if found.ndim < x.ndim or tuple(found.shape) != tuple(local.shape):
            axes = {dim: at for dim, at in split.items() if dim not in inner}
            if found.ndim == x.ndim:
                shape = [1 if at in over else n for at, n in enumerate(shape)]
            else:
                axes = {dim: at - sum(one < at for one in over) for dim, at in axes.items()}
                shape = [n for at, n in enumerate(shape) if at not in over]
        placements = [Shard(axes[dim]) if dim in axes else Replicate() for dim in range(mesh.ndim)]
        size = torch.Size(shape)
        stride = tuple([math.prod(size[at + 1 :]) for at in range(len(size))])
        return DTensor.from_local(found, mesh, placements, shape=size, stride=stride)

    local = x.to_local(grad_placements=x.placements)
    options = {name: here(option) for name, option in options.items()}
    found = _applied(local, axes, options, call, classes)
    return tuple(map(whole, found)) if isinstance(found, tuple) else whole(found)


def _applied(
    x: Array, axes: Any, options: dict[str, Any], call: Call, classes: Ranks | None
) -> Any:
    if classes is not None:
        refuse_transforms()
    over = {at % x.ndim for at in _listed(axes, x.ndim) if x.ndim and hasattr(at, "__index__")}
    rows = tuple([n for at, n in enumerate(x.shape) if at not in over])
    waits = x.device.type == "cpu" or (classes is not None and classes.lengths is None)
    if classes is not None and waits and not torch.compiler.is_compiling():
        _agree(x, axes, rows, options, call, classes)
    for name, option in options.items():
        if isinstance(option, torch.Tensor) and option.requires_grad:
            raise TypeError(
                f"{name}: requires grad, but a map of tensors that are split is differentiated by "
                "its first argument alone; use detach()"
            )
    part = TorchPart.of(_torch.BACKEND, classes, None)
    with _split.within(_split.Split(adapter=part)):
        found = call(x, options)
    if classes is None or not isinstance(found, tuple):
        return found
    # What is a number of rows, and not of elements, all these ranks have.
    reduced = [y.ndim < x.ndim or (y.numel() == math.prod(rows) != x.numel()) for y in found]
    return tuple(
        [_Once.apply(classes, y) if once else y for y, once in zip(found, reduced, strict=True)]
    )


def _agree(x: Array, axes: Any, rows: Any, options: Any, call: Any, classes: Ranks) -> None:
    """Raise on all ranks alike where they call different maps, or have different rows."""
    given = {"x": x, **options}
    by = [name for name, one in given.items() if getattr(one, "requires_grad", False)]
    said = signature((call.__name__, axes, by, torch.is_grad_enabled()), given.items())
    table = torch.tensor([said, zlib.crc32(repr(rows).encode())], device=x.device)
    calls, shapes = torch.stack(classes.gather(table)[0]).T.cpu().numpy()
    same("call", calls)
    same("shape of the rows", shapes)


def _listed(axes: Any, ndim: int) -> Sequence[int]:
    if axes is None:
        return range(ndim)
    return axes if isinstance(axes, tuple) else (axes,)


class _Once(torch.autograd.Function):
    """What all ranks have, whose derivative counts on one of them: see `_ranks`."""

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, x: Array) -> Array:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Any, ...]:
        return None, cotangent if ctx.ranks.rank == 0 else torch.zeros_like(cotangent)
