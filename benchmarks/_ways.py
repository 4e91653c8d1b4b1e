"""The ways to a loss and its gradient: this library's on each array library, and its peers'."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import xp_xent
from xp_xent import backends
from xp_xent.backends import Backend
from xp_xent.benchmarks._shapes import Problem

Array = Any
Loss = Callable[..., Array]  # (*floats, labels) -> the mean


@dataclass(frozen=True)
class Ready:
    """A loss whose inputs are in place."""

    loss: Callable[[], Array]
    both: Callable[[], tuple[Array, tuple[Array, ...]]]  # the loss, and a tuple of gradients
    wait: Callable[[Any], None]  # returns once a result of either has been computed


@dataclass(frozen=True)
class Way:
    """Whose loss it is, the library that it runs on, and how the gradient comes about."""

    name: str
    who: str
    library: str
    how: str

    def missing(self) -> str | None:
        """Say why it cannot be asked here, or None."""
        try:  # and no other library: a process that measures memory has only this one
            backends.get(self.library)
        except ImportError:
            return f"{self.library} is not usable here"
        needed = {"optax": "optax", "liger": "liger_kernel"}.get(self.who)
        return f"{needed} is not installed" if needed and not find_spec(needed) else None

    def ready(self, problem: Problem, device: Any) -> Ready:
        """Put the inputs on the device, and prepare the calls; nothing is computed yet."""
        backend = backends.get(self.library)
        floats = tuple(
            backend.asarray(x, dtype=problem.dtype, device=device) for x in problem.floats
        )
        index = "int32" if self.library == "jax" and problem.dtype != "float64" else "int64"
        labels = backend.asarray(problem.labels, dtype=index, device=device)
        return HOW[self.how](
            _Placed(backend, problem.shape.axis, floats, labels), _loss(self.who, problem)
        )


@dataclass(frozen=True)
class _Placed:
    """A problem whose arrays are on a device."""

    backend: Backend
    axis: int
    floats: tuple[Array, ...]
    labels: Array

    def wait(self, result: Any) -> None:
        self.backend.synchronize(result[0] if isinstance(result, tuple) else result)


WAYS: Final = {
    way.name: way
    for way in (
        Way("xp_xent, NumPy", "xp_xent", "numpy", "value_and_grad"),
        Way("xp_xent, CuPy", "xp_xent", "cupy", "value_and_grad"),
        Way("xp_xent, PyTorch", "xp_xent", "torch", "backward"),
        Way("xp_xent, PyTorch compiled", "xp_xent", "torch", "compiled"),
        Way("xp_xent, JAX", "xp_xent", "jax", "jit"),
        Way("PyTorch", "torch", "torch", "backward"),
        Way("PyTorch compiled", "torch", "torch", "compiled"),
        Way("PyTorch chunked", "torch, chunked", "torch", "backward"),
        Way("optax", "optax", "jax", "jit"),
        Way("Liger", "liger", "torch", "backward"),
    )
}


def _loss(who: str, problem: Problem) -> Loss:
    """Choose the function of (*floats, labels)."""
    axis, linear = problem.shape.axis, problem.linear
    if who == "xp_xent":
        if linear:
            return xp_xent.linear_cross_entropy
        return lambda logits, labels: xp_xent.cross_entropy(logits, labels, axis=axis)
    if who == "optax":
        import jax.numpy as jnp
        from optax.losses import softmax_cross_entropy_with_integer_labels as rows

        if linear:
            return lambda x, w, labels: rows(x @ w.T, labels).mean()
        # Its classes come last; a user with another layout moves them there.
        return lambda z, labels: rows(jnp.moveaxis(z, axis, -1), labels).mean()
    if who == "liger":
        from liger_kernel.transformers import functional as liger

        if linear:
            fused: Loss = liger.liger_fused_linear_cross_entropy
            return fused
        # It writes the gradient over the logits, which are needed again.
        return lambda z, labels: liger.liger_cross_entropy(z.clone(), labels)
    import torch
    from torch.nn import functional

    if not linear:
        return functional.cross_entropy
    options = torch.nn.LinearCrossEntropyOptions() if who.endswith("chunked") else None
    return lambda x, w, labels: functional.linear_cross_entropy(x, w, labels, options=options)


def _closed(placed: _Placed, loss: Loss) -> Ready:
    """Take this library's closed form."""
    floats, labels = placed.floats, placed.labels
    linear = len(floats) == 2
    function = xp_xent.linear_cross_entropy if linear else xp_xent.cross_entropy
    options = {} if linear else {"axis": placed.axis}
    both = xp_xent.value_and_grad(function, argnums=(0, 1) if linear else (0,))
    return Ready(
        lambda: loss(*floats, labels), lambda: both(*floats, labels, **options), placed.wait
    )


def _backward(placed: _Placed, loss: Loss) -> Ready:
    """Differentiate with PyTorch's autograd."""
    import torch

    floats, labels = placed.floats, placed.labels
    for leaf in floats:
        leaf.requires_grad_()

    def both() -> tuple[Array, tuple[Array, ...]]:
        value = loss(*floats, labels)
        value.backward()
        gradients = tuple(leaf.grad for leaf in floats)
        for leaf in floats:
            leaf.grad = None  # or the next call would reuse its memory, and seem to take none
        return value.detach(), gradients

    return Ready(torch.no_grad()(lambda: loss(*floats, labels)), both, placed.wait)


def _compiled(placed: _Placed, loss: Loss) -> Ready:
    """Differentiate what torch.compile made of the loss."""
    import torch

    return _backward(placed, torch.compile(loss, dynamic=False))


def _jit(placed: _Placed, loss: Loss) -> Ready:
    """Differentiate with JAX, and compile both."""
    import jax

    floats, labels, wait = placed.floats, placed.labels, jax.block_until_ready
    both = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(floats)))))
    alone = jax.jit(loss)
    # Calls return early on the CPU as well; there, nobody queues them.
    on_host = all(device.platform == "cpu" for device in labels.devices())
    now: Callable[[Any], Any] = wait if on_host else lambda result: result
    return Ready(lambda: now(alone(*floats, labels)), lambda: now(both(*floats, labels)), wait)


HOW: Final[dict[str, Callable[[_Placed, Loss], Ready]]] = {
    "value_and_grad": _closed, "backward": _backward, "compiled": _compiled, "jit": _jit,
}  # fmt: skip


def forget_compiled() -> None:
    """Free what was compiled for other shapes, so that none counts as a recompilation."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


def number(way: Way, result: Any) -> float:
    """Read the loss out of a result."""
    value = result[0] if isinstance(result, tuple) else result
    return float(backends.get(way.library).to_numpy(value))
