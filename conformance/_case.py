"""What a topic says of one vector; the generator does the rest."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

BOTH: Final = ("float32", "float64")
HALF: Final = ("float16", "bfloat16")
ALL: Final = (*BOTH, *HALF)


class Case(NamedTuple):
    """One vector in each of its dtypes.

    Attributes
    ----------
    name : str
        With the dtype it makes the test's id, which never changes.
    comment : str
        Why the vector is there.
    logits, targets : nested lists
        Floats are rounded to the dtype. Targets may be ints, bools or floats.
    flags : tuple of str
        Keys of flags.json.
    dtypes : tuple of str
        Dtypes of the logits.
    options : dict
        As in the public function; lists are arrays.
    """

    name: str
    comment: str
    logits: Any
    targets: Any
    flags: tuple[str, ...]
    dtypes: tuple[str, ...]
    options: dict[str, Any]


def case(
    name: str,
    comment: str,
    logits: Any,
    targets: Any,
    *,
    flags: str = "",
    dtypes: tuple[str, ...] = BOTH,
    **options: Any,
) -> Case:
    """Write a case like a call: what is not about the vector is an option of the function."""
    return Case(name, comment, logits, targets, tuple(flags.split()), dtypes, options)


def row(name: str, comment: str, logits: list[float], target: Any, **more: Any) -> Case:
    """Write a case of a single row."""
    return case(name, comment, [logits], [target], **more)
