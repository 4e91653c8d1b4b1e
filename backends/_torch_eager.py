"""PyTorch with no transform or compiler around it: one pass of the closed form, for backward too.

The formula behind it stays in reach: a backward pass that is itself differentiated goes through
the formula, and transforms, compilers and tracers never come here.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._C._functorch import is_legacy_batchedtensor

from xp_xent.backends import _numpy_layout, _split, _threads, _torch_memory
from xp_xent.backends._base import Adapter, Array

PLAIN = (torch.Tensor, torch.nn.Parameter)


def is_eager(*tensors: Any) -> bool:
    """Return whether operations on the tensors run now and are seen by nobody but autograd."""
    if torch.compiler.is_compiling():  # Dynamo, reading a map, gets no further
        return False
    # Fake, functional and distributed tensors are other types; those of torch.func are wrapped.
    for x in tensors:
        if type(x) not in PLAIN or is_legacy_batchedtensor(x):
            return False
    return (
        not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._is_tracing()
    )


class EagerLosses(Adapter):
    """The part of PyTorch's adapter that evaluates losses."""

    def evaluate(
        self,
        loss: Any,
        ask: Any,
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        """Evaluate a loss: its closed form where nobody but backward looks on, else the formula."""
        if torch.compiler.is_dynamo_compiling():
            # Imported here: it imports the compiler, and tells it what not to read.
            from xp_xent.backends import _torch_in_graph as graph

            are_parts(())  # asked, so that no graph made outside of `split` is taken within
            fits = graph.fits((*arrays, *more, *options.values()))
            call = graph.loss_in_graph if fits else graph.loss_beside_graph
            names = loss.function.__module__, loss.function.__name__
            found = call(*names, ask, more, *arrays, **options)
            return _with_stats(loss, ask, found) if options.get("return_stats") else found
        given: dict[Any, Any] = {**dict(enumerate((*arrays, *more))), **options}
        tensors: dict[int | str, Array] = {}
        places: list[int | str] = []
        for place, x in given.items():
            if isinstance(x, torch.Tensor):
                tensors[place] = x
                if x.requires_grad:
                    places.append(place)
        if not is_eager(*tensors.values()):
            if are_parts(tensors.values()):
                return of_parts(loss, ask, arrays, options, *more)
            return loss.evaluate(ask, arrays, options, *more)
        if _split.current.get() is not None:
            return of_parts(loss, ask, arrays, options, *more)
        if not places or not torch.is_grad_enabled():
            # A loss is small, or made in many passes, so that it may be copied at the end.
            memory = np.empty if ask is None else _torch_memory.empty
            return closed_form(loss, ask, arrays, options, *more, memory=memory)
        if ask is not None:
            return loss.evaluate(ask, arrays, options, *more)
        return _differentiable(loss, arrays, options, given, tensors, places)


def are_parts(tensors: Iterable[Any]) -> bool:
    """Return whether several ranks have parts of the tensors of a call."""
    # By name: importing it takes long.
    distributed = any(type(x).__name__ == "DTensor" for x in tensors)
    return distributed or bool(_split.used and _split.now is not None)


def of_parts(loss: Any, ask: Any, arrays: Any, options: dict[str, Any], *more: Any) -> Any:
    # Imported here: it imports PyTorch's distributed tensors.
    from xp_xent.backends import _torch_dtensor

    return _torch_dtensor.evaluate(loss, ask, arrays, options, *more)


def _with_stats(loss: Any, ask: Any, found: Any) -> Any:
    """Name a loss's statistics again, which left the graph as a tuple."""
    if ask is None:
        return loss.with_stats(found[0], *found[1])
    if not isinstance(found, tuple) or not isinstance(found[0], tuple):
        return found
    (value, stats), *others = found
    return loss.with_stats(value, *stats), *others


def _differentiable(
    loss: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    given: dict[int | str, Any],
    tensors: dict[int | str, Array],
    places: list[int | str],
) -> Array:
    """Compute a loss that backward will differentiate by the tensors at these places."""
    names = [loss.arguments[x] if isinstance(x, int) else x for x in places]
    if not loss.variables.issuperset(names):
        return loss.evaluate(None, arrays, options)
    for place, x in given.items():
        # Inference tensors cannot be saved, and have no count of what is written to them.
        if place in tensors and place not in places and not x.is_inference():
            places.append(place)
        elif isinstance(x, np.generic):  # which a compiler of the backward pass takes for a tensor
            given[place] = x.item()
    kept = list(map(given.__getitem__, places))
    given.update(dict.fromkeys(places))
    found = Fused.apply(Call(loss, given, tuple(places), tuple(names)), *kept)
    return loss.with_stats(*found) if options.get("return_stats") else found


def closed_form(
    loss: Any,
    ask: Any,
    arrays: Sequence[Array],
    options: dict[str, Any],
    *more: Any,
    memory: Any = _torch_memory.empty,
    run: Any = None,
) -> Any:
    """Evaluate a loss in closed form: on NumPy's kernels where memory can be shared.

    These are run by `loss.run`, or by the function that is given.
    """
    views, settings, shared = [], dict(options), True
    for x in arrays:
        views.append(_torch_memory.on_host(x) if isinstance(x, torch.Tensor) else None)
        shared = shared and views[-1] is not None
    for name, x in options.items():
        if isinstance(x, torch.Tensor):
            settings[name] = _torch_memory.on_host(x)
            shared = shared and settings[name] is not None
        elif hasattr(x, "dtype") and not isinstance(x, np.generic):
            shared = False  # an array of another library, for the loss to refuse
    for given in more:  # a tuple is what to write into
        for x in given if isinstance(given, tuple) else ():
            shared = shared and (x is None or _torch_memory.on_host(x) is not None)
    if shared:
        operands = map(_torch_memory.operand_to_numpy, more)
        threads = _threads.ceiling.set(torch.get_num_threads())
        token = _numpy_layout.memory.set(memory)
        try:
            found = (run or loss.run)(ask, tuple(views), settings, *operands)
            return _torch_memory.from_host(found)
        except (TypeError, ValueError):  # it refuses NumPy's arrays: let it speak of tensors
            pass
        finally:
            _numpy_layout.memory.reset(token)
            _threads.ceiling.reset(threads)
    with torch.no_grad():
        tensors = tuple([_detached(x) for x in arrays])
        given = {name: _detached(x) for name, x in options.items()}
        return loss.evaluate(ask, tensors, given, *more)


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, torch.Tensor) else x


