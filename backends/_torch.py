"""PyTorch: the formula through its own autograd, functional transforms and compiler."""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent.backends._base import Array, Backend


class Torch(Backend):
    name = "torch"
    roots = ("torch",)
    module = "array_api_compat.torch"

    def __init__(self) -> None:
        super().__init__()
        import torch

        self.torch = torch
        self._plain = (torch.Tensor, torch.nn.Parameter)

    def refuses(self, array: Array) -> str | None:
        if not isinstance(array, self.torch.Tensor):
            return f"got {type(array).__name__}, wanted a torch.Tensor"
        if array.layout != self.torch.strided:
            return f"got a tensor of layout {array.layout}, wanted a dense one; use to_dense()"
        return None

    def device(self, array: Array) -> Any:
        return array.device

    def devices(self) -> tuple[Any, ...]:
        accelerator = self.torch.accelerator
        return (
            ("cpu", accelerator.current_accelerator()) if accelerator.is_available() else ("cpu",)
        )

    def is_readable(self, array: Array) -> bool:
        # Fake, functional and distributed tensors are other types; a tensor wrapped by
        # torch.func has values that Python must not branch on.
        return (
            not self.torch.compiler.is_compiling()
            and type(array) in self._plain
            and array.device.type == "cpu"
            and not self.torch._C._functorch.is_functorch_wrapped_tensor(array)
        )

    def synchronize(self, array: Array) -> None:
        if array.device.type != "cpu":
            self.torch.accelerator.synchronize(array.device)

    def float_dtypes(self) -> tuple[str, ...]:
        return ("float16", "bfloat16", "float32", "float64")

    def asarray(self, host: np.ndarray, dtype: str | None = None, device: Any = None) -> Array:
        # NumPy's bfloat16 is unknown to torch.tensor; through float32 it is exact.
        host = np.asarray(host)
        host = host.astype(np.float32) if host.dtype.name == "bfloat16" else host
        return self.torch.tensor(host, dtype=getattr(self.torch, dtype or "", None), device=device)

    def to_numpy(self, array: Array) -> np.ndarray:
        array = array.detach().cpu()
        if array.dtype == self.torch.bfloat16:
            array = array.to(self.torch.float32)  # exact; NumPy alone has no bfloat16
        return np.array(array.numpy())

    def stop_gradient(self, array: Array) -> Array:
        return array.detach()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.torch.compile(function, fullgraph=True)


BACKEND = Torch()
