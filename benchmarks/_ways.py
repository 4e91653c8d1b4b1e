"""The ways to a loss and its gradient, ours and the peers', and the table's lines of them."""

import sys
from collections.abc import Callable, Collection
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import xp_xent
from xp_xent import backends
from xp_xent.benchmarks._shapes import Problem

Array = Any
Loss = Callable[..., Array]  # (*floats, labels) -> the mean


def devices(library: str) -> dict[str, Any]:
    """Return a library's first device of each kind, "cpu" or "gpu"; none if it is not usable."""
    try:  # and no other library: a process that measures memory has only this one
        found = backends.get(library).devices()
    except ImportError:
        return {}
    first: dict[str, Any] = {}
    for device in found:
        is_host = str(getattr(device, "platform", device)).startswith("cpu")
        first.setdefault("cpu" if is_host else "gpu", device)
    return first


class Ready(NamedTuple):
    """A loss whose inputs are in place."""

    loss: Callable[[], Array]
    both: Callable[[], tuple[Array, tuple[Array, ...]]]  # the loss, and a tuple of gradients
    wait: Callable[[Any], None]  # returns once a result of either has been computed


class Way(NamedTuple):
    """Whose loss it is, the library that it runs on, and how the gradient comes about."""

    name: str
    who: str
    library: str
    how: str

    def usable(self, kind: str = "cpu") -> bool:
        """Tell whether it can be asked here, on that kind of device."""
        needed = {"optax": "optax", "liger": "liger_kernel"}.get(self.who, self.library)
        return kind in devices(self.library) and find_spec(needed) is not None

    def ready(self, problem: Problem, kind: str = "cpu") -> Ready:
        """Put the inputs on a kind of device, and prepare the calls; nothing is computed yet."""
        backend, loss = backends.get(self.library), _loss(self.who, problem)
        device = devices(self.library)[kind]
        floats = [backend.asarray(x, problem.dtype, device) for x in problem.floats]
        index = "int32" if self.library == "jax" and problem.dtype != "float64" else "int64"
        labels = backend.asarray(problem.labels, index, device)
        both, alone = HOW[self.how](loss, floats, labels)

        def wait(result: Any) -> None:
            backend.synchronize(result[0] if isinstance(result, tuple) else result)

        if self.how != "jit" or kind != "cpu":
            return Ready(alone, both, wait)
        # Calls return early on the CPU as well; there, nobody queues them.
        now = sys.modules["jax"].block_until_ready
        return Ready(lambda: now(alone()), lambda: now(both()), wait)


