"""Calls whose rows or classes lie in several places, each of which has a part of every array."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Over what a call's arrays are split, in the words of their library."""

    classes: Any = None
    rows: Any = None
    num_classes: int | None = None  # beyond which columns take no part; None: all do
    adapter: Any = None  # for parts of these arrays; None: the one that their library has


current: ContextVar[Split | None] = ContextVar("split", default=None)
# Those of all threads. Where none is open nobody asks further: PyTorch's compiler, which reads a
# list, cannot read a context variable.
opened: list[Split] = []


@contextmanager
def within(split: Split) -> Iterator[None]:
    """Take the arrays of the calls within for parts of larger ones, as that says."""
    token = current.set(split)
    opened.append(split)
    try:
        yield
    finally:
        opened.remove(split)
        current.reset(token)


def split(
    *, classes: Any = None, rows: Any = None, num_classes: int | None = None
) -> AbstractContextManager[None]:
    """Take the arrays of the calls within for parts of larger ones."""
    return within(Split(classes, rows, num_classes))
