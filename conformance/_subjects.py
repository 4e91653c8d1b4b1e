"""What can be judged without writing anything: this library by every way, and its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final

import xp_xent
from xp_xent import backends
from xp_xent.conformance._derive import (
    forget_jax,
    forget_torch,
    in_training,
    jax_gradient,
    jitted,
    mlx_gradient,
    torch_compiled,
    torch_gradient,
)
from xp_xent.conformance._onnx import written_down
from xp_xent.conformance._peers import PEERS
from xp_xent.conformance._rank_subjects import own_on_ranks
from xp_xent.conformance._subject import Subject

Call = Callable[..., Any]
Calls = dict[str, Call]
LOSSES: Final[Calls] = {
    name: getattr(xp_xent, name)
    for name in (
        "cross_entropy", "nll_loss", "linear_cross_entropy", "next_token_cross_entropy",
        "softmax_focal_loss", "poly_cross_entropy", "binary_cross_entropy_with_logits",
        "sigmoid_focal_loss", "binary_cross_entropy", "kl_divergence", "entropy",
        "jensen_shannon_divergence",
    )
}  # fmt: skip

MAPS: Final[Calls] = {
    name: getattr(xp_xent, name)
    for name in ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid")
}
EVERY: Final = LOSSES | MAPS


def closed_form(name: str) -> Call:
    """Give the gradient of a loss here by value_and_grad."""
    both = xp_xent.value_and_grad(getattr(xp_xent, name))
    return lambda *arrays, **options: both(*arrays, **options)[1]


PACKAGES: Final = {
    "numpy": ("numpy",), "array_api_strict": ("array-api-strict",), "torch": ("torch",),
    "jax": ("jax",), "cupy": ("cupy",), "dpnp": ("dpnp",), "mlx": ("mlx",),
    "dask": ("dask",),
}  # fmt: skip


def _own(way: str, backend: str, values: Calls, gradients: Calls, **more: Any) -> Subject:
    packages = ("xp_xent", *PACKAGES[backend])
    return Subject(f"xp_xent on {way}", backend, values, gradients, packages=packages, **more)


def _torch_compiled(compiler: str, **more: Any) -> Subject:
    compiled = {name: torch_compiled(loss, compiler) for name, loss in EVERY.items()}
    values = {name: in_training(loss) for name, loss in compiled.items()}
    gradients = {name: torch_gradient(loss) for name, loss in compiled.items()}
    way = f"torch, compile ({compiler})"
    return _own(way, "torch", values, gradients, traced=True, forget=forget_torch, **more)


def own_subjects() -> Iterator[Subject]:
    """Give this library on every backend that can be used here, by every way to a gradient."""
    closed = {name: closed_form(name) for name in LOSSES}
    for name in backends.installed():
        if name in PACKAGES:
            yield _own(name, name, EVERY, closed)  # the maps' values alone
    if "torch" in backends.installed():
        derived = {name: torch_gradient(loss) for name, loss in EVERY.items()}
        yield _own("torch, autograd", "torch", EVERY, derived)
        yield _torch_compiled("aot_eager")
        # It writes, compiles and loads a C++ program for every shape: seconds each.
        yield _torch_compiled("inductor", dtypes=("float32",))
    if "jax" in backends.installed():
        derived = {name: jax_gradient(loss) for name, loss in EVERY.items()}
        yield _own("jax, grad", "jax", EVERY, derived)
        values, gradients = (
            {name: jitted(call) for name, call in calls.items()} for calls in (EVERY, derived)
        )
        yield _own("jax, jit", "jax", values, gradients, traced=True, forget=forget_jax)
    if "mlx" in backends.installed():
        yield _own("mlx, grad", "mlx", EVERY, {k: mlx_gradient(loss) for k, loss in EVERY.items()})
    with suppress(ImportError):
        yield written_down(EVERY, closed)
    with suppress(ImportError):
        yield from own_on_ranks(EVERY)


@cache
def subjects() -> tuple[tuple[Subject, ...], dict[str, str]]:
    """List who can be judged here.

    Returns
    -------
    subjects : tuple of Subject
        This library first.
    absent : dict of str to str
        Peers that cannot be asked, and why.
    """
    found, absent = list(own_subjects()), {}
    for name, make in PEERS.items():
        try:
            found.append(make())
        except ImportError as error:
            absent[name] = str(error).partition("\n")[0]
    return tuple(found), absent
