"""PyTorch under its compiler: derivatives of a loss stated, so that backward is one loop.

They are first derivatives in reverse: the compilers have no others. Those of `torch.func`, of which
there may be several inside what is compiled, go through the formula.
"""

from typing import Any

import torch

from xp_xent.backends._base import Array


def is_backward_only(x: Array) -> bool:
    """Tell if what is compiled here will be differentiated by backward, and nothing else."""
    return (
        torch.compiler.is_compiling()
        and x.requires_grad
        # Not "is None", which the compiler calls False of any object that it wraps.
        and isinstance(torch._C._functorch.peek_interpreter_stack(), type(None))  # noqa: FURB168
    )


class Sums(torch.autograd.Function):
    """The sum of exp(z − shift) over the classes but the anchor, and z at the anchor."""

    @staticmethod
    def forward(ctx: Any, z: Array, shift: Array, anchor: Array) -> tuple[Array, Array]:
        """Sum; what is kept for backward are the logits, not their exponentials."""
        ctx.save_for_backward(z, shift, anchor)
        rest = torch.where(_at(anchor, z), 0.0, (z - shift).exp()).sum(-1, keepdim=True)
        return rest, z.gather(-1, anchor.expand(*z.shape[:-1], 1))

    @staticmethod
    def backward(ctx: Any, rest: Array, own: Array) -> tuple[Array, None, None]:
        """Give each element its derivative: no gradient of one output is written on its own."""
        z, shift, anchor = ctx.saved_tensors
        at_anchor = _at(anchor, z)
        # First what lies in memory as the logits do: so does then the result.
        others = (z - shift).exp() * torch.where(at_anchor, 0, rest)
        return others + torch.where(at_anchor, own, 0), None, None


class Sloped(torch.autograd.Function):
    """A function of numbers of a row, and its derivatives as it states them."""

    @staticmethod
    def forward(ctx: Any, function: Any, *rows: Any) -> Array:
        """Evaluate it."""
        ctx.function = function
        ctx.numbers = [None if isinstance(x, torch.Tensor) else x for x in rows]
        ctx.save_for_backward(*(x for x in rows if isinstance(x, torch.Tensor)))
        return function.value(*rows)

    @staticmethod
    def backward(ctx: Any, by: Array) -> tuple[Array | None, ...]:
        """Multiply by the derivatives."""
        arrays = iter(ctx.saved_tensors)
        rows = [next(arrays) if x is None else x for x in ctx.numbers]
        slopes = ctx.function.slopes(*rows)
        wanted = ctx.needs_input_grad[1:]
        return None, *(
            (slope * by).sum_to_size(row.shape) if want else None
            for slope, row, want in zip(slopes, rows, wanted, strict=True)
        )


def _at(anchor: Array, z: Array) -> Array:
    # In the size of a float: vectors of both are then equally long.
    classes = torch.arange(z.shape[-1], dtype=torch.int32, device=z.device)
    return classes == anchor.to(torch.int32)
