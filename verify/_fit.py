"""Fit the free options of a pipeline to the numbers that somebody claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xp_xent.verify._changes import Free

Floats = NDArray[np.float64]
# From options to distances from the claims, and to the distances that are allowed.
Residuals = Callable[[Floats], tuple[Floats, Floats]]


def fit(residuals: Residuals, frees: Sequence[Free]) -> Floats | None:
    """Find the options whose residuals are as allowed, by Gauss and Newton's method.

    Parameters
    ----------
    residuals : callable
        From the options' values to signed distances, and to what is allowed.
    frees : sequence of Free

    Returns
    -------
    ndarray or None
        The values; None where no start led to any.
    """
    logs = np.asarray([free.logarithmic for free in frees])

    def at(t: Floats) -> tuple[Floats, Floats]:
        with np.errstate(all="ignore"):
            return residuals(np.where(logs, np.exp(np.where(logs, t, 0.0)), t))

    for start in product(*(free.starts for free in frees)):
        t = _descend(at, np.where(logs, np.log(np.abs(start)), start), logs)
        if t is not None:
            return np.where(logs, np.exp(np.where(logs, t, 0.0)), t)
    return None


def within(residuals: tuple[Floats, Floats]) -> bool:
    """Tell if all distances are allowed."""
    off, allowed = residuals
    return bool(np.all(np.abs(off) <= allowed))


def _descend(at: Residuals, t: Floats, logs: NDArray[np.bool_]) -> Floats | None:
    """Go down from one start, while that leads somewhere."""
    first, allowed = at(t)
    # Weights that stay: what is allowed changes with the options.
    weights = 1.0 / np.where(allowed > 0, allowed, np.inf)
    now = first * weights
    for _ in range(40):
        if not np.all(np.isfinite(now)):
            return None
        width = np.where(logs, 1e-5, 1e-5 * np.maximum(np.abs(t), 1e-2))
        moved = [at(t + w * e)[0] * weights for w, e in zip(width, np.eye(len(t)), strict=True)]
        jacobian = np.stack([(r - now) / w for r, w in zip(moved, width, strict=True)], axis=1)
        if not np.all(np.isfinite(jacobian)):
            return None
        step = np.linalg.pinv(jacobian) @ -now
        step = np.where(logs, np.clip(step, -1.0, 1.0), step)
        after = at(t + step)[0] * weights
        before, then = float(now @ now), float(after @ after)
        if not then < before:
            break
        t, now = t + step, after
        # The least misfit is one that is not small, or the last digit is reached.
        if (then > 0.8 * before and np.max(np.abs(now)) > 2.0) or then > 0.999 * before:
            break
    return t if within(at(t)) else None


def digits(value: float) -> list[float]:
    """Give a number with ever more significant digits."""
    return [float(f"{value:.{n}g}") for n in range(1, 7)]
