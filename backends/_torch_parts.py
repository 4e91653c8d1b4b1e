"""Losses of tensors that are parts of larger ones, each of which one of PyTorch's ranks has.

A loss is computed in closed form on each rank's own tensors, its gradient beside it, so that the
backward pass exchanges nothing. Before that, ranks that can look at their values agree on what is
called, and refuse together what one of them refuses.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from xp_xent.backends import _numpy, _split, _torch, _torch_memory
from xp_xent.backends._base import Array
from xp_xent.backends._rank_part import NumPyPart, TorchPart
from xp_xent.backends._ranks import Ranks
from xp_xent.backends._torch_call import Call, agreed
from xp_xent.backends._torch_eager import closed_form


def evaluate(call: Call, ask: Any, *more: Any) -> Any:
    """Evaluate a loss of the parts that are here."""
    if call.class_axis is None and call.classes is not None:
        raise TypeError("split: got classes= for a loss whose elements stand alone; wanted rows=")
    if ask is not None and ask.method == "hessian" and call.classes is not None:
        raise TypeError(
            "hessian: got rows whose classes are split, but the matrix has all of them in each of "
            "its rows; wanted hvp or hessian_diagonal"
        )
    if not torch.compiler.is_compiling():
        call = agreed(call, ask)
    tensors = call.differentiated()
    if ask is not None or not tensors:
        with torch.no_grad():
            return _closed(call, ask, *more)
    names = [call.loss.arguments[x] if isinstance(x, int) else x for x in tensors]
    for name in names:
        if name not in (*call.loss.arguments, *call.loss.variables, "temperature"):
            raise TypeError(
                f"{name}: requires grad, but where rows or classes are split the loss is "
                "differentiated by its arrays and the temperature alone; use detach()"
            )
    found = _Fused.apply(call, tuple(names), tuple(tensors), *tensors.values())
    return call.loss.with_stats(*found) if call.options.get("return_stats") else found


def part_of(split: _split.Split) -> TorchPart:
    """Return the adapter for plain tensors within `split`."""
    if split.num_classes is not None:
        raise TypeError("num_classes: got tensors of PyTorch, whose parts may be of any length")
    return TorchPart.of(_torch.BACKEND, ranks(split.classes), ranks(split.rows))


def ranks(given: Any) -> Ranks | None:
    """Return a process group, or the dimensions of a device mesh, as a fabric."""
    if given is None:
        return None
    of_mesh = getattr(given, "get_all_groups", None)
    return Ranks(of_mesh() if of_mesh is not None else (given,))


# The closed form


def _closed(call: Call, ask: Any, *more: Any) -> Any:
    """Evaluate in closed form: on NumPy's kernels where memory can be shared."""
    loss, arrays, options, where = call.loss, call.arrays, call.options, call[3:5]

    def on_host(*given: Any) -> Any:
        with _within(NumPyPart.of(_numpy.BACKEND, *where)), np.errstate(all="ignore"):
            return loss.evaluate(*given)

    with _within(TorchPart.of(_torch.BACKEND, *where)):
        if torch.compiler.is_compiling():
            found = loss.evaluate(ask, _detached(arrays), _detached(options), *more)
        else:
            memory = np.empty if ask is None else _torch_memory.empty
            found = closed_form(loss, ask, arrays, options, *more, memory=memory, run=on_host)
    return _whole_gradients(call, ask, found) if call.is_linear and ask is not None else found


def _within(adapter: Any) -> Any:
    return _split.within(_split.Split(adapter=adapter))


def _detached(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _detached(one) for name, one in x.items()}
    if isinstance(x, tuple):
        return tuple(map(_detached, x))
    return x.detach() if isinstance(x, torch.Tensor) else x


