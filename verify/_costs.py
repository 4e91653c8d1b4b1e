"""What each class would cost each row, −log p by some form, and what the losses need of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify._case import Case, Index, take
from xp_xent.verify._pipeline import Key
from xp_xent.verify._steps import Back, apply

Floats = NDArray[np.float64]


class Costs(NamedTuple):
    """Rows of a pipeline's costs, with the way back from them to the logits.

    A row's loss is Σ_c a_c cost_c + Σ_c w_c base_c + λ lse², with masses a and class weights w.
    """

    cost: Floats  # (n, K)
    base: Floats | None  # (n, K), of binary cross-entropies
    lse: Floats  # (n,)
    pull: Callable[[Floats, Floats, Floats], Floats]  # masses, class weights, slope by lse
    reach: float  # the largest logit, where a loss may lose digits to it
    part: NDArray[np.bool_] | None = None  # (n, K), the classes that take part; None: all


def _lse(z: Floats, axis: int = -1) -> Floats:
    top = np.max(z, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(np.log(np.sum(np.exp(z - top), axis=axis, keepdims=True)) + top)


def clipped(cost: Floats, clip: tuple[str, float]) -> tuple[Floats, Floats | None]:
    """Clip probabilities; give the costs, and by how much their slopes shrink."""
    how, eps = clip
    if how == "none":
        return cost, None
    if how == "added":
        p = np.exp(-cost)
        return -np.log(p + eps), p / (p + eps)
    highest, lowest = -np.log(eps), -np.log1p(-eps) if how == "both" else 0.0
    return np.clip(cost, lowest, highest), ((cost <= highest) & (cost >= lowest)).astype(float)


def _softmax(
    z: Floats, clip: tuple[str, float], back: Back, axis: int, shape: tuple[int, ...]
) -> Costs:
    """Cost by softmax, over the classes or, with all rows at hand, over another axis."""
    whole = z if axis == -1 else z.reshape(shape)
    lse = _lse(whole, axis)
    log_p = np.where(whole == -np.inf, -np.inf, whole - lse)
    cost, slope = clipped(np.maximum(-log_p, 0.0), clip)
    of_rows = _lse(z)[:, 0] if axis != -1 else lse[:, 0]

    def pull(a: Floats, _: Floats, by_lse: Floats) -> Floats:
        a = a.reshape(whole.shape) if slope is None else a.reshape(whole.shape) * slope
        p = np.exp(log_p)
        inner = p * np.sum(a, axis=axis, keepdims=True) - a
        inner = inner.reshape(z.shape)
        if np.any(by_lse):
            inner = inner + by_lse[:, None] * np.exp(z - of_rows[:, None])
        return back(inner)

    return Costs(cost.reshape(z.shape), None, of_rows, pull, _reach(z))


def _plain(z: Floats, back: Back) -> Costs:
    """Cost by logits that are log-probabilities already."""
    return Costs(-z, None, np.zeros(len(z)), lambda a, _, __: back(-a), 0.0)


def _sigmoid(z: Floats, clip: tuple[str, float], back: Back, share: float) -> Costs:
    """Cost by binary cross-entropies: −z at the target, and softplus(z) of every class."""
    softplus = np.logaddexp(0.0, z)

    def pull(a: Floats, w: Floats, by_lse: Floats) -> Floats:
        inner = share * (w * np.exp(z - softplus) - a)
        if np.any(by_lse):
            inner = inner + by_lse[:, None] * np.exp(z - _lse(z))
        return back(inner)

    return Costs(-share * z, share * softplus, _lse(z)[:, 0], pull, _reach(z))


def _reach(z: Floats) -> float:
    return float(np.max(np.abs(z), initial=0.0, where=np.isfinite(z)))


def costs(case: Case, key: Key, index: Index) -> Costs:
    """Compute the costs of some rows; all of them where a softmax runs over another axis."""
    how, axis = key.layout
    with np.errstate(all="ignore"):
        if how in ("axis", "reshape"):
            other, shape = relaid(case, key.layout, case.logits)
            rows, part = take(other, shape[:-1], index).astype(np.float64), None
            if case.class_where is not None:
                part = take(relaid(case, key.layout, case.class_where)[0], shape[:-1], index)
        else:
            rows, part = case.rows(index), case.part(index)
        z, back = apply(rows, key.steps)
        z = z if part is None else np.where(part, z, -np.inf)
        if key.form == "none":
            found = _plain(z, back)
        elif key.form in ("sum", "mean"):
            found = _sigmoid(z, key.clip, back, 1.0 if key.form == "sum" else 1.0 / z.shape[-1])
        else:
            shape = (*case.positions, case.classes)
            found = _softmax(z, key.clip, back, axis if how == "softmax" else -1, shape)
        return found._replace(part=part)


def relaid(case: Case, layout: tuple[str, int], array: Any) -> tuple[Any, tuple[int, ...]]:
    """View logits, or a gradient or mask of theirs, as the rows of another layout."""
    given = np.moveaxis(array, -1, case.axis)
    how, axis = layout
    if how == "axis":
        other = np.moveaxis(given, axis, -1)
        return other, other.shape
    return given.reshape(-1, case.classes), (case.count, case.classes)
