"""PyTorch: the formula through its own autograd, functional transforms and compiler."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from xp_xent.backends import _blocks, _torch_compiled, _torch_eager, _torch_memory
from xp_xent.backends._base import Array, Backend

# Subclasses of other semantics, by name: importing them takes long.
_REFUSED = {
    "MaskedTensor": "got a MaskedTensor, whose mask would be lost; use get_data() and where=",
    "DTensor": "got a DTensor, wanted a tensor of one device; use full_tensor(), or to_local() and "
    "add up what each rank finds",
}


class Torch(Backend):
    name = "torch"
    roots = ("torch",)
    module = "array_api_compat.torch"

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch

    def refuses(self, array: Array) -> str | None:
        if not isinstance(array, self.torch.Tensor):
            return f"got {type(array).__name__}, wanted a torch.Tensor"
        if reason := _REFUSED.get(type(array).__name__):
            return reason
        if array.is_nested:
            return (
                "got a nested tensor, wanted a dense one; use values() of a jagged one, or "
                "to_padded_tensor(0.0) and where="
            )
        if array.layout != self.torch.strided:
            return f"got a tensor of layout {array.layout}, wanted a dense one; use to_dense()"
        return None

    def devices(self) -> tuple[Any, ...]:
        accelerator = self.torch.accelerator
        return (
            ("cpu", accelerator.current_accelerator()) if accelerator.is_available() else ("cpu",)
        )

    def is_readable(self, array: Array) -> bool:
        return _torch_eager.is_eager(array) and array.device.type == "cpu"

    def synchronize(self, array: Array) -> None:
        if array.device.type != "cpu":
            self.torch.accelerator.synchronize(array.device)

    def float_dtypes(self) -> tuple[str, ...]:
        return ("float16", "bfloat16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        # NumPy's bfloat16 is unknown to torch.tensor; through float32 it is exact.
        host = np.asarray(host, order="C")
        host = host.astype(np.float32) if host.dtype.name == "bfloat16" else host
        return self.torch.tensor(host, dtype=getattr(self.torch, dtype or "", None), device=device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return _torch_memory.copied(array)

    def value(
        self, build: Callable[..., Any], arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Array:
        if self.torch.compiler.is_dynamo_compiling():
            # Imported here: it imports the compiler, and tells it what not to read.
            from xp_xent.backends import _torch_in_graph as graph

            fits = graph.fits((*arrays, *options.values()))
            call = graph.loss_in_graph if fits else graph.loss_beside_graph
            return call(build.__module__, build.__name__, *arrays, **options)
        found = _torch_eager.value(build, arrays, options)
        return super().value(build, arrays, options) if found is None else found

    def closed_form(
        self,
        build: Callable[..., Any],
        ask: Callable[..., Any],
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        *more: Any,
    ) -> Any:
        tensors = _torch_eager.tensors_of((*arrays, *more), options)
        if not _torch_eager.is_eager(*tensors.values()) or _torch_eager.differentiated(tensors):
            return super().closed_form(build, ask, arrays, options, *more)
        return _torch_eager.ClosedForm(build, arrays, options).ask(ask, *more)

    def arange(self, stop: int, like: Array) -> Array:
        # array_api_compat's asks if the length is 0, which a compiler may not know.
        return self.torch.arange(stop, device=like.device)

    def along(self, axis: int) -> Backend:
        # Views are free, but Inductor makes what follows in the memory order of the result.
        return self.at(axis) if self.torch.compiler.is_compiling() else self

    def pick(self, x: Array, index: Array) -> Array:
        if self.torch.compiler.is_compiling() and x.requires_grad:
            # A gather's derivative is a scatter; this fuses with what is around it.
            others = self.places(x) != index
            return x.masked_fill(others, 0).sum(self.axis, keepdim=True)
        rows = list(index.shape)
        rows[self.axis] = x.shape[self.axis]
        # take_along_dim would fix the number of rows under torch.export.
        return self.torch.gather(x.expand(rows), self.axis, index)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Tell if anybody may differentiate what is computed now."""
        return self.torch.is_grad_enabled() or not _torch_eager.is_eager()

    def _may_write(self, *arrays: Any) -> bool:
        if self.torch.is_grad_enabled():
            return False
        return _torch_eager.is_eager(*(x for x in arrays if isinstance(x, self.torch.Tensor)))

    def streams(self, rows: Array) -> bool:
        return self._may_write(rows)

    def blockwise(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return self._walk(function, rows, operands, over=False)

    def blockwise_(self, function: Callable[..., Any], rows: Array, *operands: Array | None) -> Any:
        return self._walk(function, rows, operands, over=True)

    def _walk(
        self,
        function: Callable[..., Any],
        rows: Array,
        operands: tuple[Array | None, ...],
        over: bool,
    ) -> Any:
        # What autograd, a transform, a compiler or a tracer sees is one formula of whole tensors.
        if not self._may_write(rows, *operands):
            return function(rows, *operands)
        return _blocks.walk(self, function, rows, operands, over=over)

    def exp_shifted(self, x: Array, shift: Array) -> Array:
        shifted = x - shift
        return shifted.exp_() if self._may_write(shifted) else shifted.exp()

    def anchored_sums(
        self, z: Array, shift: Array, anchor: Array, counted: Array | None
    ) -> tuple[Array, Array, Array] | None:
        if not _torch_compiled.is_backward_only(z):
            return None
        sums = _torch_compiled.Sums.apply(z, shift, anchor, counted, self.axis)
        return (shift if counted is None else shift.masked_fill(~counted, 0), *sums)

    def centred(self, z: Array, shift: Array) -> tuple[Array, Array]:
        return self.derived(lambda z, shift: (z - shift, shift), super().centred, z, shift)

    def derived(
        self, value: Callable[..., Any], formula: Callable[..., Any], *arrays: Array
    ) -> Any:
        if _torch_compiled.is_value_only(arrays[0]):
            return value(*arrays)
        return super().derived(value, formula, *arrays)

    def with_slopes(self, function: Any, *rows: Any) -> Array:
        if not _torch_compiled.is_backward_only(rows[0]):
            return super().with_slopes(function, *rows)
        return _torch_compiled.Sloped.apply(function, *rows)

    def multiply_(self, x: Array, factor: Array) -> Array:
        return x.mul_(factor) if self._may_write(x) else x * factor

    def put_(self, x: Array, index: Array, value: Array) -> Array:
        if self._may_write(x):
            return x.scatter_(self.axis, index, value)
        if isinstance(value, float):  # laid out in memory as x is, unlike where's result
            return x.masked_fill(self.places(x) == index, value)
        return super().put_(x, index, value)

    def blank_(self, x: Array, counted: Array) -> Array:
        return x.masked_fill_(~counted, 0.0) if self._may_write(x) else super().blank_(x, counted)

    def add_product_(self, total: Array, a: Array, b: Array) -> Array:
        return total.addmm_(a.T, b) if self._may_write(total) else total.addmm(a.T, b)

    def scan(
        self,
        step: Callable[..., tuple[Any, tuple[Array, ...]]],
        totals: Any,
        arrays: tuple[Array, ...],
        size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        # Products are in the loss's dtype, whatever autocast says of others.
        amp, kind = self.torch.amp, arrays[0].device.type
        lowered = amp.is_autocast_available(kind) and self.torch.is_autocast_enabled(kind)
        with amp.autocast(kind, enabled=False) if lowered else nullcontext():
            if _torch_eager.is_eager(arrays[0]):
                return super().scan(step, totals, arrays, size)
            return step(totals, *arrays)  # a loop would tie what is compiled to the number of rows

    def over(self, x: Array | float, denominator: Array | float) -> Array:
        if not isinstance(x, self.torch.Tensor):
            return x / denominator
        # Forward mode gives a number () over Python's a tangent in float64; not one in a row.
        return (x[None] / denominator)[0]

    def stop_gradient(self, array: Array) -> Array:
        return array.detach()


BACKEND = Torch()
