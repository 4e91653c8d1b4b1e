"""The three kinds of files that are read: what their headers say, each claim checked.

A header is the only thing that is read here, and no array takes memory yet.
"""

import json
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from xp_xent.verify._stored import BadInput, Stored

# What a damaged header makes its parser raise.
DAMAGED = (
    ValueError, TypeError, SyntaxError, LookupError, AttributeError, RecursionError, MemoryError,
    OverflowError, EOFError, NotImplementedError, RuntimeError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip

HEADER = 100_000_000  # bytes, the longest that safetensors allows
INFLATES = 1032  # a byte that is deflated becomes 1032 at the most

SAFETENSORS = {
    "BOOL": "bool", "U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2", "U32": "<u4",
    "I32": "<i4", "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "bfloat16", "F32": "<f4",
    "F64": "<f8",
}  # fmt: skip


@contextmanager
def readable(file: Path, kind: str) -> Iterator[None]:
    """Turn what a damaged file makes its parser raise into one line."""
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInput(f"{file}: cannot be read: {why}") from error
    except DAMAGED as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{file}: is no {kind}, or is damaged: {why}") from error


def npy(file: Path) -> Iterator[Stored]:
    """Read the header of a ``.npy``; the array has the file's name."""
    with file.open("rb") as stream:
        dtype, shape, order = _npy_header(stream)
        start = stream.tell()
        found = Stored(file, file.stem, dtype, shape, order, start)
        found.check(stream.seek(0, 2) - start)
    yield found


def npz(file: Path) -> Iterator[Stored]:
    """Read the headers of the arrays in a ``.npz``, compressed or not."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        size = raw.seek(0, 2)
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise BadInput(
                    f"{file}: the archive holds {name!r}, which is no array; wanted what "
                    "numpy.savez writes"
                )
            with archive.open(member) as stream:
                dtype, shape, order = _npy_header(stream)
                header = stream.tell()
            start: int | None = None
            if member.compress_type == zipfile.ZIP_STORED:
                start = _data(raw, member.header_offset) + header
                present = min(member.file_size, member.compress_size) - header
                present = min(present, size - start)
            elif member.compress_type == zipfile.ZIP_DEFLATED:
                present = member.file_size - header
                if member.file_size > INFLATES * (member.compress_size + 1):
                    raise BadInput(
                        f"{file}: {name!r} claims {member.file_size} bytes in "
                        f"{member.compress_size} compressed ones, which cannot be"
                    )
            else:
                raise BadInput(f"{file}: {name!r} is compressed in a way that numpy never uses")
            found = Stored(file, name, dtype, shape, order, start, _Inflated(file, member, header))
            found.check(present)
            yield found


def safetensors(file: Path) -> Iterator[Stored]:
    """Read the header of a ``.safetensors``: a length, JSON, then the bytes of the arrays."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(HEADER, size - 8):
            raise BadInput(
                f"{file}: is truncated, or no safetensors file: its header claims {length} bytes "
                f"of {size}"
            )
        entries = json.loads(stream.read(length), object_pairs_hook=_each_once)
    end = start = 8 + length
    for name, entry in sorted(entries.items(), key=_place):
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if start + first != end or last < first:
            raise BadInput(f"{file}: {name!r}: its bytes overlap another array's, or leave a gap")
        end = start + last
        if entry["dtype"] not in SAFETENSORS:
            wanted = ", ".join(SAFETENSORS)
            raise BadInput(f"{file}: {name!r}: got dtype {entry['dtype']}, wanted one of {wanted}")
        dtype = _dtype(SAFETENSORS[entry["dtype"]])
        shape = tuple(entry["shape"])
        if not all(type(n) is int for n in (first, last, *shape)):
            raise ValueError(f"{name!r} has the shape {shape} at {first} to {last}")
        found = Stored(file, name, dtype, shape, "C", start + first)
        found.check(min(last, size - start) - first)
        yield found
    if end != size:
        raise BadInput(f"{file}: got {size} bytes, wanted {end} by its header")


def _npy_header(stream: IO[bytes]) -> tuple[Any, tuple[int, ...], str]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format, which holds no plain numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header that Python 2 wrote
        shape, fortran, dtype = read(stream)
    if dtype == np.dtype("V2"):  # how numpy.save writes bfloat16, of which it knows no name
        dtype = _dtype("bfloat16")
    return dtype, shape, "F" if fortran else "C"


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise BadInput("bfloat16 arrays need pip install ml_dtypes") from error
    return np.dtype(ml_dtypes.bfloat16)


def _data(raw: IO[bytes], offset: int) -> int:
    """Give the place of a member's first byte, after the header that stands before it."""
    raw.seek(offset)
    name, extra = struct.unpack("<26xHH", raw.read(30))
    return offset + 30 + int(name) + int(extra)


class _Inflated:
    """Opens the bytes of a compressed member behind the array's header."""

    def __init__(self, file: Path, member: zipfile.ZipInfo, header: int) -> None:
        self.file, self.member, self.header = file, member, header

    @contextmanager
    def __call__(self) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
            stream.read(self.header)
            yield stream


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _place(item: tuple[str, Any]) -> float:
    name, entry = item
    return -math.inf if name == "__metadata__" else entry["data_offsets"][0]
