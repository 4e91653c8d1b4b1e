"""Logits and their targets, from files, that fit each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent.diagnosis.walk import NEAR
from xp_xent.flow.row_blocks import BLOCK, blocks
from xp_xent.verify._case import broadcasts
from xp_xent.verify._files import Arrays
from xp_xent.verify._stored import BadInput

BESIDE = ("sample_weight", "where", "bytes")  # a number for each row


@dataclass(frozen=True)
class Pair:
    """Logits and targets, and which rows count.

    Parameters
    ----------
    arrays : Arrays
        All that the files hold.
    logits, targets : str
        Their names there.
    axis : int
        The class axis, counted from 0.
    ignore_index : int or None
    """

    arrays: Arrays
    logits: str
    targets: str
    axis: int
    ignore_index: int | None

    @property
    def z(self) -> np.ndarray:
        """The logits, their classes last; a view."""
        return np.moveaxis(self.arrays[self.logits], self.axis, -1)

    @property
    def y(self) -> np.ndarray:
        """The labels, or the probabilities with their classes last."""
        y = self.arrays[self.targets]
        return np.moveaxis(y, self.axis, -1) if self.soft else y

    @property
    def part(self) -> np.ndarray | None:
        """Which classes of each row take part, the classes last; a view, or None."""
        mask = self.arrays.get("class_where")
        if mask is None:
            return None
        shape = self.arrays[self.logits].shape
        return np.moveaxis(np.broadcast_to(mask, shape), self.axis, -1)

    @property
    def soft(self) -> bool:
        """Whether the targets are probabilities."""
        return self.arrays[self.targets].shape == self.arrays[self.logits].shape

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows: of the logits, without the class axis."""
        return self.z.shape[:-1]

    @property
    def classes(self) -> int:
        """The number K of classes."""
        return int(self.z.shape[-1])

    def counted(self) -> np.ndarray:
        """Give the rows that count."""
        counted = np.ones(self.shape, dtype=bool)
        if "where" in self.arrays:
            counted &= self.arrays["where"]
        if not self.soft and self.ignore_index is not None:
            counted &= self.y != self.ignore_index
        return counted


def pair(
    arrays: Arrays, logits: str, targets: str, options: Mapping[str, Any], *, strict: bool = True
) -> Pair:
    """Find logits and targets, and refuse those that do not fit.

    Parameters
    ----------
    arrays : Arrays
    logits, targets : str
        Names of arrays.
    options : mapping
        Of the loss; `axis` and `ignore_index` are looked at.
    strict : bool, default True
        Whether labels that name no class, and labels of another axis, are refused too.

    Raises
    ------
    BadInput
        A missing array, a wrong shape or dtype, NaN everywhere, no class, labels out of range.
    """
    z, y = arrays.wanted(logits, "--logits"), arrays.wanted(targets, "--targets")
    if z.dtype.kind != "f" and z.dtype.name != "bfloat16":
        swapped = "; are logits and targets swapped?" if y.dtype.kind == "f" else ""
        raise BadInput(f"{arrays.of(logits)}: got dtype {z.dtype}, wanted floating{swapped}")
    axis = options.get("axis", -1)
    if not isinstance(axis, int) or not -z.ndim <= axis < z.ndim:
        raise BadInput(
            f"--option axis={axis}: wanted an axis of {logits!r}, whose shape is {z.shape}"
        )
    axis %= z.ndim
    if not z.size:
        raise BadInput(f"{arrays.of(logits)}: got shape {z.shape}, wanted rows and classes")
    found = Pair(arrays, logits, targets, axis, options.get("ignore_index", -100))
    _fit(found, strict)
    if all(np.isnan(z[index]).all() for index in blocks(z.shape, BLOCK)):
        raise BadInput(f"{arrays.of(logits)}: got nothing but NaN, wanted numbers")
    if strict:
        (_summing if found.soft else _within)(found)
    return found


def _fit(found: Pair, strict: bool) -> None:
    """Refuse shapes that do not fit the logits'."""
    arrays, shape = found.arrays, found.arrays[found.logits].shape
    y = arrays[found.targets]
    fits = [axis for axis in range(len(shape)) if shape[:axis] + shape[axis + 1 :] == y.shape]
    if y.shape != shape and found.axis not in fits and (strict or not fits):
        hint = f"; it fits --option axis={fits[0]}" if fits else ""
        raise BadInput(
            f"{arrays.of(found.targets)}: got shape {y.shape}, wanted {found.shape} for labels or "
            f"{shape} for probabilities{hint}"
        )
    if y.shape == found.shape != shape and y.dtype.kind not in "iu":
        raise BadInput(f"{arrays.of(found.targets)}: got dtype {y.dtype}, wanted integer labels")
    wanted = {name: found.shape for name in BESIDE if name in arrays}
    if "weight" in arrays:
        wanted["weight"] = (found.classes,)
    for name, right in wanted.items():
        one = arrays[name]
        if one.shape != right and not (name == "bytes" and one.shape == ()):
            raise BadInput(f"{arrays.of(name)}: got shape {one.shape}, wanted {right}")
        if (one.dtype.kind == "b") != (name == "where"):
            kind = "booleans, True where a row counts" if name == "where" else "numbers"
            raise BadInput(f"{arrays.of(name)}: got dtype {one.dtype}, wanted {kind}")
    if "class_where" in arrays:
        name, one = arrays.of("class_where"), arrays["class_where"]
        if one.dtype.kind != "b":
            kind = "booleans, True where a class takes part"
            raise BadInput(f"{name}: got dtype {one.dtype}, wanted {kind}")
        if not broadcasts(one.shape, shape):
            raise BadInput(f"{name}: got shape {one.shape}, wanted one that broadcasts to {shape}")


def _within(found: Pair) -> None:
    """Refuse labels that name no class, of rows that count."""
    y = found.y
    outside = found.counted() & ((y < 0) | (y >= found.classes))
    if outside.any():
        first = tuple(int(i) for i in np.unravel_index(outside.argmax(), y.shape))
        one = int(y[first])
        hint = "; counted from 1?" if one == found.classes else ""
        hint = f"; --option ignore_index={one} ignores it" if one < 0 or one == 255 else hint
        raise BadInput(
            f"{found.arrays.of(found.targets)}: got label {one} at position {first}, wanted "
            f"0 … {found.classes - 1}{hint}"
        )


def _summing(found: Pair) -> None:
    """Refuse probabilities that are none, of rows that count."""
    y, counted = found.y, found.counted()
    for index in blocks(found.shape, max(1, BLOCK // found.classes)):
        total = y[index].sum(axis=-1, dtype=np.float64)
        off = counted[index] & (np.abs(total - 1) > NEAR)
        if np.any(off):
            raise BadInput(
                f"{found.arrays.of(found.targets)}: got probabilities that sum to "
                f"{total[off][0]:.4g} along axis {found.axis}, wanted 1; is the axis right, or is "
                "this multilabel, where each class has a loss of its own?"
            )
