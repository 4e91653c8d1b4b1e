"""What each rank evaluates: losses of distributed tensors, and one written for ranks.

They take all of the arrays on every rank and return all of the result; each rank computes with
its part.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import loss_parallel
from torch.nn import functional

import xp_xent
from xp_xent.conformance._derive import Call, torch_gradient
from xp_xent.conformance._peer_options import for_pytorch, no_ignored, reduced, soft, takes

Array = Any
NO_MEAN = "cannot be evenly sharded"  # PyTorch's words where the ranks' means would not be the mean


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (distributed.get_world_size(),))


def distribute(x: Array, axis: int | None = None) -> DTensor:
    """Return a tensor that is on every rank as a distributed one, split along an axis or not."""
    placement = Replicate() if axis is None or x.ndim == 0 else Shard(axis % x.ndim)
    return distribute_tensor(x.detach(), _mesh(), [placement], src_data_rank=None)


class _Split(torch.autograd.Function):
    """Split a tensor, and bring its gradient together."""

    @staticmethod
    def forward(ctx: Any, x: Array, axis: int) -> DTensor:
        return distribute(x, axis)

    @staticmethod
    def backward(ctx: Any, cotangent: DTensor) -> Any:
        return cotangent.full_tensor(), None


def gradient(loss: Call, /, *arrays: Array, **options: Any) -> Array:
    """Differentiate a loss with PyTorch's autograd."""
    return torch_gradient(loss)(*arrays, **options)


def own(name: str, axis: int, /, *arrays: Array, **options: Any) -> Array:
    """Evaluate a function of this library, of logits that are split along that axis.

    Where they are yet to be computed, the features are split by rows, or the classifier by classes.
    """
    place = 0
    if name == "linear_cross_entropy":
        place, axis = -axis, 0
    given = list(arrays)
    given[place] = _Split.apply(given[place], axis)
    found = getattr(xp_xent, name)(*given, **options)
    return found.full_tensor()


# Peers


def by_rows(logits: Array, targets: Array, **options: Any) -> Array:
    """Evaluate PyTorch's cross-entropy of distributed tensors that are split by rows."""
    logits, targets, given = for_pytorch(logits, targets, options)
    return _offered(_Split.apply(logits, 0), distribute(targets, 0), given)


def by_classes(logits: Array, targets: Array, **options: Any) -> Array:
    """Evaluate it on logits that are split by classes, for use under `loss_parallel`.

    Probabilities and label smoothing it documents as not supported; the former's gradient is wrong.
    """
    takes(options, *(name for name in options if name != "label_smoothing"))
    if soft(logits, targets):
        raise NotImplementedError("labels only")
    logits, targets, given = for_pytorch(logits, targets, options)
    return _offered(_Split.apply(logits, min(1, logits.ndim - 1)), distribute(targets), given)


def _offered(logits: DTensor, targets: DTensor, given: dict[str, Any]) -> Array:
    given = {k: distribute(x) if hasattr(x, "dtype") else x for k, x in given.items()}
    try:
        return functional.cross_entropy(logits, targets, **given).full_tensor()
    except RuntimeError as error:
        if NO_MEAN in str(error):
            raise NotImplementedError(str(error)) from error
        raise


def under_loss_parallel(function: Call, /, *arrays: Array, **options: Any) -> Array:
    """Evaluate a function, and what it differentiates, under `loss_parallel`.

    After an error in it, PyTorch 2.13 stays in that mode.
    """
    with loss_parallel():
        return function(*arrays, **options)


def megatron_style(logits: Array, targets: Array, **options: Any) -> Array:
    """Evaluate a cross-entropy of split classes in the style of Megatron-LM, by three all-reduces.

    It is written from the formula: log Σ exp(z − max z) − (z_y − max z), with the gradient p − 1 at
    the label. Shards are equal: an odd number of classes is padded with −∞. It ignores no label and
    refuses none.
    """
    no_ignored(targets, options)
    given = takes(options, "axis", "reduction")
    if soft(logits, targets):
        raise NotImplementedError("labels only")
    rows = logits.movedim(given["axis"], -1)
    if targets.shape != rows.shape[:-1]:
        raise ValueError(f"targets: got shape {targets.shape}, wanted {rows.shape[:-1]}")
    return reduced(_VocabularyParallel.apply(rows, targets), given["reduction"])


class _VocabularyParallel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Array, targets: Array) -> Array:
        size, rank = distributed.get_world_size(), distributed.get_rank()
        ctx.classes, ctx.dtype = rows.shape[-1], rows.dtype
        rows = functional.pad(rows, (0, -rows.shape[-1] % size), value=-torch.inf)
        count = rows.shape[-1] // size
        z = rows[..., rank * count : (rank + 1) * count]
        z = z if z.dtype == torch.float64 else z.float()
        z = z - _all_reduced(z.amax(-1), distributed.ReduceOp.MAX)[..., None]
        index = targets.long() - rank * count
        here = (index >= 0) & (index < count)
        index = torch.where(here, index, 0)[..., None]
        own = torch.where(here, z.gather(-1, index)[..., 0], 0.0)
        exps = z.exp()
        own, total = _all_reduced(own), _all_reduced(exps.sum(-1))
        one_hot = torch.zeros_like(z).scatter(-1, index, here[..., None].to(z.dtype))
        ctx.save_for_backward(exps / total[..., None] - one_hot)
        return total.log() - own

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> Any:
        (slope,) = ctx.saved_tensors
        slope = (slope * cotangent[..., None]).to(ctx.dtype)
        parts = [torch.empty_like(slope) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, slope)
        return torch.cat(parts, -1)[..., : ctx.classes], None


def _all_reduced(x: Array, how: Any = distributed.ReduceOp.SUM) -> Array:
    x = x.contiguous()
    distributed.all_reduce(x, how)
    return x
