"""A loss as one node of the graph that torch.compile makes: neither read nor guarded line by line.

Dynamo, the compiler's first stage, would read every function of this package, and check in each
call that none has changed. The stages after it run the node, and see the loss's operations.
"""

import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols, statically_known_true

from xp_xent.backends import _torch_eager
from xp_xent.backends._base import Array
from xp_xent.backends._numbers import LENGTHS, SYMBOLIC

SYMBOLIC.add(torch.SymFloat)


def _same_length(a: Any, b: Any) -> bool:
    """Return whether lengths are equal, or have the program check it: of ``z[y != -100]``, say."""
    if not free_unbacked_symbols((a, b)):
        return bool(a == b)
    if statically_known_true(a != b):
        return False
    torch._check(a == b, lambda: f"wanted arrays of one length, got {a} and {b}")
    return True


LENGTHS[torch.SymInt] = _same_length


def fits(arguments: Iterable[Any]) -> bool:
    """Return whether a graph can hold all arguments: tensors, numbers and names."""
    return all(x is None or isinstance(x, (torch.Tensor, int, float, str)) for x in arguments)


@torch.compiler.allow_in_graph
def loss_in_graph(
    module: str, name: str, ask: Any, more: tuple[Any, ...], *arrays: Array, **options: Any
) -> Any:
    """Ask the public loss of that name for its value (None), or for what derivatives it has."""
    loss = getattr(importlib.import_module(module), name).loss
    if not torch.compiler.is_compiling():
        # The graph is run as it is, or Dynamo gave up and must not try again further in.
        return plain(_evaluate(loss, ask, arrays, options, *more))
    options = {name: _real(name, x) for name, x in options.items()}
    try:
        if _torch_eager.are_parts((*arrays, *options.values())):
            return plain(_torch_eager.of_parts(loss, ask, arrays, options, *more))
        found = loss.evaluation(arrays, loss.with_defaults(arrays, options))
        return plain(found.value() if ask is None else ask(found, *more))
    except (TypeError, ValueError) as refusal:
        # Of this, Dynamo gives up: then the loss itself is called, and refuses.
        raise NotImplementedError(str(refusal)) from refusal


@torch.compiler.disable(reason="a loss's arguments have to be tensors, Python's numbers and names")
def loss_beside_graph(
    module: str, name: str, ask: Any, more: tuple[Any, ...], *arrays: Array, **options: Any
) -> Any:
    """Do the same of what no graph can hold: NumPy's numbers and arrays.

    The compiler would take such a number for a tensor, and hands one over as an array ().
    """
    options = {
        name: x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x
        for name, x in options.items()
    }
    loss = getattr(importlib.import_module(module), name).loss
    return plain(_evaluate(loss, ask, arrays, options, *more))


@torch.compiler.disable
def _evaluate(loss: Any, *call: Any) -> Any:
    from xp_xent.backends._torch import BACKEND

    return BACKEND.evaluate(loss, *call)


def plain(found: Any) -> Any:
    """Return results, a loss's statistics among them, as tuples that a graph can hold."""
    return tuple([plain(x) for x in found]) if isinstance(found, tuple) else found


@torch.compiler.allow_in_graph
def gradients_in_graph(
    module: str, name: str, names: tuple[str, ...], cotangent: Array, *arrays: Array, **options: Any
) -> tuple[Array, ...]:
    """Compute gradients of the public loss of that name, in closed form."""
    loss = getattr(importlib.import_module(module), name)
    found = loss.loss.evaluation(arrays, loss.loss.with_defaults(arrays, options))
    return found.value_and_grads(names, cotangent)[1]


def _real(name: str, option: Any) -> Any:
    """Settle on a compiler's integer if it says which axis or label; else it is a real number."""
    if not isinstance(option, torch.SymInt):
        return option
    return int(option) if name in ("axis", "ignore_index") else torch.sym_float(option)
