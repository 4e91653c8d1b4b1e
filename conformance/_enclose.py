"""From a case's arrays to the rows or elements that the reference takes, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xp_xent.conformance import _divergences, _map_values, _other_losses, reference
from xp_xent.conformance._case import Case
from xp_xent.conformance._enclosure import Result, nearest
from xp_xent.conformance._formats import COMPUTE
from xp_xent.conformance._load import FLOAT_OPTIONS


class Enclosed(NamedTuple):
    """How a case is computed, and how flat results get their shapes."""

    compute: Callable[[], Result]  # at the precision of the moment
    value: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    value_dtype: str


def rounded(values: Any, dtype: str) -> Any:
    """Round nested floats to a dtype, as an array; ints, bools and balls stay."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return array
    data = [nearest(x, dtype) for x in array.ravel().tolist()]
    return np.array(data, dtype=np.float64).reshape(array.shape)


def shaped(shape: tuple[int, ...], case: Case) -> Callable[[Any], Any]:
    """Give what shapes a loss: one a row, or one number."""
    whole = case.options.get("reduction") != "none"
    return lambda flat: np.reshape(flat, () if whole else shape)


def with_cotangent(case: Case, options: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Add the cotangent to the options."""
    if case.cotangent is None:
        return options
    return options | {"cotangent": rounded(case.cotangent, dtype).ravel().tolist()}


def rows(loss: Callable[..., Result], case: Case, dtype: str) -> Enclosed:
    """Enclose a loss of rows."""
    options = dict(case.options)
    axis = options.pop("axis", -1)
    logits = rounded(case.logits, dtype)
    for name in FLOAT_OPTIONS:  # an array of one number is the number
        if isinstance(options.get(name), np.ndarray) and np.ndim(options[name]) == 0:
            options[name] = float(rounded(options[name], COMPUTE[dtype]))
    if "class_where" in options:  # None: a class that takes no part
        part = np.broadcast_to(options.pop("class_where"), logits.shape)
        logits = np.where(part, logits.astype(object), None)
    logits = np.moveaxis(logits, axis, -1)
    flat: list[Any] = []
    if case.targets is not None:
        targets = rounded(case.targets, case.targets_dtype or dtype)
        soft = targets.dtype.kind in "fO"
        moved = np.moveaxis(targets, axis, -1) if soft else targets
        flat = [moved.reshape((-1, logits.shape[-1]) if soft else -1).tolist()]
    for name in ("weight", "alpha", "sample_weight", "where"):
        if isinstance(options.get(name), list | np.ndarray):
            options[name] = rounded(options[name], COMPUTE[dtype]).ravel().tolist()
    options = with_cotangent(case, options, COMPUTE[dtype])
    shape = logits.shape
    compute = partial(loss, logits.reshape(-1, shape[-1]).tolist(), *flat, **options,
                      dtype=COMPUTE[dtype])  # fmt: skip
    scored = (*shape[:-2], shape[-2] - 1) if loss is NEXT_TOKEN else shape[:-1]
    restore = partial(_moved_back, shape, axis)
    return Enclosed(compute, shaped(scored, case), restore, COMPUTE[dtype])


def _moved_back(shape: tuple[int, ...], axis: int, flat: Any) -> Any:
    return np.moveaxis(np.reshape(flat, shape), -1, axis)


def elements(loss: Callable[..., Result], case: Case, dtype: str) -> Enclosed:
    """Enclose a loss of elements."""
    options, logits = dict(case.options), rounded(case.logits, dtype)
    for name in ("weight", "pos_weight", "alpha", "sample_weight", "where"):
        if name in options and not (name == "alpha" and isinstance(options[name], float)):
            array = rounded(options[name], COMPUTE[dtype])
            options[name] = np.broadcast_to(array, logits.shape).ravel().tolist()
    targets = rounded(case.targets, dtype).ravel().tolist()
    options = with_cotangent(case, options, COMPUTE[dtype])
    compute = partial(loss, logits.ravel().tolist(), targets, **options, dtype=COMPUTE[dtype])
    gradient = partial(np.reshape, shape=logits.shape)
    return Enclosed(compute, shaped(logits.shape, case), gradient, COMPUTE[dtype])


def mapped(name: str, case: Case, dtype: str) -> Enclosed:
    """Enclose a map; a gradient is a cotangent, of the value's shape, pulled back."""
    x, cotangent = rounded(case.logits, dtype), rounded(case.cotangent, dtype)
    if name in _map_values.ELEMENTS:
        restore = partial(np.reshape, shape=x.shape)
        flat = [array.reshape(-1, 1).tolist() for array in (x, cotangent)]
        value = restore
    else:
        axis = case.options.get("axis", -1)
        x = np.moveaxis(x, axis, -1)
        restore = value = partial(_moved_back, x.shape, axis)
        classes = 1 if name == "logsumexp" else x.shape[-1]
        if name == "logsumexp":
            value = partial(np.reshape, shape=x.shape[:-1])
        else:
            cotangent = np.moveaxis(cotangent, axis, -1)
        flat = [x.reshape(-1, x.shape[-1]).tolist(), cotangent.reshape(-1, classes).tolist()]
    compute = partial(_map_values.over_rows, name, *flat, dtype=COMPUTE[dtype])
    return Enclosed(compute, value, restore, dtype)


NEXT_TOKEN = _other_losses.next_token_cross_entropy
ENCLOSE: dict[str, Callable[[Case, str], Enclosed]] = {
    "cross_entropy": partial(rows, reference.cross_entropy),
    "binary_cross_entropy_with_logits": partial(
        elements, reference.binary_cross_entropy_with_logits
    ),
    "next_token_cross_entropy": partial(rows, NEXT_TOKEN),
    "nll_loss": partial(rows, _other_losses.nll_loss),
    "softmax_focal_loss": partial(rows, _other_losses.softmax_focal_loss),
    "kl_divergence": partial(rows, _divergences.kl_divergence),
    "jensen_shannon_divergence": partial(rows, _divergences.jensen_shannon_divergence),
    "poly_cross_entropy": partial(rows, _other_losses.poly_cross_entropy),
    "entropy": partial(rows, _divergences.entropy),
    "binary_cross_entropy": partial(elements, _other_losses.binary_cross_entropy),
    "sigmoid_focal_loss": partial(elements, _other_losses.sigmoid_focal_loss),
    **{name: partial(mapped, name) for name in _map_values.MAPS},
}
