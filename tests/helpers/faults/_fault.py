"""A fault: a loss that gets one thing wrong, and the flag whose tests must catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """A faulty loss."""

    name: str
    loss: type[Any]
    why: str
    flag: str
    kinds: tuple[str, ...]  # what the failures must be: of values, not of crashes


FAULTS: list[Fault] = []


def fault(flag: str, *kinds: str) -> Callable[[type[Any]], type[Any]]:
    """Enter a class under the flag that names its bug; its docstring says what is wrong."""

    def enter(loss: type[Any]) -> type[Any]:
        why = (loss.__doc__ or "").strip()
        FAULTS.append(Fault(loss.__name__, loss, why, flag, kinds or ("value", "gradient")))
        return loss

    return enter
