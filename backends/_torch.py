"""PyTorch: the formula through its own autograd, functional transforms and compiler."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from xp_xent.backends import _blocks, _torch_compiled, _torch_eager, _torch_memory
from xp_xent.backends._base import Array, Backend
from xp_xent.backends._numbers import known_types
from xp_xent.backends._row_sums import ExpSums

# Subclasses of other semantics, by name: importing them takes long.
_REFUSED = {
    "MaskedTensor": "got a MaskedTensor, whose mask would be lost; use get_data() and where=",
}


class Torch(_torch_eager.EagerLosses):
    name = "torch"
    packages = ("torch",)
    module = "array_api_compat.torch"

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch
        known_types.update(dict.fromkeys(_torch_eager.PLAIN, self))
        self._mapped = {}

    def unsupported_reason(self, array: Array) -> str | None:
        if not isinstance(array, self.torch.Tensor):
            return f"got {type(array).__name__}, wanted a torch.Tensor"
        if reason := _REFUSED.get(type(array).__name__):
            return reason
        if _torch_eager.are_parts((array,)) and type(array) not in (
            *_torch_eager.PLAIN,
            *self._mapped,
        ):
            from xp_xent.backends import _torch_maps

            self._mapped[type(array)] = _torch_maps.of_dtensor
        if array.is_nested:
            return (
                "got a nested tensor, wanted a dense one; use values() of a jagged one, or "
                "to_padded_tensor(0.0) and where="
            )
        if array.layout != self.torch.strided:
            return f"got a tensor of layout {array.layout}, wanted a dense one; use to_dense()"
        return None

    def _of_part(self, split: Any) -> Any:
        # Imported here: they import PyTorch's distributed tensors.
        from xp_xent.backends import _torch_maps, _torch_parts

        part = _torch_parts.part_of(split)
        part._mapped = dict.fromkeys(_torch_eager.PLAIN, _torch_maps.of_plain)
        return part

    def _not_writable(self, out: Array, others: tuple[Array, ...]) -> str | None:
        if not _torch_eager.is_eager(out, *others):
            return "got a tensor under a transform or compiler, where none is written into"
        if out.requires_grad:
            return "got a tensor that requires grad, wanted one that does not; use detach()"
        if self.torch.is_grad_enabled() and any(x.requires_grad for x in others):
            return (
                "got a tensor beside inputs that require grad, but what is written into it cannot "
                "be differentiated; call inside torch.no_grad()"
            )
        if out.is_inference() and not self.torch.is_inference_mode_enabled():
            return "got an inference tensor, wanted one that may be written into; use clone()"
        if _blocks.folded(tuple(out.shape), out.stride()):
            return _blocks.FOLDED
        shared = any(_torch_memory.may_share(out, x) for x in others)
        return _blocks.SHARED if shared else None

    def devices(self) -> tuple[Any, ...]:
        accelerator = self.torch.accelerator
        return (
            ("cpu", accelerator.current_accelerator()) if accelerator.is_available() else ("cpu",)
        )

    def can_read_values(self, array: Array) -> bool:
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

    # Operations

    def _arange(self, stop: int, like: Array) -> Array:
        # array_api_compat's asks if the length is 0, which a compiler may not know.
        return self.torch.arange(stop, device=like.device)

    def with_class_axis(self, axis: int) -> Backend:
        # Views are free, but Inductor makes what follows in the memory order of the result.
        return self._at_axis(axis) if self.torch.compiler.is_compiling() else self

    def take_label(self, x: Array, index: Array) -> Array:
        if self.torch.compiler.is_compiling() and x.requires_grad:
            # A gather's derivative is a scatter; this fuses with what is around it.
            others = self.indices(x) != index
            return x.masked_fill(others, 0).sum(self.class_axis, keepdim=True)
        rows = list(index.shape)
        rows[self.class_axis] = x.shape[self.class_axis]
        # take_along_dim would fix the number of rows under torch.export.
        return self.torch.gather(x.expand(rows), self.class_axis, index)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether anybody may differentiate what is computed now."""
        return self.torch.is_grad_enabled() or not _torch_eager.is_eager()

    def _may_write(self, *arrays: Any) -> bool:
        if self.torch.is_grad_enabled():
            return False
        return _torch_eager.is_eager(*(x for x in arrays if isinstance(x, self.torch.Tensor)))

    def scale_rows(self, x: Array, factor: Any = 1.0, valid: Array | None = None) -> Array:
        if not self._may_write(x):
            return super().scale_rows(x, factor, valid)
        if not (isinstance(factor, float) and factor == 1):
            x = x.mul_(factor)
        return x if valid is None else x.masked_fill_(~valid, 0.0)

    def set_at_label(self, x: Array, index: Array, value: Any) -> Array:
        if self._may_write(x):
            return x.scatter_(self.class_axis, index, value)
        if isinstance(value, float):  # laid out in memory as x is, unlike where's result
            return x.masked_fill(self.indices(x) == index, value)
        return super().set_at_label(x, index, value)

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        return total.addmm_(a.T, b) if self._may_write(total) else total.addmm(a.T, b)

    def stop_gradient(self, array: Array) -> Array:
        return array.detach()

    # Evaluation

    def map_blocks(
        self, function: Callable[..., Any], rows: Array, *operands: Any, **how: Any
    ) -> Any:
        # What autograd, a transform, a compiler or a tracer sees is one formula of whole tensors.
        if not self._may_write(rows, *operands):
            return function(rows, *operands)
        return _blocks.walk(self, function, rows, *operands, **how)

    def _sums_alone(self, z: Array, reference: Array, dtype: Any) -> ExpSums | None:
        return _blocks.exp_sums(self, z, reference, dtype) if self._may_write(z) else None

    def _gradient_again(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        return _blocks.exp_gradient(self, sums, factor, entry, valid, dtype)

    def _exp(self, z: Array, level: Array | float) -> Array:
        shifted = z - level
        return shifted.exp_() if self._may_write(shifted) else shifted.exp()

    def _stated_sums(
        self, z: Array, row_max: Array, reference: Array, valid: Array | None
    ) -> tuple[Array, Array, Array] | None:
        if not _torch_compiled.is_backward_only(z):
            return None
        sums = _torch_compiled.Sums.apply(z, row_max, reference, valid, self.class_axis)
        return (row_max if valid is None else row_max.masked_fill(~valid, 0), *sums)

    def custom_derivative(
        self,
        function: Callable[..., Any],
        differentiable_form: Callable[..., Any],
        *arrays: Any,
        partials: Callable[..., tuple[Any, ...]] | None = None,
    ) -> Any:
        if _torch_compiled.is_value_only(*arrays):
            return function(*arrays)
        if partials is not None and _torch_compiled.is_backward_only(arrays[0]):
            return _torch_compiled.WithPartials.apply(function, partials, *arrays)
        return super().custom_derivative(function, differentiable_form, *arrays)

    def map_steps(
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
                return super().map_steps(step, totals, arrays, size)
            return step(totals, *arrays)  # a loop would tie what is compiled to the number of rows


BACKEND = Torch()
