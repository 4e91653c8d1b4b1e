"""PyTorch under its compiler: derivatives of a loss stated, so that backward is one loop.

They are first derivatives in reverse: the compilers have no others. Those of `torch.func`, of which
there may be several inside what is compiled, go through the formula.
"""

from typing import Any

import torch

from xp_xent.backends._base import Array


def is_untransformed() -> bool:
    """Return whether what is compiled here will be differentiated by backward, if at all."""
    # Not "is None", which the compiler calls False of any object that it wraps.
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return torch.compiler.is_compiling() and isinstance(interpreter, type(None))  # noqa: FURB168


def is_backward_only(x: Array) -> bool:
    """Return whether what is compiled here will be differentiated by backward, and nothing else."""
    return is_untransformed() and x.requires_grad


def is_value_only(*arrays: Any) -> bool:
    """Return whether what is compiled here will not be differentiated by any of the arrays."""
    tensors = [x for x in arrays if isinstance(x, torch.Tensor)]
    return is_untransformed() and not any(x.requires_grad for x in tensors)


class Sums(torch.autograd.Function):
    """The sum of exp(z − row_max) over the classes but the reference, and z − row_max there.

    Both are 0 in rows that do not count.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Array, row_max: Array, reference: Array, valid: Array | None, axis: int
    ) -> tuple[Array, Array]:
        """Sum; what is kept for backward are the logits, not their exponentials."""
        ctx.save_for_backward(z, row_max, reference, valid)
        ctx.axis = axis
        at_reference = _at(reference, z, axis)
        other_sum = torch.where(at_reference, 0.0, (z - row_max).exp()).sum(axis, keepdim=True)
        if axis == -1:  # to read a row's logit takes less time than to sum the row once more
            at = z.gather(axis, reference)
        else:  # where classes lie apart, both sums are one walk through memory
            at = torch.where(at_reference, z, 0.0).sum(axis, keepdim=True)
        gap = at - row_max
        if valid is None:
            return other_sum, gap
        return other_sum.masked_fill(~valid, 0), gap.masked_fill(~valid, 0)

    @staticmethod
    def backward(ctx: Any, other_sum: Array, gap: Array) -> tuple[Array, None, None, None, None]:
        """Compute each element its derivative: no gradient of one output is written on its own."""
        z, row_max, reference, valid = ctx.saved_tensors
        at_reference = _at(reference, z, ctx.axis)
        # First what lies in memory as the logits do: so does then the result.
        by = (z - row_max).exp() * torch.where(at_reference, 0, other_sum)
        by = by + torch.where(at_reference, gap, 0)
        # An ignored row may hold NaN, and meet one on its way.
        by = by if valid is None else by.masked_fill(~valid, 0)
        return by, None, None, None, None


class WithPartials(torch.autograd.Function):
    """A function of numbers of a row, and its derivatives as another function returns them."""

    @staticmethod
    def forward(ctx: Any, value: Any, partials: Any, *rows: Any) -> Array:
        """Evaluate both: backward would make its derivatives again for each vector of elements."""
        ctx.shapes = [row.shape if isinstance(row, torch.Tensor) else None for row in rows]
        ctx.save_for_backward(*partials(*rows))
        return value(*rows)

    @staticmethod
    def backward(ctx: Any, by: Array) -> tuple[Array | None, ...]:
        """Multiply by the derivatives."""
        wanted = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(
                (partial * by).sum_to_size(shape) if want else None
                for partial, shape, want in zip(ctx.saved_tensors, ctx.shapes, wanted, strict=True)
            ),
        )


def _at(reference: Array, z: Array, axis: int) -> Array:
    # In the size of a float: vectors of both are then equally long.
    classes = torch.arange(z.shape[axis], dtype=torch.int32, device=z.device)
    return classes[(..., *(None,) * (-1 - axis))] == reference.to(torch.int32)
