"""What can be judged without writing anything: this library by every way, and its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import xp_xent
from xp_xent import backends
from xp_xent.conformance._derive import jax_gradient, jitted, torch_compiled, torch_gradient
from xp_xent.conformance._peers import PEERS
from xp_xent.conformance._run import every
from xp_xent.conformance._subject import Subject

LOSSES: Final = (
    "cross_entropy", "nll_loss", "linear_cross_entropy", "next_token_cross_entropy",
    "softmax_focal_loss", "poly_cross_entropy", "binary_cross_entropy_with_logits",
    "sigmoid_focal_loss", "kl_divergence", "entropy",
)  # fmt: skip
Call = Callable[..., Any]


def closed_form(name: str) -> Call:
    """Give the gradient of a loss here by value_and_grad."""
    both = xp_xent.value_and_grad(getattr(xp_xent, name))
    return lambda *arrays, **options: both(*arrays, **options)[1]


def _own(name: str, backend: str, change: Call, derive: Call | None, **more: Any) -> Subject:
    losses = {loss: getattr(xp_xent, loss) for loss in LOSSES}
    gradients = {
        loss: derive(change(call)) if derive else change(closed_form(loss))
        for loss, call in losses.items()
    }
    values = {loss: change(call) for loss, call in losses.items()}
    return Subject(
        name, backend, values, gradients, packages=("xp_xent", *PACKAGES[backend]), **more
    )


PACKAGES: Final = {
    "numpy": ("numpy",), "array_api_strict": ("array-api-strict",), "torch": ("torch",),
    "jax": ("jax",), "cupy": ("cupy",), "dpnp": ("dpnp",),
}  # fmt: skip


@cache
def one_of_each(what: str) -> frozenset[str]:
    """Choose float32 vectors, the first of each kind, because each is compiled for itself.

    Parameters
    ----------
    what : {"options", "topic"}
        A kind is a function with the options that it is given, or a topic.

    Returns
    -------
    frozenset of str
        Their ids.
    """
    chosen: dict[Any, str] = {}
    for case in every():
        if case.dtype != "float32" or case.topic == "properties":
            continue
        options = tuple(sorted(getattr(case, "options", ())))
        kind = options if what == "options" else case.topic
        chosen.setdefault((case.function, kind), case.id)
    return frozenset(chosen.values())


def own_subjects() -> Iterator[Subject]:
    """Give this library on every backend that can be used here, by every way to a gradient."""

    def same(call: Call) -> Call:
        return call

    for name in backends.installed():
        if name in PACKAGES:
            yield _own(f"xp_xent on {name}", name, same, None)
    if "torch" in backends.installed():
        yield _own("xp_xent on torch, autograd", "torch", same, torch_gradient)
        for compiler, what in (("aot_eager", "options"), ("inductor", "topic")):
            yield _own(
                f"xp_xent on torch, compile ({compiler})",
                "torch",
                lambda call, compiler=compiler: torch_compiled(call, compiler),
                torch_gradient,
                traced=True,
                subset=lambda case, what=what: case.id in one_of_each(what),
            )
    if "jax" in backends.installed():
        yield _own("xp_xent on jax, grad", "jax", same, jax_gradient)
        yield _own(
            "xp_xent on jax, jit", "jax", jitted, lambda call: jitted(jax_gradient(call)),
            traced=True, subset=lambda case: case.id in one_of_each("options"),
        )  # fmt: skip


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
