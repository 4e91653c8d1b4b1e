"""Arrays by name from files; what cannot be used is refused in one line."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xp_xent.verify import _formats
from xp_xent.verify._stored import BadInput, Stored

READERS = {".npz": _formats.npz, ".npy": _formats.npy, ".safetensors": _formats.safetensors}
PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


class Arrays(dict[str, np.ndarray]):
    """Arrays by name, and the file that each came from, for messages.

    Attributes
    ----------
    files : dict of str to Path
    """

    files: dict[str, Path]

    def __init__(self) -> None:
        super().__init__()
        self.files = {}

    def of(self, name: str) -> str:
        """Name an array and its file, as a message begins."""
        return f"{self.files[name]}: {name!r}" if name in self.files else repr(name)

    def wanted(self, name: str, option: str = "") -> np.ndarray:
        """Give an array that has to be there.

        Parameters
        ----------
        name : str
        option : str, optional
            The command's option that renames it.

        Raises
        ------
        BadInput
            There is none of that name.
        """
        if name in self:
            return self[name]
        files = ", ".join(dict.fromkeys(map(str, self.files.values()))) or "no file"
        names = ", ".join(self) or "nothing"
        rename = f", or name one of these with {option}" if option else ""
        raise BadInput(f"{files}: got {names}, wanted an array called {name!r}{rename}")

    def release(self) -> None:
        """Let go of the memory that mapped arrays hold: what was read of them comes back if asked.

        A walk over a file that is larger than memory calls it after each block.
        """
        for array in self.values():
            base: Any = array
            while isinstance(base, np.ndarray):
                base = base.base
            if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):  # not on Windows
                base.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def asked(self, **names: str) -> Iterator[None]:
        """Turn what a loss refuses into a refusal that names the file.

        Parameters
        ----------
        **names : str
            The array's name for an argument of the loss.
        """
        try:
            yield
        except BadInput:
            raise
        except (TypeError, ValueError) as error:
            argument, colon, why = str(error).partition(": ")
            named = colon and argument in names
            whole = f"{self.of(names[argument])}: {why}" if named else str(error)
            raise BadInput(whole) from error


def read(files: Sequence[Path], named: Mapping[str, Path] | None = None) -> Arrays:
    """Read arrays by name from files.

    Headers are read first, and what they claim is checked against the file before memory is taken.
    Arrays of more than a megabyte are memory-mapped, those of an uncompressed ``.npz`` too;
    compressed ones are read once. Nothing is ever unpickled.

    Parameters
    ----------
    files : sequence of Path
        ``.npz``, ``.safetensors``, whose arrays have names, and ``.npy``, whose array has the name
        of the file without the suffix.
    named : mapping of str to Path, optional
        Files whose arrays get a name's ending: ``{"torch": file}`` gives ``logits.torch``.

    Returns
    -------
    Arrays
        A dict of arrays, read-only where they are mapped.

    Raises
    ------
    BadInput
        A file that is missing, damaged, truncated or a pickle, an array that is not of real
        numbers, or two arrays of one name.
    """
    found: dict[str, Stored] = {}
    endings = [("", Path(file)) for file in files]
    endings += [(f".{name}", Path(file)) for name, file in (named or {}).items()]
    for ending, file in endings:
        for stored in headers(file):
            name = stored.name + ending
            if name in found:
                both = f"{found[name].file} and {file}" if found[name].file != file else f"{file}"
                raise BadInput(f"{both}: two arrays are called {name!r}; wanted one of each name")
            found[name] = stored
    arrays = Arrays()
    for name, stored in found.items():
        with _formats.readable(stored.file, kind=stored.file.suffix):
            arrays[name] = stored.load()
        arrays.files[name] = stored.file
    return arrays


def headers(file: Path) -> list[Stored]:
    """Read what a file says that it holds, and check it against the file's size."""
    kind = file.suffix.lower()
    if kind in PICKLES:
        raise BadInput(
            f"{file}: a pickle can run code when it is read; save the arrays as "
            "numpy.savez(FILE, logits=..., targets=...) or with safetensors"
        )
    if kind not in READERS:
        wanted = ", ".join(READERS)
        raise BadInput(f"{file}: got a name that ends in {kind!r}, wanted one of {wanted}")
    with _formats.readable(file, kind):
        return list(READERS[kind](file))
