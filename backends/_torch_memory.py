"""PyTorch's host memory as NumPy sees it for one call, and NumPy's results as PyTorch's memory.

Storages stay what they are: `Tensor.numpy` and `torch.from_numpy` would leave one that can never
be resized again, and resizing is how FSDP frees a parameter. So a view is made as DLPack makes it,
which leaves no mark, and none outlives the call: its memory may be another's by then.
"""

import ctypes
import math
import mmap
import sys
from typing import Any

import numpy as np
import torch

from xp_xent.backends._base import Array
from xp_xent.backends._numbers import dtype_name

# Elements up to which a result is copied: that takes less than to share memory.
TINY = 1 << 12
# Bytes from which NumPy asks for huge pages. The first write to small ones takes three times as
# long, more than the rest of a loss.
LARGE = 1 << 22


class _Exported:
    """A tensor as NumPy imports it; to the tensor's own `__dlpack__` it would talk for longer."""

    __slots__ = ("capsule",)

    def __init__(self, tensor: torch.Tensor) -> None:
        # Versioned, or the array would be read-only, and `argmin` would copy it.
        self.capsule = torch._C._to_dlpack_versioned(tensor)

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # host memory


def on_host(tensor: torch.Tensor) -> np.ndarray | None:
    """View a CPU tensor's memory as a NumPy array, where NumPy has its dtype and layout.

    The view must not be kept: see above.
    """
    # DLPack does not know of signs that are a bit of the view, nor of zeros without memory.
    if not tensor.is_cpu or tensor.is_neg() or tensor._is_zerotensor():
        return None
    try:
        if tensor.dtype == torch.bfloat16:
            import ml_dtypes

            return np.from_dlpack(_Exported(tensor.detach().view(torch.int16))).view(
                ml_dtypes.bfloat16
            )
        return np.from_dlpack(_Exported(tensor))
    except (BufferError, ImportError, RuntimeError, TypeError):  # conjugate, sparse, not NumPy's
        return None


def may_share(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether tensors' ranges of memory overlap."""
    if a.device != b.device or a.numel() == 0 or b.numel() == 0:
        return False
    (first, end), (other, other_end) = _range(a), _range(b)
    return first < other_end and other < end


def _range(x: torch.Tensor) -> tuple[int, int]:
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.itemsize


def copied(tensor: torch.Tensor) -> np.ndarray:
    """Copy a tensor to NumPy; bfloat16, which NumPy alone has not, as float32."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    view = on_host(tensor)
    return np.array(tensor.clone().numpy() if view is None else view)


def operand_to_numpy(given: Any) -> Any:
    """Return NumPy what is asked for beside a loss's own arrays: converted where not shared."""
    if isinstance(given, tuple):  # to be written into
        return tuple([x if x is None else on_host(x) for x in given])
    if not isinstance(given, torch.Tensor):
        return given
    view = on_host(given)
    return copied(given) if view is None else view  # None would say that there is no cotangent


class _Holder:
    """What keeps PyTorch's memory alive, and known, behind NumPy's arrays in it."""

    __slots__ = ("__array_interface__", "tensor")
    __array_interface__: dict[str, Any]
    tensor: torch.Tensor


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Allocate an array for a result: of PyTorch's memory, unless `from_host` had better copy."""
    dtype = np.dtype(dtype)
    if math.prod(shape) <= TINY or dtype_name(dtype) not in _DTYPES:
        return np.empty(shape, dtype)
    tensor = torch.empty(shape, dtype=_DTYPES[dtype_name(dtype)], device="cpu")
    if tensor.nbytes >= LARGE:
        _ask_for_huge_pages(tensor)
    holder = _Holder()
    holder.tensor = tensor
    # NumPy reads no bfloat16 here, but numbers of its size.
    kind = dtype.str if dtype.kind in "fb" else "<i2"
    holder.__array_interface__ = {
        "version": 3, "shape": shape, "typestr": kind, "data": (tensor.data_ptr(), False),
    }  # fmt: skip
    array = np.asarray(holder)
    return array if dtype.kind in "fb" else array.view(dtype)


_DTYPES = {
    name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64", "bool")
}
_BY_DTYPE: dict[Any, Any] = {np.dtype(name): _DTYPES[name] for name in ("float32", "float64")}
_BY_DTYPE[np.dtype(bool)] = torch.bool


_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None


def _ask_for_huge_pages(tensor: torch.Tensor) -> None:
    if _LIBRARY is not None:
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = tensor.data_ptr() + tensor.nbytes - start
        _LIBRARY.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)


def from_host(found: Any) -> Any:
    """Return NumPy's results as tensors: an array, a number, or a nest of tuples of these."""
    if found is None:  # it was written into a tensor that was given for it
        return None
    if isinstance(found, tuple):
        parts = map(from_host, found)
        return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
    array = np.asarray(found)
    if array.ndim == 0 and array.dtype in _BY_DTYPE:
        return torch.scalar_tensor(array.item(), dtype=_BY_DTYPE[array.dtype], device="cpu")
    holder: Any = (array.base if isinstance(array.base, np.ndarray) else array).base
    if isinstance(holder, _Holder):
        return _part(holder.tensor, array)
    # PyTorch's own copy would wait for its threads, and spin where others compute.
    if array.size > TINY and dtype_name(array.dtype) in _DTYPES:
        own = empty(array.shape, array.dtype)
        own[...] = array
        return from_host(own)
    if array.dtype.kind == "V":  # bfloat16
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).clone()
    return torch.from_numpy(array).clone()


def _part(tensor: Array, array: np.ndarray) -> Array:
    """Return the tensor, or a view of its memory that is no view to autograd, as an array is."""
    size = array.itemsize
    strides = tuple([step // size for step in array.strides])
    if (array.shape, strides) == (tensor.shape, tensor.stride()):
        return tensor
    offset = (array.__array_interface__["data"][0] - tensor.data_ptr()) // size
    return tensor.as_strided(array.shape, strides, offset).detach()
