"""PyTorch's process groups as a fabric: parts that lie with the ranks, merged in their order.

Everything is gathered and then merged by each rank for itself, in the order of the ranks. So all
ranks have the same bits, whatever the collectives of a fabric do, and a NaN gets everywhere, which
gloo's own maximum loses. What is gathered is one number a row.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from torch.distributed import _functional_collectives as functional

from xp_xent.backends._base import Array

# Under the names that they have had since PyTorch 2.13, and before.
_eager = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
_traced = getattr(functional, "all_gather_single", None) or functional.all_gather_tensor


class Ranks:
    """Parts along one direction, which process groups divide one after the other.

    Parameters
    ----------
    groups : sequence of process groups
        The outermost first.
    lengths : sequence of int, optional
        Of all parts, in the order of the ranks; None where they are not known.
    """

    def __init__(self, groups: Sequence[Any], lengths: Sequence[int] | None = None) -> None:
        self.groups, self.lengths = tuple(groups), lengths
        self.size, self.rank = 1, 0
        for group in self.groups:
            self.size *= distributed.get_world_size(group)
            self.rank = self.rank * distributed.get_world_size(group) + distributed.get_rank(group)

    def of_lengths(self, lengths: Sequence[int]) -> "Ranks":
        """Return the same parts, of these lengths."""
        return type(self)(self.groups, lengths)

    # What a part asks of its fabric

    def count(self, here: Any) -> Any:
        """Return a length of all parts, of which `here` are in this one; NaN: not known."""
        if isinstance(here, int):
            return sum(self._lengths(here))
        known = self.lengths is not None and here == self.lengths[self.rank]
        return float(sum(self.lengths or ())) if known else math.nan

    def first(self, here: int) -> int:
        """Return how much of that length lies in the parts before this one."""
        return self.starts(here)[self.rank]

    def starts(self, here: int) -> list[int]:
        """Return how much of that length lies in the parts before each."""
        return [0, *itertools.accumulate(self._lengths(here))][: self.size]

    def _lengths(self, here: int) -> Sequence[int]:
        """Return the lengths of all parts: asked for once, but by what is compiled alike."""
        if self.lengths is None:
            if torch.compiler.is_compiling():
                return [here] * self.size
            on_host = "cpu" in str(distributed.get_backend_config(self.groups[0]))
            device = "cpu" if on_host else torch.accelerator.current_accelerator()
            table = torch.tensor([here], device=device)
            self.lengths = [int(one) for one in Ranks.gather(self, table)[0]]
        return self.lengths

    def sum(self, *arrays: Array) -> tuple[Array, ...]:
        """Add arrays up over the parts, all of them in one exchange."""
        if torch.is_grad_enabled() and any(x.requires_grad for x in arrays):
            found = _Sum.apply(self, *arrays)
            return found if isinstance(found, tuple) else (found,)
        return tuple([functools.reduce(operator.add, parts) for parts in self.gather(*arrays)])

    def max(self, x: Array) -> Array:
        """Return the maximum over the parts, constant to differentiation."""
        return functools.reduce(torch.maximum, self.gather(x.detach())[0])

    def min(self, x: Array) -> Array:
        """Return the minimum over the parts, constant to differentiation."""
        return functools.reduce(torch.minimum, self.gather(x.detach())[0])

    def sum_elsewhere(self, x: Array) -> Array:
        """Add an array up over all parts but this one: not as a difference, which would cancel."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _SumElsewhere.apply(self, x)
        parts = [part for at, part in enumerate(self.gather(x)[0]) if at != self.rank]
        return functools.reduce(operator.add, parts, torch.zeros_like(x))

    # Exchanges

    def gather(self, *arrays: Array) -> list[list[Array]]:
        """Return each array of all parts, in the order of the ranks: one exchange of bytes."""
        order = sorted(range(len(arrays)), key=lambda at: -arrays[at].element_size())
        flat = [arrays[at].contiguous().reshape(-1).view(torch.uint8) for at in order]
        gathered = torch.cat(flat) if len(flat) > 1 else flat[0]
        for group in reversed(self.groups):
            gathered = _all_gathered(gathered, group)
        gathered = gathered.reshape(self.size, -1)
        found: dict[int, list[Array]] = {}
        start = 0
        for at, own in zip(order, flat, strict=True):
            x, stop = arrays[at], start + own.shape[0]
            parts = gathered[:, start:stop].reshape(-1).view(x.dtype).reshape(self.size, *x.shape)
            found[at] = list(parts)
            start = stop
        return [found[at] for at in range(len(arrays))]

    def added(self, x: Array) -> Array:
        """Add up an array that is too large to be gathered."""
        for group in self.groups:
            if torch.compiler.is_compiling():
                x = functional.all_reduce(x, "sum", group)
            else:
                x = x.contiguous()
                distributed.all_reduce(x, group=group)
        return x


def _all_gathered(x: Array, group: Any) -> Array:
    """Return one line of all ranks' lines."""
    if torch.compiler.is_compiling():
        return functional.wait_tensor(_traced(x, 0, group))
    found = x.new_empty(distributed.get_world_size(group) * x.shape[0])
    _eager(found, x, group=group)
    return found


class HostRanks(Ranks):
    """The same for NumPy's arrays."""

    def gather(self, *arrays: Array) -> list[list[Array]]:
        """Return each array of all parts, in the order of the ranks."""
        given = [torch.from_numpy(np.array(x, order="C")) for x in arrays]
        return [[part.numpy() for part in parts] for parts in super().gather(*given)]

    def sum(self, *arrays: Array) -> tuple[Array, ...]:
        """Add arrays up over the parts, all of them in one exchange."""
        return tuple([functools.reduce(operator.add, parts) for parts in self.gather(*arrays)])

    def max(self, x: Array) -> Array:
        """Return the maximum over the parts."""
        return functools.reduce(np.maximum, self.gather(x)[0])

    def min(self, x: Array) -> Array:
        """Return the minimum over the parts."""
        return functools.reduce(np.minimum, self.gather(x)[0])

    def sum_elsewhere(self, x: Array) -> Array:
        """Add an array up over all parts but this one."""
        parts = [part for at, part in enumerate(self.gather(x)[0]) if at != self.rank]
        return functools.reduce(operator.add, parts, np.zeros_like(x))


# Each rank differentiates its own part of a computation, and a number that all ranks have counts
# once for each use of it on any of them. Then both are their own transposes.


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Ranks, *arrays: Array) -> Any:
        ctx.ranks = ranks
        found = ranks.sum(*arrays)
        return found if len(found) > 1 else found[0]

    @staticmethod
    def backward(ctx: Any, *cotangents: Array) -> tuple[Any, ...]:
        return None, *ctx.ranks.sum(*cotangents)


class _SumElsewhere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ranks: Ranks, x: Array) -> Array:
        ctx.ranks = ranks
        return ranks.sum_elsewhere(x)

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Any, ...]:
        return None, ctx.ranks.sum_elsewhere(cotangent)