class Call(NamedTuple):
    """One call of a loss, less the tensors that autograd keeps."""

    loss: Any
    given: dict[int | str, Any]  # by position or name; None in place of a tensor that is kept
    kept: tuple[int | str, ...]  # the places of these tensors, the differentiated ones first
    names: tuple[str, ...]  # what the loss calls those

    def arguments(self, tensors: Sequence[Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the loss's arrays and options."""
        given: dict[Any, Any] = self.given | dict(zip(self.kept, tensors, strict=True))
        return tuple(map(given.pop, range(len(self.loss.arguments)))), given

    def value(self, tensors: Sequence[Array]) -> Array:
        """Compute the loss."""
        return closed_form(self.loss, None, *self.arguments(tensors), memory=np.empty)

    def value_and_grads(
        self, tensors: Sequence[Array], cotangent: Any = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Compute the loss, and its gradients times a cotangent."""
        return closed_form(self.loss, self._ask, *self.arguments(tensors), cotangent)

    def _ask(self, evaluation: Any, cotangent: Any) -> Any:
        return evaluation.value_and_grads(self.names, cotangent)

    def in_graph(self, tensors: Sequence[Array], cotangent: Array) -> tuple[Array, ...]:
        """Compute the gradients as one node of what a compiler makes of the backward pass."""
        # Imported here: it imports the compiler.
        from xp_xent.backends import _torch_in_graph as graph

        arrays, options = self.arguments(tensors)
        module, name = self.loss.function.__module__, self.loss.function.__name__
        return graph.gradients_in_graph(module, name, self.names, cotangent, *arrays, **options)

    def derived(self, tensors: Sequence[Array], by: Array) -> tuple[Array, ...]:
        """Differentiate the formula: again, or by cotangents that are not plain tensors."""
        count, again = len(self.names), torch.is_grad_enabled()
        with torch.enable_grad():
            # As views, for one of them may have been computed from another.
            variables = [x.view_as(x) for x in tensors[:count]]
            found = self.loss.evaluation(*self.arguments((*variables, *tensors[count:]))).value()
            found = found[0] if isinstance(found, tuple) else found
        return torch.autograd.grad(found, variables, by, create_graph=again)


class Fused(torch.autograd.Function):
    """A loss whose gradient is computed beside it, in one walk over the logits."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Array) -> Any:
        """Compute the loss, and its gradient where backward will at most multiply it by a number.

        A gradient in half precision waits for that number, which may be what keeps it from
        underflowing; one of unreduced losses waits for its cotangents.
        """
        ctx.call, ctx.gradients = call, None
        ctx.save_for_backward(*tensors)
        ctx.ahead = call.given["reduction"] != "none"
        for x in tensors[: len(call.names)]:
            ctx.ahead = ctx.ahead and x.dtype.itemsize >= 4
        if ctx.ahead:
            found, ctx.gradients = call.value_and_grads(tensors)
        else:
            found = call.value(tensors)
        if not isinstance(found, tuple):
            return found
        found, stats = found
        ctx.mark_non_differentiable(*stats)
        ctx.set_materialize_grads(False)  # or backward is handed zeros of their shapes
        return found, *stats

    @staticmethod
    def backward(ctx: Any, cotangent: Array, *_: Any) -> tuple[Array | None, ...]:
        """Hand the gradients over; where backward is differentiated, through the formula."""
        call, tensors = ctx.call, ctx.saved_tensors  # raises if one was written to since
        left = len(tensors) - len(call.names)
        return None, *_gradients(ctx, call, tensors, cotangent), *(None,) * left


def _gradients(
    ctx: Any, call: Call, tensors: Sequence[Array], cotangent: Array
) -> tuple[Array, ...]:
    if torch.compiler.is_compiling():  # compiled autograd, which cannot differentiate again
        return call.in_graph(tensors, cotangent)
    gradients, ctx.gradients = ctx.gradients, None
    if torch.is_grad_enabled() or not is_eager(cotangent):
        return call.derived(tensors, cotangent)
    if not ctx.ahead:
        return call.value_and_grads(tensors, cotangent)[1]
    if gradients is None:  # handed over before: the same steps again, to the same bits
        gradients = call.value_and_grads(tensors)[1]
    if cotangent.device.type != "cpu" or cotangent.item() != 1:
        gradients = tuple([gradient.mul_(cotangent) for gradient in gradients])
    return gradients
