"""Turn a loss into its gradient by the framework's own differentiation, and compile it."""

from __future__ import annotations

from collections.abc import Callable
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


def mlx_gradient(loss: Call) -> Call:
    """Differentiate with mx.vjp."""

    def gradient(logits: Array, *arrays: Array, cotangent: Any = None, **options: Any) -> Array:
        import mlx.core as mx

        value = loss(logits, *arrays, **options)
        upstream = mx.ones_like(value) if cotangent is None else cotangent.astype(value.dtype)
        _, (found,) = mx.vjp(lambda z: loss(z, *arrays, **options), [logits], [upstream])
        return found

    return gradient


def _constant(compile_: Call) -> Call:
    """Compile a function anew for each set of options that are no arrays, which are constants."""
    known: dict[str, Call] = {}

    def call(*arrays: Array, **options: Any) -> Array:
        traced = {name: x for name, x in options.items() if hasattr(x, "dtype")}
        constants = {name: x for name, x in sorted(options.items()) if name not in traced}
        key = repr(constants)  # 0, 0.0 and False are not the same
        if key not in known:
            known[key] = compile_(constants)
        return known[key](*arrays, **traced)

    return call


def jitted(function: Call) -> Call:
    """Compile with jax.jit: arrays are traced."""

    def compile_(constants: dict[str, Any]) -> Call:
        import jax

        return jax.jit(lambda *arrays, **named: function(*arrays, **named, **constants))

    return _constant(compile_)


def torch_compiled(loss: Call, compiler: str) -> Call:
    """Compile with torch.compile for each shape, without a break in the graph."""

    def compile_(constants: dict[str, Any]) -> Call:
        import torch

        def whole(*arrays: Array, **named: Array) -> Array:
            return loss(*arrays, **named, **constants)

        return torch.compile(whole, fullgraph=True, dynamic=False, backend=compiler)

    return _constant(compile_)


def in_training(loss: Call) -> Call:
    """Ask for a loss as training does, which shares what is compiled with the gradient."""

    def value(logits: Array, *arrays: Array, **options: Any) -> Array:
        if logits.is_floating_point():
            logits = logits.detach().requires_grad_()
        return loss(logits, *arrays, **options).detach()

    return value


def forget_torch() -> None:
    """Free what torch.compile made, which recompiles a function a limited number of times."""
    import torch

    torch.compiler.reset()


def forget_jax() -> None:
    """Free what JAX compiled, megabytes a shape."""
    import jax

    jax.clear_caches()
