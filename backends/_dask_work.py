"""Dask: what a task does, taken apart into what travels and the arrays whose blocks it gets.

A function of a loss holds the adapter of its arrays, and may hold arrays, a temperature say. In a
task there are blocks in place of the arrays, and the adapter is that of the blocks' own library.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cloudpickle
import dask.array as da

Array = Any
Blocks = tuple[Array, ...]  # of one task


class _Pickler(cloudpickle.Pickler):
    """Pickles a call without its adapter and its arrays, whose places are left open."""

    def __init__(self, file: io.BytesIO, adapter: type[Any]) -> None:
        super().__init__(file)
        self.adapter, self.arrays = adapter, list[Array]()

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, self.adapter):
            return "adapter"
        if not isinstance(obj, da.Array):
            return None
        self.arrays.append(obj)
        return len(self.arrays) - 1


class _Unpickler(pickle.Unpickler):
    """Fills them in."""

    def __init__(self, data: bytes, adapter: Any, arrays: Sequence[Array]) -> None:
        super().__init__(io.BytesIO(data))
        self.adapter, self.arrays = adapter, arrays

    def persistent_load(self, pid: Any) -> Any:
        return self.adapter if pid == "adapter" else self.arrays[pid]


class Work(NamedTuple):
    """What a task does: a function of rows, with what stands beside these, which may travel."""

    call: bytes  # the function and its operands, whose arrays are open
    is_number: tuple[bool, ...]  # which arrays are (), and have axes in a graph alone
    whole: bool

    def bound(self, adapter: Any, z: Array, blocks: Blocks) -> tuple[Callable[..., Any], Any]:
        """Return the function for an adapter, and its operands."""
        for x in blocks:
            if any(m not in (1, n) for n, m in zip(z.shape, x.shape, strict=True)):
                raise ValueError(
                    f"chunks: got one of shape {x.shape} beside logits of shape {z.shape}; chunks "
                    "of unknown lengths have to be as long as those of the logits"
                )
        arrays = [
            x.reshape(()) if number else x for x, number in zip(blocks, self.is_number, strict=True)
        ]
        return _Unpickler(self.call, adapter, arrays).load()


def work_of(
    adapter: Any, function: Any, z: Any, operands: Sequence[Any], whole: bool
) -> tuple[Work, list[Any]]:
    """Take a function and its operands apart: into what travels with a task, and arrays."""
    file = io.BytesIO()
    pickler = _Pickler(file, type(adapter))
    pickler.dump((function, operands))
    is_number = tuple([x.ndim == 0 for x in pickler.arrays])
    work = Work(file.getvalue(), is_number, whole)
    return work, [x if x.ndim else x.reshape((1,) * z.ndim) for x in pickler.arrays]
