"""An array in a file: what its header claims, and how it is read when the claim is true."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

SMALL = 1 << 20  # bytes up to which an array is read, not mapped
CHUNK = 1 << 20
LARGEST = 2**63 - 1


class BadInput(ValueError):  # noqa: N818 (of the input, not of the program)
    """An input that cannot be used.

    Its message is one line that names the file, the array, what was got and what was wanted.
    """


@dataclass(frozen=True)
class Stored:
    """An array in a file, as its header describes it.

    Parameters
    ----------
    file : Path
    name : str
    dtype : numpy.dtype
    shape : tuple of int
    order : {"C", "F"}
    start : int or None
        Where its bytes begin in the file; None where they are compressed.
    opened : callable, optional
        Open the compressed bytes, at the first of the array.
    """

    file: Path
    name: str
    dtype: Any
    shape: tuple[int, ...]
    order: Any
    start: int | None
    opened: Callable[[], AbstractContextManager[IO[bytes]]] | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.name!r}"

    @property
    def nbytes(self) -> int:
        """What the array takes, in bytes."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def check(self, present: int) -> None:
        """Refuse a claim that the bytes present do not fill, or what is not numbers."""
        if self.dtype.hasobject:
            raise BadInput(
                f"{self}: got Python objects, which only a pickle can hold and which can run code "
                "when they are read; wanted numbers: save numpy.asarray(x, dtype=...)"
            )
        if self.dtype.kind not in "biuf" and self.dtype.name != "bfloat16":
            raise BadInput(f"{self}: got dtype {self.dtype}, wanted integers, floats or booleans")
        if self.dtype.kind == "f" and self.dtype.itemsize > 8:
            raise BadInput(f"{self}: got dtype {self.dtype}, wanted float64 or narrower")
        bound = math.prod(max(length, 1) for length in self.shape) * self.dtype.itemsize
        if len(self.shape) > 64 or min(self.shape, default=0) < 0 or bound > LARGEST:
            raise BadInput(f"{self}: got shape {self.shape}, which no array has")
        if self.nbytes != present:
            how = "is truncated, or its header wrong"
            if present > self.nbytes:
                how = "goes on behind the array"
            raise BadInput(
                f"{self}: the file {how}: got {present} bytes, wanted {self.nbytes} for "
                f"{self.dtype} {self.shape}"
            )

    def load(self) -> np.ndarray:
        """Map a large array, and read a small or a compressed one."""
        try:
            if self.start is None:
                return self._decompressed()
            if self.nbytes > SMALL:
                return np.memmap(self.file, self.dtype, "r", self.start, self.shape, self.order)
            flat = np.fromfile(self.file, np.uint8, self.nbytes, offset=self.start)
        except MemoryError as error:
            raise BadInput(f"{self}: {self.nbytes} bytes do not fit into memory") from error
        return flat.view(self.dtype).reshape(self.shape, order=self.order)

    def _decompressed(self) -> np.ndarray:
        assert self.opened is not None
        flat = np.empty(self.nbytes, dtype=np.uint8)
        left = flat.data
        with self.opened() as stream:
            while left:
                got = stream.read(min(CHUNK, len(left)))
                if not got:
                    raise EOFError("the compressed bytes end too early")
                left[: len(got)] = got
                left = left[len(got) :]
            stream.read(1)  # at its end the checksum is compared
        return flat.view(self.dtype).reshape(self.shape, order=self.order)