_WAYS: Final = (
    Way("xp_xent, NumPy", "xp_xent", "numpy", "value_and_grad"),
    Way("xp_xent, NumPy, out=", "xp_xent", "numpy", "out"),
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
WAYS: Final = {way.name: way for way in _WAYS}


class Line(NamedTuple):
    """A line of the table: one way of ours on a kind of device, and its peers."""

    case: str
    title: str
    our_way: str
    first: tuple[str, ...]  # of these peers the first sets the goal
    on_gpu: tuple[str, ...] = ()  # and these as well, where they are installed
    linear: tuple[str, ...] = ("PyTorch", "PyTorch chunked")  # the peers behind a linear layer
    kind: str = "cpu"

    @property
    def ours(self) -> Way:
        return WAYS[self.our_way]

    def peers(self, linear: bool = False) -> list[Way]:
        """List the peers that can be asked there; without the first one there is no line."""
        names, more = (self.linear, ("Liger",)) if linear else (self.first, self.on_gpu)
        found = [WAYS[name] for name in names + (more if self.kind != "cpu" else ())]
        return [way for way in found if way.usable(self.kind)]


CASES: Final = (
    Line("numpy", "NumPy, value_and_grad", "xp_xent, NumPy", ("PyTorch",)),
    Line("numpy-out", "NumPy, value_and_grad, out=", "xp_xent, NumPy, out=", ("PyTorch",)),
    Line("torch", "PyTorch, loss.backward()", "xp_xent, PyTorch", ("PyTorch",),
         ("PyTorch compiled", "Liger")),
    Line("torch-compiled", "PyTorch compiled", "xp_xent, PyTorch compiled", ("PyTorch compiled",),
         ("PyTorch", "Liger")),
    Line("jax", "JAX, jit(value_and_grad)", "xp_xent, JAX", ("optax",), (), ("optax",)),
    Line("cupy", "CuPy, value_and_grad", "xp_xent, CuPy", ("PyTorch",)),
)  # fmt: skip


def lines(cases: Collection[str]) -> list[Line]:
    """List the lines of some cases that can be measured here."""
    found = []
    for case in CASES:
        if case.case in cases:
            on_gpu = case._replace(kind="gpu", title=f"{case.title}, gpu")
            found += [one for one in (case, on_gpu) if one.ours.usable(one.kind) and one.peers()]
    return found


def _loss(who: str, problem: Problem) -> Loss:
    """Choose the function of (*floats, labels)."""
    axis, linear = problem.shape.axis, len(problem.floats) == 2
    if who == "xp_xent":
        return xp_xent.linear_cross_entropy if linear else partial(xp_xent.cross_entropy, axis=axis)
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

    options = torch.nn.LinearCrossEntropyOptions() if who.endswith("chunked") else None
    return partial(functional.linear_cross_entropy, options=options) if linear \
        else functional.cross_entropy  # fmt: skip


Calls = tuple[Callable[[], Any], Callable[[], Any]]  # loss and gradients, and the loss alone


def _closed(loss: Loss, floats: list[Array], labels: Array) -> Calls:
    """Take this library's closed form."""
    both = xp_xent.value_and_grad(loss, argnums=(0, 1)[: len(floats)])
    return lambda: both(*floats, labels), lambda: loss(*floats, labels)


def _closed_out(loss: Loss, floats: list[Array], labels: Array) -> Calls:
    """Take this library's closed form, into memory that was written to before."""
    both = xp_xent.value_and_grad(loss, argnums=(0, 1)[: len(floats)])
    out = tuple([x.copy() for x in floats])
    return lambda: both(*floats, labels, out=out), lambda: loss(*floats, labels)


def _backward(loss: Loss, floats: list[Array], labels: Array) -> Calls:
    """Differentiate with PyTorch's autograd."""
    import torch

    for leaf in floats:
        leaf.requires_grad_()

    def both() -> tuple[Array, tuple[Array, ...]]:
        value = loss(*floats, labels)
        value.backward()
        gradients = tuple(leaf.grad for leaf in floats)
        for leaf in floats:
            leaf.grad = None  # or the next call would reuse its memory, and seem to take none
        return value.detach(), gradients

    return both, torch.no_grad()(lambda: loss(*floats, labels))


def _compiled(loss: Loss, floats: list[Array], labels: Array) -> Calls:
    """Differentiate what torch.compile made of the loss."""
    import torch

    plain = lambda *arrays: loss(*arrays)  # noqa: E731, PLW0108 (a partial is not compiled)
    return _backward(torch.compile(plain, dynamic=False), floats, labels)


def _jit(loss: Loss, floats: list[Array], labels: Array) -> Calls:
    """Differentiate with JAX, and compile both."""
    import jax

    alone = jax.jit(loss)
    both = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(floats)))))
    return lambda: both(*floats, labels), lambda: alone(*floats, labels)


HOW: Final[dict[str, Callable[[Loss, list[Array], Array], Calls]]] = {
    "value_and_grad": _closed, "out": _closed_out,
    "backward": _backward, "compiled": _compiled, "jit": _jit,
}  # fmt: skip


def forget_compiled() -> None:
    """Free what was compiled for other shapes, so that none counts as a recompilation."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
