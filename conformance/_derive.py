"""Turn a loss into its gradient by the framework's own differentiation, and compile it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

Array = Any
Call = Callable[..., Array]


def torch_gradient(loss: Call) -> Call:
    """Differentiate with PyTorch's autograd."""

    def gradient(logits: Array, *arrays: Array, cotangent: Any = None, **options: Any) -> Array:
        import torch

        # The same memory: a loss that writes to its input is seen to.
        logits = logits.detach().requires_grad_()
        value = loss(logits, *arrays, **options)
        upstream = torch.ones_like(value) if cotangent is None else cotangent.to(value.dtype)
        (found,) = torch.autograd.grad(value, logits, upstream)
        return found

    return gradient


def jax_gradient(loss: Call) -> Call:
    """Differentiate with jax.vjp."""

    def gradient(logits: Array, *arrays: Array, cotangent: Any = None, **options: Any) -> Array:
        import jax

        value, pull = jax.vjp(lambda z: loss(z, *arrays, **options), logits)
        upstream = jax.numpy.ones_like(value) if cotangent is None else cotangent
        return pull(upstream.astype(value.dtype))[0]

    return gradient


def jitted(function: Call) -> Call:
    """Compile with jax.jit: arrays are traced, other options constant."""

    @cache
    def compiled(constants: tuple[tuple[str, Any], ...]) -> Call:
        import jax

        return jax.jit(lambda *arrays, **named: function(*arrays, **named, **dict(constants)))

    def call(*arrays: Array, **options: Any) -> Array:
        traced = {name: x for name, x in options.items() if hasattr(x, "dtype")}
        constants = sorted((name, x) for name, x in options.items() if name not in traced)
        return compiled(tuple(constants))(*arrays, **traced)

    return call


def torch_compiled(loss: Call, compiler: str) -> Call:
    """Compile with torch.compile, without a break in the graph."""

    def call(*arrays: Array, **options: Any) -> Array:
        import torch

        torch.compiler.reset()  # or a function is compiled a limited number of times only
        return torch.compile(loss, fullgraph=True, backend=compiler)(*arrays, **options)

    return call
