"""PyTorch under its compiler: derivatives of a loss stated, so that backward is one loop.

They are first derivatives in reverse: the compilers have no others. Those of `torch.func`, of which
there may be several inside what is compiled, go through the formula.
"""

from typing import Any

import torch

from xp_xent.backends._base import Array


def is_untransformed() -> bool:
    """Tell if what is compiled here will be differentiated by backward, if at all."""
    # Not "is None", which the compiler calls False of any object that it wraps.
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return torch.compiler.is_compiling() and isinstance(interpreter, type(None))  # noqa: FURB168


def is_backward_only(x: Array) -> bool:
    """Tell if what is compiled here will be differentiated by backward, and nothing else."""
    return is_untransformed() and x.requires_grad


def is_value_only(x: Array) -> bool:
    """Tell if what is compiled here will not be differentiated by x."""
    return is_untransformed() and not x.requires_grad


class Sums(torch.autograd.Function):
    """The sum of exp(z − shift) over the classes but the anchor, and z − shift at the anchor.

    Both are 0 in rows that do not count.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Array, shift: Array, anchor: Array, counted: Array | None, axis: int
    ) -> tuple[Array, Array]:
        """Sum; what is kept for backward are the logits, not their exponentials."""
        ctx.save_for_backward(z, shift, anchor, counted)
        ctx.axis = axis
        at_anchor = _at(anchor, z, axis)
        rest = torch.where(at_anchor, 0.0, (z - shift).exp()).sum(axis, keepdim=True)
        # Not a gather: Inductor would put it between the maximum and the sum of all rows, which
        # are one walk through memory otherwise.
        lead = torch.where(at_anchor, z, 0.0).sum(axis, keepdim=True) - shift
        if counted is None:
            return rest, lead
        return rest.masked_fill(~counted, 0), lead.masked_fill(~counted, 0)

    @staticmethod
    def backward(ctx: Any, rest: Array, lead: Array) -> tuple[Array, None, None, None, None]:
        """Give each element its derivative: no gradient of one output is written on its own."""
        z, shift, anchor, counted = ctx.saved_tensors
        at_anchor = _at(anchor, z, ctx.axis)
        # First what lies in memory as the logits do: so does then the result.
        by = (z - shift).exp() * torch.where(at_anchor, 0, rest) + torch.where(at_anchor, lead, 0)
        # An ignored row may hold NaN, and meet one on its way.
        by = by if counted is None else by.masked_fill(~counted, 0)
        return by, None, None, None, None


class Sloped(torch.autograd.Function):
    """A function of numbers of a row, and its derivatives as it states them."""

    @staticmethod
    def forward(ctx: Any, function: Any, *rows: Any) -> Array:
        """Evaluate both: backward would make its derivatives again for each vector of elements."""
        ctx.shapes = [row.shape if isinstance(row, torch.Tensor) else None for row in rows]
        ctx.save_for_backward(*function.slopes(*rows))
        return function.value(*rows)

    @staticmethod
    def backward(ctx: Any, by: Array) -> tuple[Array | None, ...]:
        """Multiply by the derivatives."""
        wanted = ctx.needs_input_grad[1:]
        return None, *(
            (slope * by).sum_to_size(shape) if want else None
            for slope, shape, want in zip(ctx.saved_tensors, ctx.shapes, wanted, strict=True)
        )


def _at(anchor: Array, z: Array, axis: int) -> Array:
    # In the size of a float: vectors of both are then equally long.
    classes = torch.arange(z.shape[axis], dtype=torch.int32, device=z.device)
    return classes[(..., *(None,) * (-1 - axis))] == anchor.to(torch.int32)
