"""Kernels on a part of the classes, in stages: what all parts add up to is asked for in between.

A kernel reduces over the classes in the middle of its formula, which a task of a graph cannot wait
for. So it is run until it asks; what each part has to say to that is merged, in a tree; then it is
run again from its beginning, is given the answer, and comes to its next question, or its end. An
answer is one number a row or a few, and what led to it is not computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from xp_xent.backends import owner_of
from xp_xent.backends._base import Backend
from xp_xent.backends._part import Part, merged_sums, to_subtract
from xp_xent.backends._row_sums import ExpSums, RowSums

Array = Any
Answer = tuple[Array, ...]  # arrays (..., 1) of rows


class Question(Exception):  # noqa: N818  (it is no error)
    """What a part of the classes has to say, and the name of how the parts' are merged."""

    def __init__(self, merge: str, said: Answer) -> None:
        super().__init__(merge)
        self.merge, self.said = merge, said


class Place:
    """Where among all classes a part lies: the `Fabric` of a part that is alone in its task."""

    def __init__(self, start: int, of: int) -> None:
        self.start, self.of = start, of

    def count(self, here: int) -> int:
        """Count the classes of all parts."""
        return self.of

    def first(self, here: int) -> int:
        """Count the classes in the parts before this one."""
        return self.start


class Staged(Part):
    """What stands before the adapter of a part's library in the bases of that for a stage."""

    answers: Iterator[Answer]
    classes: Any

    def _ask(self, merge: str, here: Callable[[], Answer]) -> Answer:
        answer = next(self.answers, None)
        if answer is None:
            raise Question(merge, here())
        return answer

    def row_sum(self, x: Array) -> Array:
        return self._ask("sum", lambda: (super(Part, self).row_sum(x),))[0]

    def _row_max(self, x: Array) -> Array:
        return self._ask("max", lambda: (Backend._row_max(self, x),))[0]

    def _row_argmax(self, x: Array) -> Array:
        return self._ask("argmax", lambda: self._largest(x))[1]

    def _largest(self, x: Array) -> Answer:
        largest = Backend._row_argmax(self, x)
        return Backend.take_label(self, x, largest), largest + self.classes.start

    def _sum_elsewhere(self, x: Array) -> Array:
        def here() -> Answer:
            found = super(Part, self).row_sum(x)
            return found, self.xp.zeros_like(found) + self.classes.start

        sums, starts = self._ask("side by side", here)
        elsewhere = self.xp.where(starts == self.classes.start, 0.0, sums)
        return self.xp.sum(elsewhere, axis=-1, keepdims=True)

    def exp_sums(self, z: Array, reference: Array | None, dtype: Any, **how: Any) -> ExpSums:
        # The whole statistic is one question: each part's elements are looked at once.
        z = self.kernel_layout(z, dtype)
        if reference is None:
            row_max, reference, other_sum = self._ask("largest", lambda: self._about_largest(z))
            reference_z = row_max
        else:
            row_max, other_sum, reference_z = self._ask("label", lambda: self._about(z, reference))
        exps = None
        if how.get("need", "exps") == "exps":
            exps = self.set_at_label(self._exp(z, row_max), reference, 0.0)
        gap = reference_z - row_max
        return ExpSums(z, reference, row_max, row_max, other_sum, gap, None, exps, reference)

    def _gradient_again(self, sums: ExpSums, *how: Any) -> Array:
        # Not by a kernel that counts classes from the first one here.
        return RowSums._gradient_again(self, sums, *how)

    def _about(self, z: Array, label: Array) -> Answer:
        row_max, at_label = Backend._row_max(self, z), self.indices(z) == label
        exps = self.xp.where(at_label, 0.0, self._exp(z, to_subtract(self.xp, row_max)))
        both = (super(Part, self).row_sum(x) for x in (exps, self.xp.where(at_label, z, 0.0)))
        return row_max, *both

    def _about_largest(self, z: Array) -> Answer:
        row_max, largest = self._largest(z)
        exps = self._exp(z, to_subtract(self.xp, row_max))
        exps = self.set_at_label(exps, largest, 0.0)
        return row_max, largest, super(Part, self).row_sum(exps)


@cache
def _staged(adapter: type[Any]) -> type[Any]:
    return type(f"Staged{adapter.__name__}", (Staged, adapter), {})


def staged(block: Array, start: int, of: int, answers: Sequence[Answer]) -> Staged:
    """Return the adapter for a block of logits whose classes begin with `start` of so many."""
    adapter: Any = owner_of(block)
    found: Any = object.__new__(_staged(type(adapter)))  # type: ignore[arg-type]
    vars(found).update(vars(adapter))
    found.classes, found.answers = Place(start, of), iter(answers)
    return found


def merged(merge: str, said: Sequence[Answer]) -> Answer:
    """Merge what parts have said, in the order of their classes: to be merged again, or an answer.

    The sums of exponentials are scaled to the largest maximum: their terms are positive.
    """
    xp = owner_of(said[0][0]).xp  # type: ignore[union-attr]
    parts = list(zip(*said, strict=True))
    if merge == "label":
        return merged_sums(xp, *parts)
    columns = [xp.concat(part, axis=-1) for part in parts]
    if merge == "side by side":
        return tuple(columns)

    def total(x: Array) -> Array:
        return xp.sum(x, axis=-1, keepdims=True)

    if merge == "sum":
        return (total(columns[0]),)
    tops = columns[0]
    if merge == "max":
        return (xp.max(tops, axis=-1, keepdims=True),)
    # The first of the largest; of a NaN that of the first NaN.
    part = xp.argmax(tops, axis=-1, keepdims=True)
    top = xp.take_along_axis(tops, part, axis=-1)
    scale = xp.exp(tops - to_subtract(xp, top))
    largest = xp.take_along_axis(columns[1], part, axis=-1)
    if merge == "argmax":
        return top, largest
    away = xp.arange(tops.shape[-1]) != part
    return top, largest, total(columns[2] * scale) + total(xp.where(away, scale, 0.0))
