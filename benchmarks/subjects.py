"""What `accuracy.py` asks: this library on every backend, by every way to a gradient, and peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

import xp_xent
from xp_xent import backends
from xp_xent.backends import Backend

Array = Any


@dataclass(frozen=True)
class Subject:
    """Something that gives a loss and a gradient for each row.

    Attributes
    ----------
    name : str
        For the table.
    dtypes : tuple of str
        Dtypes of logits that it takes.
    ask : callable
        From logits (N, K) in float64, labels (N,) and a dtype to losses (N,) and gradients (N, K).
    """

    name: str
    dtypes: tuple[str, ...]
    ask: Callable[[Array, Array, str], tuple[Array, Array]]


def on_backend(backend: Backend, call: Callable[[Array, Array], tuple[Array, Array]]) -> Any:
    """Send the rows there and the answers back, all of them exact in float64."""

    def ask(logits: Array, labels: Array, dtype: str) -> tuple[Array, Array]:
        # Rows are exact in their dtype, so the way through float32 changes nothing.
        host = logits if dtype == "float64" else logits.astype(np.float32)
        answers = call(backend.asarray(host, dtype=dtype), backend.asarray(labels, dtype="int64"))
        loss, gradient = (backend.to_numpy(x).astype(np.float64) for x in answers)
        return loss, gradient

    return ask


def ours(logits: Array, labels: Array) -> tuple[Array, Array]:
    return xp_xent.value_and_grad(xp_xent.cross_entropy)(logits, labels, reduction="none")


def our_rows(logits: Array, labels: Array) -> Array:
    return xp_xent.cross_entropy(logits, labels, reduction="none")


def backward(loss: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Any]:
    """Differentiate with PyTorch's autograd."""

    def call(logits: Array, labels: Array) -> tuple[Array, Array]:
        logits.requires_grad_()
        rows = loss(logits, labels)
        rows.sum().backward()
        return rows.detach(), logits.grad

    return call


def jax_grad(loss: Callable[[Array, Array], Array], jit: bool) -> Callable[[Array, Array], Any]:
    """Differentiate with jax.grad."""
    import jax

    def call(logits: Array, labels: Array) -> tuple[Array, Array]:
        return loss(logits, labels), jax.grad(lambda z: loss(z, labels).sum())(logits)

    return jax.jit(call) if jit else call


def scipy_rows(logits: Array, labels: Array, dtype: str) -> tuple[Array, Array]:
    """SciPy has no loss: log_softmax, a gather, and softmax minus one-hot."""
    from scipy.special import log_softmax, softmax

    z, rows = logits.astype(dtype), np.arange(len(labels))
    gradient = softmax(z, axis=1)
    gradient[rows, labels] -= 1
    return -log_softmax(z, axis=1)[rows, labels].astype(np.float64), gradient.astype(np.float64)


def torch_subjects(backend: Backend) -> Iterator[Subject]:
    from torch.nn.functional import cross_entropy

    def peer(logits: Array, labels: Array) -> Array:
        return cross_entropy(logits, labels, reduction="none")

    for name, loss in (("xp_xent, torch, backward()", our_rows), ("F.cross_entropy", peer)):
        yield Subject(name, backend.float_dtypes(), on_backend(backend, backward(loss)))


def jax_subjects(backend: Backend) -> Iterator[Subject]:
    dtypes = backend.float_dtypes()
    for jit in (False, True):
        name = f"xp_xent, jax.grad{', jit' if jit else ''}"
        yield Subject(name, dtypes, on_backend(backend, jax_grad(our_rows, jit)))
    if find_spec("optax"):
        from optax.losses import softmax_cross_entropy_with_integer_labels as peer

        yield Subject("optax", dtypes, on_backend(backend, jax_grad(peer, jit=True)))


@cache
def subjects() -> tuple[Subject, ...]:
    """List what can be asked here; the peers last."""
    found = {name: backends.get(name) for name in backends.installed()}
    listed = [
        Subject(
            f"xp_xent, {name}, value_and_grad", backend.float_dtypes(), on_backend(backend, ours)
        )
        for name, backend in found.items()
    ]
    if "torch" in found:
        listed += torch_subjects(found["torch"])
    if "jax" in found:
        listed += jax_subjects(found["jax"])
    if find_spec("scipy"):
        listed.append(Subject("scipy", ("float16", "float32", "float64"), scipy_rows))
    return tuple(sorted(listed, key=lambda subject: not subject.name.startswith("xp_xent")))
