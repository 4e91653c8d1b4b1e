"""What a topic says of one vector; the generator does the rest."""

from __future__ import annotations

import math
import random
from typing import Any, Final, NamedTuple

INF, NAN = math.inf, math.nan
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
        Floats are rounded to the dtype. Targets may be ints, bools or floats; a map has x for
        logits, and none.
    flags : tuple of str
        Keys of flags.json.
    dtypes : tuple of str
        Dtypes of the logits.
    options : dict
        As in the public function; lists are arrays.
    cotangent : nested list or None
        What weights the losses, or a map's entries, in the gradient: of the value's shape.
    targets_dtype : str or None
        That of the targets; by default int64, bool, or that of the logits.
    raises : str or None
        The exception that the call must raise, as `everywhere` says or on host memory.
    everywhere : bool
        It must raise on every machine, so there is no value.
    function : str
        The public function's name.
    """

    name: str
    comment: str
    logits: Any
    targets: Any
    flags: tuple[str, ...]
    dtypes: tuple[str, ...]
    options: dict[str, Any]
    cotangent: Any = None
    targets_dtype: str | None = None
    raises: str | None = None
    everywhere: bool = False
    function: str = "cross_entropy"


def case(
    name: str,
    comment: str,
    logits: Any,
    targets: Any,
    *,
    flags: str = "",
    dtypes: tuple[str, ...] = BOTH,
    cotangent: Any = None,
    targets_dtype: str | None = None,
    raises: str | None = None,
    everywhere: bool = False,
    **options: Any,
) -> Case:
    """Write a case like a call: what is not about the vector is an option of the function."""
    return Case(
        name,
        comment,
        logits,
        targets,
        tuple(flags.split()),
        dtypes,
        options,
        cotangent,
        targets_dtype,
        raises,
        everywhere,
    )


def row(name: str, comment: str, logits: list[float], target: Any, **more: Any) -> Case:
    """Write a case of a single row."""
    return case(name, comment, [logits], [target], **more)


def binary(name: str, comment: str, logits: Any, targets: Any, **more: Any) -> Case:
    """Write a case of binary_cross_entropy_with_logits."""
    own = case(f"binary-{name}", comment, logits, targets, **more)
    return own._replace(function="binary_cross_entropy_with_logits")


def normal_rows(rows: int, classes: int, spread: float, seed: int) -> list[list[float]]:
    """Draw logits, the same ones on every machine."""
    draw = random.Random(seed)
    return [[draw.gauss(0.0, spread) for _ in range(classes)] for _ in range(rows)]


# The rows that most topics share: four of three classes, in every dtype exact
ROWS: Final = [[1.5, -0.5, 0.25], [0.125, 2.25, -1.25], [-3.0, 0.5, 0.75], [4.0, 1.0, -2.0]]
LABELS: Final = [0, 2, 1, 0]
GAP: Final = [0, 2, -100, 1]  # labels with a row that is ignored
SOFT: Final = [[0.5, 0.25, 0.25], [0.0, 0.125, 0.875], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]
WEIGHT: Final = [0.25, 2.0, 1.5]
ONCE: Final = [0.5, 2.0, 3.0, 0.0]  # sample weights
# Confident rows, for what must keep their digits
SURE: Final = [[20.0, 0.0, 0.5], [0.0, 12.0, 0.25], [0.5, -0.5, 30.0], [9.0, 0.0, 1.0]]
# Elements that the binary topics share
TABLE: Final = [[1.5, -0.5, 0.25], [-2.0, 3.0, -0.75]]
HITS: Final = [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
REDUCTIONS: Final = ("mean", "sum", "none")
