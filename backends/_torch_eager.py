"""PyTorch with no transform or compiler around it: one pass of the closed form, for backward too.

The formula behind it stays in reach: a backward pass that is itself differentiated goes through
the formula, and transforms, compilers and tracers never come here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._C._functorch import is_legacy_batchedtensor

from xp_xent.backends import _numpy, _threads, _torch_memory
from xp_xent.backends._base import Array

PLAIN = (torch.Tensor, torch.nn.Parameter)


def is_eager(*tensors: Any) -> bool:
    """Tell if operations on the tensors run now and are seen by nobody but autograd."""
    # Fake, functional and distributed tensors are other types; those of torch.func are wrapped.
    return (
        not torch.compiler.is_compiling()
        and all(type(x) in PLAIN and not is_legacy_batchedtensor(x) for x in tensors)
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._is_tracing()
    )


class ClosedForm:
    """The evaluation of a loss in closed form: on NumPy's kernels where memory can be shared.

    It sees the tensors' memory as it is now, and must not be kept.
    """

    def __init__(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> None:
        given, count = (*arrays, *options.values()), len(arrays)

        def built(parts: list[Any]) -> Any:
            return build(*parts[:count], **dict(zip(options, parts[count:], strict=True)))

        parts = [_torch_memory.lent(x) for x in given]
        pairs = zip(parts, given, strict=True)
        self.shares = all(part is not None or x is None for part, x in pairs)
        if self.shares:
            try:
                self.found = built(parts)
            except (TypeError, ValueError):
                self.shares = False  # it refuses NumPy's arrays: let it speak of tensors
        if not self.shares:
            self.found = built([x.detach() if isinstance(x, torch.Tensor) else x for x in given])

    def value(self) -> Array:
        """Give the loss: small, or made in many passes, so that it may be copied at the end."""
        return self.ask(lambda found: found.value(), memory=np.empty)

    def ask(self, ask: Callable[..., Any], *more: Any, memory: Any = _torch_memory.empty) -> Any:
        """Ask for something; what is asked for beside may be tensors."""
        if not self.shares:
            with torch.no_grad():
                return ask(self.found, *more)
        threads, given = torch.get_num_threads(), map(_torch_memory.beside, more)
        token = _numpy.memory.set(memory)
        try:
            found = _threads.at_most(threads, ask, self.found, *given)
        finally:
            _numpy.memory.reset(token)
        return _torch_memory.from_host(found)


class Call(NamedTuple):
    """One call of a loss, less the tensors that autograd keeps."""

    build: Callable[..., Any]
    given: dict[int | str, Any]  # by position or name; None in place of a tensor that is kept
    kept: tuple[int | str, ...]  # the places of these tensors, the differentiated ones first
    names: tuple[str, ...]  # what the evaluation calls those

    @property
    def beside(self) -> int:
        """Count the tensors that are kept, but not differentiated by."""
        return len(self.kept) - len(self.names)

    def arguments(self, tensors: Sequence[Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the loss's arrays and options."""
        given = self.given | dict(zip(self.kept, tensors, strict=True))
        arrays = tuple([x for place, x in given.items() if isinstance(place, int)])
        return arrays, {place: x for place, x in given.items() if isinstance(place, str)}

    def value_and_grads(
        self, closed: ClosedForm, cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Give the loss, and its gradients times a cotangent."""
        return closed.ask(lambda found, by: found.value_and_grads(self.names, by), cotangent)

    def again(self, tensors: Sequence[Array], cotangent: Any = None) -> tuple[Array, ...]:
        """Give the gradients, once the views of the forward pass are gone."""
        return self.value_and_grads(ClosedForm(self.build, *self.arguments(tensors)), cotangent)[1]

    def in_graph(self, tensors: Sequence[Array], cotangent: Array) -> tuple[Array, ...]:
        """Give the gradients as one node of what a compiler makes of the backward pass."""
        # Imported here: it imports the compiler.
        from xp_xent.backends import _torch_in_graph as graph

        arrays, options = self.arguments(tensors)
        module, name = self.build.__module__, self.build.__name__
        return graph.gradients_in_graph(module, name, self.names, cotangent, *arrays, **options)

    def derived(self, tensors: Sequence[Array], by: Array) -> tuple[Array, ...]:
        """Differentiate the formula: again, or by cotangents that are not plain tensors."""
        count, again = len(self.names), torch.is_grad_enabled()
        with torch.enable_grad():
            # As views, for one of them may have been computed from another.
            variables = [x.view_as(x) for x in tensors[:count]]
            arrays, options = self.arguments((*variables, *tensors[count:]))
            value = self.build(*arrays, **options).value()
        return torch.autograd.grad(value, variables, by, create_graph=again)


class Fused(torch.autograd.Function):
    """A loss whose gradient is computed beside it, in one walk over the logits."""

    @staticmethod
    def forward(ctx: Any, call: Call, closed: ClosedForm, *tensors: Array) -> Array:
        """Compute the loss, and its gradient where backward will at most multiply it by a number.

        A gradient in half precision waits for that number, which may be what keeps it from
        underflowing; one of unreduced losses waits for its cotangents.
        """
        ctx.call, ctx.gradients = call, None
        ctx.save_for_backward(*tensors)
        reduced, variables = closed.found.reduction.kind != "none", tensors[: len(call.names)]
        ctx.ahead = reduced and all(x.dtype.itemsize >= 4 for x in variables)
        if not ctx.ahead:
            return closed.value()
        value, ctx.gradients = call.value_and_grads(closed)
        return value

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array | None, ...]:
        """Hand the gradients over; where backward is differentiated, through the formula."""
        call, tensors = ctx.call, ctx.saved_tensors  # raises if one was written to since
        return None, None, *_gradients(ctx, call, tensors, cotangent), *(None,) * call.beside


def _gradients(
    ctx: Any, call: Call, tensors: Sequence[Array], cotangent: Array
) -> tuple[Array, ...]:
    if torch.compiler.is_compiling():  # compiled autograd, which cannot differentiate again
        return call.in_graph(tensors, cotangent)
    gradients, ctx.gradients = ctx.gradients, None
    if torch.is_grad_enabled() or not is_eager(cotangent):
        return call.derived(tensors, cotangent)
    if not ctx.ahead:
        return call.again(tensors, cotangent)
    if gradients is None:  # handed over before: the same steps again, to the same bits
        gradients = call.again(tensors)
    if cotangent.device.type != "cpu" or cotangent.item() != 1:
        gradients = tuple(gradient.mul_(cotangent) for gradient in gradients)
    return gradients


def tensors_of(arrays: tuple[Any, ...], options: dict[str, Any]) -> dict[int | str, Array]:
    """Find the tensors among a loss's arguments, by position or name."""
    given: tuple[tuple[int | str, Any], ...] = (*enumerate(arrays), *options.items())
    return {key: x for key, x in given if isinstance(x, torch.Tensor)}


def differentiated(tensors: dict[int | str, Array]) -> tuple[int | str, ...]:
    """Give the keys of the tensors that autograd is to differentiate by."""
    if not torch.is_grad_enabled():
        return ()
    return tuple(key for key, x in tensors.items() if x.requires_grad)


def value(
    build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
) -> Array | None:
    """Compute a loss of eager tensors; None where it takes the formula."""
    tensors = tensors_of(arrays, options)
    if not is_eager(*tensors.values()):
        return None
    places, closed = differentiated(tensors), ClosedForm(build, arrays, options)
    if not places:
        return closed.value()
    arguments, variables = closed.found.arguments, closed.found.variables
    names = tuple(arguments[x] if isinstance(x, int) else x for x in places)
    if not set(names) <= set(variables):
        return None
    # Inference tensors cannot be saved, and have no count of what is written to them.
    others = (x for x in tensors if x not in places and not tensors[x].is_inference())
    kept = (*places, *others)
    # A compiler of the backward pass would take NumPy's numbers for tensors.
    numbers = {key: x.item() for key, x in options.items() if isinstance(x, np.generic)}
    given = dict(enumerate(arrays)) | options | numbers | dict.fromkeys(kept)
    return Fused.apply(Call(build, given, kept, names), closed, *(tensors[x] for x in kept))
