"""PyTorch with no transform or compiler around it: one pass of the closed form, for backward too.

The formula behind it stays in reach: a backward pass that is itself differentiated goes through
the formula, and transforms, compilers and tracers never come here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch._C._functorch import is_legacy_batchedtensor

from xp_xent.backends import _threads
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


def on_host(tensor: torch.Tensor) -> np.ndarray | None:
    """View a CPU tensor's memory as a NumPy array, where NumPy has its dtype and layout."""
    if not tensor.is_cpu:
        return None
    try:  # PyTorch refuses what it would have to convert: a bit of the view, a sparse layout
        if tensor.dtype == torch.bfloat16:
            import ml_dtypes

            return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()
    except (ImportError, RuntimeError, TypeError):
        return None


def lent(given: Any) -> Any:
    """Give what NumPy's kernels take in place of an argument, or None."""
    if isinstance(given, torch.Tensor):
        return on_host(given)
    # An array of another library is left for the loss to refuse.
    return None if hasattr(given, "dtype") else given


def beside(given: Any) -> Any:
    """Give NumPy what is asked for beside a loss's own arrays: converted where not shared."""
    if not isinstance(given, torch.Tensor):
        return given
    view = on_host(given)
    if view is None:  # never dropped: None would say that there is no cotangent
        exact = given.float() if given.dtype == torch.bfloat16 else given
        view = exact.numpy(force=True)
    return view


def from_host(found: Any) -> Any:
    """View NumPy's results as tensors: an array, or a nest of tuples of arrays."""
    if isinstance(found, tuple):
        return tuple([from_host(one) for one in found])
    array = np.asarray(found)
    if array.dtype.kind == "V":  # NumPy alone has no bfloat16
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class ClosedForm:
    """The evaluation of a loss in closed form: on NumPy's kernels where memory can be shared."""

    def __init__(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> None:
        given = (*arrays, *options.values())
        parts = [lent(x) for x in given]
        pairs = zip(parts, given, strict=True)
        self.shares = all(part is not None or x is None for part, x in pairs)
        if not self.shares:
            parts = [x.detach() if isinstance(x, torch.Tensor) else x for x in given]
        count = len(arrays)
        self.found = build(*parts[:count], **dict(zip(options, parts[count:], strict=True)))

    def ask(self, ask: Callable[..., Any], *more: Any) -> Any:
        """Ask for something; what is asked for beside may be tensors."""
        if not self.shares:
            with torch.no_grad():
                return ask(self.found, *more)
        threads = torch.get_num_threads()
        return from_host(_threads.at_most(threads, ask, self.found, *map(beside, more)))


class Call(NamedTuple):
    """One call of a loss, some of whose tensors are to be differentiated by."""

    build: Callable[..., Any]
    arrays: tuple[Array, ...]
    options: dict[str, Any]
    closed: ClosedForm
    places: tuple[int | str, ...]  # of these tensors: a position, or an option's name
    names: tuple[str, ...]  # what the evaluation calls them
    others: tuple[Array, ...]  # tensors that the gradient depends on as well

    def value_and_grads(self, cotangent: Any = None) -> tuple[Array, tuple[Array, ...]]:
        """Give the loss, and its gradients times a cotangent."""
        return self.closed.ask(lambda found, by: found.value_and_grads(self.names, by), cotangent)

    def formula(self, tensors: tuple[Array, ...]) -> Array:
        """Compute the loss in operations that autograd sees."""
        given = dict(zip(self.places, tensors, strict=True))
        arrays = [given.get(place, x) for place, x in enumerate(self.arrays)]
        options = {name: given.get(name, x) for name, x in self.options.items()}
        return self.build(*arrays, **options).value()

    def derived(self, tensors: tuple[Array, ...], by: Array) -> tuple[Array, ...]:
        """Differentiate the formula: again, or by cotangents that are not plain tensors."""
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # As views, for one of them may have been computed from another.
            tensors = tuple([x.view_as(x) for x in tensors])
            value = self.formula(tensors)
        return torch.autograd.grad(value, tensors, by, create_graph=again)


class Fused(torch.autograd.Function):
    """A loss whose gradient is computed beside it, in one walk over the logits."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Array) -> Array:
        """Compute the loss, and its gradient where backward will at most multiply it by a number.

        A gradient in half precision waits for that number, which may be what keeps it from
        underflowing; one of unreduced losses waits for its cotangents.
        """
        ctx.call, ctx.gradients = call, None
        ctx.save_for_backward(*tensors, *call.others)
        reduced = call.closed.found.reduction.kind != "none"
        ctx.ahead = reduced and tensors[0].dtype.itemsize >= 4
        if not ctx.ahead:
            return call.closed.ask(lambda found: found.value())
        value, ctx.gradients = call.value_and_grads()
        return value

    @staticmethod
    def backward(ctx: Any, cotangent: Array) -> tuple[Array | None, ...]:
        """Hand the gradients over; where backward is differentiated, through the formula."""
        tensors = ctx.saved_tensors[: len(ctx.call.places)]  # raises if one was written to since
        gradients, ctx.gradients = ctx.gradients, None
        if torch.is_grad_enabled() or not is_eager(cotangent):
            return None, *ctx.call.derived(tensors, cotangent)
        if not ctx.ahead:
            return None, *ctx.call.value_and_grads(cotangent)[1]
        if gradients is None:  # handed over before: the same steps again, to the same bits
            _, gradients = ctx.call.value_and_grads()
        if cotangent.device.type != "cpu" or cotangent.item() != 1:
            gradients = tuple(gradient.mul_(cotangent) for gradient in gradients)
        return None, *gradients


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
        return closed.ask(lambda found: found.value())
    arguments, variables = closed.found.arguments, closed.found.variables
    names = tuple(arguments[x] if isinstance(x, int) else x for x in places)
    if not set(names) <= set(variables):
        return None
    # Inference tensors cannot be saved, and have no count of what is written to them.
    others = tuple(
        x for place, x in tensors.items() if place not in places and not x.is_inference()
    )
    call = Call(build, arrays, options, closed, places, names, others)
    return Fused.apply(call, *(tensors[place] for place in places))
