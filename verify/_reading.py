"""Read what a side claims, and tell what it was computed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xp_xent.backends import dtype_name
from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.verify._case import BinaryCase
from xp_xent.verify._claims import Claim
from xp_xent.verify._own import padded
from xp_xent.verify._problem import Problem, to_host
from xp_xent.verify._steps import round_to
from xp_xent.verify._stored import BadInput


def claims_of(name: str, side: Mapping[str, Any], local: Problem) -> list[Claim]:
    """Read the claims of one side, and check their shapes."""
    case, found = local.case, []
    ending = f".{name}" if name else ""
    if side.get("loss") is not None:
        value, resolution = side["loss"], 0.0
        if isinstance(value, str):
            value, resolution = decimal(value, f"loss{ending}")
        value = to_host(value)
        value, known = _losses(value, local, ending)
        found.append(_claim(name or "loss", "loss", value, known, local, resolution))
    if side.get("gradient") is not None:
        value = to_host(side["gradient"])
        wanted = local.arrays["logits"].shape
        if value.shape != wanted or dtype_name(value.dtype) not in FORMATS:
            raise BadInput(
                f"gradient{ending}: got {value.dtype} {value.shape}, wanted floating numbers of "
                f"the logits' shape {wanted}"
            )
        binary = isinstance(case, BinaryCase)
        moved = value[..., None] if binary else np.moveaxis(value, case.axis, -1)
        found.append(_claim(name or "gradient", "gradient", moved, None, local))
    return found


def decimal(text: str, name: str) -> tuple[Any, float]:
    """Read a number, and half a unit of its last digit."""
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{name}: got {text!r}, wanted a number") from None
    digits, _, exponent = text.strip().lower().partition("e")
    after = len(digits.partition(".")[2])
    return np.asarray(value), 0.5 * 10.0 ** (int(exponent or 0) - after)


def _losses(value: Any, local: Problem, ending: str) -> tuple[Any, Any]:
    """Lay out a loss, one or one a row."""
    case, shape = local.case, np.shape(value)
    shorter = (*case.positions[:-1], case.positions[-1] - 1) if case.positions else None
    if dtype_name(value.dtype) not in FORMATS:
        raise BadInput(f"loss{ending}: got {value.dtype}, wanted floating numbers")
    if shape == () or (shape == (1,) and case.count != 1):
        return np.reshape(value, ()), None
    if shape in (case.positions, (case.count,)):
        return np.reshape(value, -1), None
    if local.loss == "next_token_cross_entropy" and shape == shorter:
        return padded(value, case)
    raise BadInput(
        f"loss{ending}: got shape {shape}, wanted one number or one a row, {case.positions}"
    )


def _claim(
    name: str, kind: str, value: Any, known: Any, local: Problem, resolution: float = 0.0
) -> Claim:
    """Tell what a claim was computed in: the narrower of the logits' dtype and its own.

    A number of float32 that was saved as one of float64 still is one of float32.
    """
    dtype = dtype_name(value.dtype)
    both = {COMPUTE[local.case.dtype], COMPUTE[dtype]}
    compute = "float64" if both == {"float64"} and not _narrow(value) else "float32"
    if compute == "float32" and dtype == "float64":
        dtype = "float32"
    return Claim(name, kind, value, dtype, compute, resolution, known)


def _narrow(value: Any) -> bool:
    """Tell if numbers are of float32, by the first of them; round ones tell nothing."""
    row = max(1, int(np.prod(np.shape(value)[1:])))
    some = np.asarray(value[: max(1, 4096 // row)] if np.ndim(value) else value, np.float64)
    some = some[np.isfinite(some)]
    telling = np.any(some != np.rint(some * 16.0) / 16.0)
    return bool(telling and np.array_equal(round_to(some, "float32"), some))