def _whole_gradients(call: Call, ask: Any, found: Any) -> Any:
    """Add up what the ranks found behind a linear layer.

    By the features it is a sum over the classes, by the classifier and the bias one over the rows.
    """
    over = {"features": call.classes, "classifier": call.rows, "bias": call.rows}

    def added(name: str, x: Any) -> Any:
        ranks = over.get(name)
        return x if ranks is None or x is None else ranks.added(x)

    if ask.method != "value_and_grads":
        if not isinstance(found, tuple):
            return added("features", found)
        return found[0], *(added("features", x) for x in found[1:])
    value, gradients = found
    return value, tuple(map(added, ask.arguments[0], gradients))


class _Fused(torch.autograd.Function):
    """A loss whose gradients are computed beside it, and wait for what multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, names: Sequence[str], places: Sequence[Any], *tensors: Array
    ) -> Any:
        """Compute the loss and its gradients."""
        ctx.call, ctx.names, ctx.places = call, names, places
        ctx.by_rows = call.options["reduction"] == "none"
        ctx.again = ctx.by_rows and (call.is_linear or "temperature" in names)
        if ctx.again:  # of each cotangent anew: the gradients have no rows
            found = _closed(call._replace(**_given(call, places, tensors)), None)
            ctx.save_for_backward(*tensors)
        else:
            # In float32: rounded to half precision before it is multiplied, a gradient might be 0,
            # or infinite.
            wide = [x.float() if x.dtype.itemsize < 4 else x for x in tensors]
            given = call._replace(**_given(call, places, wide))
            found, gradients = _closed(given, _Grads(names), 1.0)
            ctx.save_for_backward(*gradients)
            ctx.dtypes = [x.dtype for x in tensors]
        if not isinstance(found, tuple):
            return found
        found, stats = found
        ctx.mark_non_differentiable(*stats)
        return found, *stats

    @staticmethod
    def backward(ctx: Any, cotangent: Array, *_: Any) -> tuple[Array | None, ...]:
        """Multiply the gradients."""
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "split: got create_graph=True for a loss of rows or classes that are split, which "
                "is differentiated once; wanted hvp or hessian_diagonal"
            )
        saved = ctx.saved_tensors
        if ctx.again:
            call = ctx.call._replace(**_given(ctx.call, ctx.places, saved))
            _, found = _closed(call, _Grads(ctx.names), cotangent.contiguous())
            gradients = dict(zip(ctx.names, found, strict=True))
            if call.rows is not None and "temperature" in gradients:  # one number for all rows
                gradients["temperature"] = call.rows.added(gradients["temperature"].sum())
            return None, None, None, *gradients.values()
        if ctx.by_rows:
            axis = ctx.call.class_axis
            cotangent = _padded(ctx.call, cotangent)
            cotangent = cotangent if axis is None else cotangent.unsqueeze(axis)
        pairs = zip(saved, ctx.dtypes, strict=True)
        return None, None, None, *((x * cotangent).to(dtype) for x, dtype in pairs)


class _Grads(NamedTuple):
    """What asks an evaluation for its value and gradients."""

    names: Sequence[str]
    method: str = "value_and_grads"

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The method's arguments."""
        return (self.names,)

    def __call__(self, evaluation: Any, cotangent: Any) -> Any:
        """Call it."""
        return evaluation.value_and_grads(tuple(self.names), cotangent)


def _given(call: Call, places: Sequence[Any], tensors: Sequence[Array]) -> dict[str, Any]:
    """Return a call's arrays and options with these tensors in their places."""
    arrays, options = list(call.arrays), dict(call.options)
    for place, x in zip(places, tensors, strict=True):
        if isinstance(place, int):
            arrays[place] = x
        else:
            options[place] = x
    return {"arrays": tuple(arrays), "options": options}


def _padded(call: Call, cotangent: Array) -> Array:
    """Return cotangents of the losses as those of the rows: the last position has no loss."""
    if tuple(cotangent.shape) == call.rows_shape():
        return cotangent
    return torch.nn.functional.pad(cotangent, (0, 1))
