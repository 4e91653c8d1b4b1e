"""Calls whose rows or classes lie in several places, each of which has a part of every array."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Over what a call's arrays are split, in the words of their library."""

    classes: Any = None
    rows: Any = None
    num_classes: int | None = None  # beyond which columns take no part; None: all do
    adapter: Any = None  # for parts of these arrays; None: the one that their library has


current: ContextVar[Split | None] = ContextVar("split", default=None)


@contextmanager
def split(
    *, classes: Any = None, rows: Any = None, num_classes: int | None = None
) -> Iterator[None]:
    """Take the arrays of the calls within for parts of larger ones."""
    token = current.set(Split(classes, rows, num_classes))
    try:
        yield
    finally:
        current.reset(token)


@contextmanager
def taken(adapter: Any) -> Iterator[None]:
    """Take the arrays of the calls within for parts, as an adapter for parts does."""
    token = current.set(Split(adapter=adapter))
    try:
        yield
    finally:
        current.reset(token)
