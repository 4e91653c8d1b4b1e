"""What a softmax is of: logits with classes left out, a soft cap and a temperature.

In this order, with m the largest of a row's capped logits:

    u_j = −∞ where class j takes no part        u_j = (c·tanh(z_j/c) − m) / T elsewhere

The softmax is the same without m. With it, u_j has the relative accuracy of the difference from the
largest logit, which is what probabilities are made of, and not that of the logit.
"""

from functools import partial
from typing import Any, NamedTuple

from xp_xent.backends._numbers import is_one
from xp_xent.kernels.elementary import differentiable_tanh_and_slope, tanh_and_slope
from xp_xent.kernels.rows import Rows, valid_rows

Array = Any


class MappedLogits(NamedTuple):
    """The logits u of a softmax, and how they depend on the logits z that are given."""

    u: Array  # (..., K)
    level: Array = None  # m/T, (..., 1); None where nothing is subtracted
    cap: Array = None  # tanh(z/c)/c of the soft cap, (..., K); None without
    slope: Array = None  # derivative of the capped logits by z, (..., K); None without


def mapped_logits(
    backend: Any, rows: Rows, dtype: Any, softcap: Any = None, temperature: Any = 1.0
) -> MappedLogits:
    """Map the logits of rows; rows that do not count are blanked first."""
    xp, z, part = backend.xp, valid_rows(backend, rows, dtype), rows.class_valid
    level = cap = slope = None
    if part is not None:
        # Not what they hold, NaN perhaps: it would reach derivatives.
        z = xp.where(part, z, 0.0)
        if rows.valid is not None:  # a row that does not count needs a class
            part = part | ~rows.valid
    if softcap is not None:
        tanh, slope = _tanh_and_slope(backend, z, softcap)
        z, cap = softcap * tanh, tanh / softcap
    if not is_one(temperature):
        # An infinity over the temperature would have no derivative by it.
        finite = z != -xp.inf
        part = finite if part is None else part & finite
        largest = backend._row_max(xp.where(part, z, -xp.inf))
        level = backend.stop_gradient(largest)
        z = xp.where(part, z - level, 0.0) / temperature
        level = level / temperature
    if part is not None:
        z = xp.where(part, z, -xp.inf)
    return MappedLogits(z, level, cap, slope)


def over_temperature(x: Any, temperature: Any) -> Any:
    """Divide by the temperature, where it is not 1."""
    return x if is_one(temperature) else x / temperature


def _tanh_and_slope(backend: Any, z: Array, softcap: Any) -> tuple[Array, Array]:
    """Compute tanh(z/c) and sech²(z/c), with a derivative by c where z is infinite, too."""
    xp = backend.xp
    forms = (partial(f, xp) for f in (tanh_and_slope, differentiable_tanh_and_slope))
    if isinstance(softcap, (int, float)):
        return backend.custom_derivative(*forms, z / softcap)
    endless = xp.isinf(z)
    tanh, slope = backend.custom_derivative(*forms, xp.where(endless, 0.0, z) / softcap)
    limit = xp.where(z > 0, xp.ones_like(z), -1.0)
    return xp.where(endless, limit, tanh), xp.where(endless, 0.0, slope)
