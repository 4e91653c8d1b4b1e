"""PyTorch's own samples of its losses, through the drop-in: how many pass.

``python tests/helpers/_opinfo_count.py`` prints a line a function. A sample passes where value and
gradients are PyTorch's own to `torch.testing.assert_close`, in float64 and float32, and where, in
float64, `gradcheck` and `gradgradcheck` find no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch.autograd import gradcheck, gradgradcheck

import xp_xent
from xp_xent.integrations import torch as drop_in

FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": drop_in.cross_entropy,
    "nll_loss": drop_in.nll_loss,
    "binary_cross_entropy_with_logits": drop_in.binary_cross_entropy_with_logits,
    "kl_div": drop_in.kl_div,
    # Not of the drop-in, which would have to clamp as PyTorch's does; its own names fit, though.
    "binary_cross_entropy": xp_xent.binary_cross_entropy,
}


@cache
def samples(name: str, dtype: torch.dtype) -> list[Any]:
    """Draw PyTorch's samples of a function, the same in each run."""
    from torch.testing._internal.common_methods_invocations import op_db

    (op,) = (op for op in op_db if op.name == f"nn.functional.{name}")
    torch.manual_seed(0)
    return list(op.sample_inputs("cpu", dtype, requires_grad=True))


class Call:
    """A sample as a function of those of its tensors that a gradient is asked of."""

    def __init__(self, sample: Any) -> None:
        named = dict(enumerate((sample.input, *sample.args))) | sample.kwargs
        self.inputs = {
            name: x for name, x in named.items() if isinstance(x, torch.Tensor) and x.requires_grad
        }
        self._named = named

    def of(self, function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """Return the function of those tensors alone."""

        def call(*tensors: torch.Tensor) -> torch.Tensor:
            named = self._named | dict(zip(self.inputs, tensors, strict=True))
            positional = [named.pop(name) for name in list(named) if isinstance(name, int)]
            return function(*positional, **named)

        return call

    def results(self, function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return value and gradients, of a cotangent that differs from element to element."""
        tensors = tuple(self.inputs.values())
        value = self.of(function)(*tensors)
        cotangent = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
        return (value, *torch.autograd.grad(value, tensors, cotangent))


def check(name: str, sample: Any) -> None:
    """Compare a sample's results with PyTorch's, and its derivatives with differences."""
    call, mine, theirs = Call(sample), FUNCTIONS[name], getattr(torch.nn.functional, name)
    for got, wanted in zip(call.results(mine), call.results(theirs), strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True)
    if sample.input.dtype == torch.float64:
        gradcheck(call.of(mine), tuple(call.inputs.values()))
        gradgradcheck(call.of(mine), tuple(call.inputs.values()))


def outcomes(name: str) -> Iterator[bool]:
    """Yield of each sample whether it passes in both dtypes."""
    for pair in zip(samples(name, torch.float64), samples(name, torch.float32), strict=True):
        try:
            for sample in pair:
                check(name, sample)
        except (AssertionError, RuntimeError, TypeError, ValueError) as fault:
            print(f"{name}: {fault}")  # noqa: T201 (what does not pass is said)
            yield False
        else:
            yield True


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    for name in FUNCTIONS:
        passed = list(outcomes(name))
        print(f"{name}: {sum(passed)} of {len(passed)} samples")  # noqa: T201
