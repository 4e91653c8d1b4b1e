"""Maps of rows x (..., K) whose entries may be left out: softmax, its logarithm, log Σ b exp(x).

Left-out entries are −∞ whatever they hold. Without any, at a temperature of 1 and without weights,
the rows are seen as they are.
"""

from typing import Any

from xp_xent.kernels.log_sum import signed_log_sum
from xp_xent.kernels.logit_map import is_mapped, mapped_logits
from xp_xent.kernels.row_stats import row_stats
from xp_xent.kernels.rows import Rows

Array = Any


def softmax_rows(
    backend: Any, x: Array, part: Array | None, _: None, temperature: Any
) -> tuple[Array, ...]:
    """Compute exp(x/T) / Σ exp(x/T); 0 where an entry takes no part."""
    if x.shape[backend.class_axis] == 0:
        return (-x,)
    z = _logits(backend, x, part, temperature)
    p = row_stats(backend, z, None, z.dtype).probabilities
    return (p if part is None else backend.xp.where(part, p, 0.0),)


def log_softmax_rows(
    backend: Any, x: Array, part: Array | None, _: None, temperature: Any
) -> tuple[Array, ...]:
    """Compute the logarithm of that; −∞ where an entry takes no part."""
    if x.shape[backend.class_axis] == 0:
        return (-x,)
    z = _logits(backend, x, part, temperature)
    log_p = -row_stats(backend, z, None, z.dtype).surprisals
    return (log_p if part is None else backend.xp.where(part, log_p, -backend.xp.inf),)


def log_sum_rows(
    backend: Any, x: Array, part: Array | None, b: Array | None, _: Any
) -> tuple[Array, Array]:
    """Compute log |Σ b exp(x)| and the sign of Σ b exp(x)."""
    xp, axis = backend.xp, backend.class_axis
    if x.shape[axis] == 0:
        nothing = xp.sum(x, axis=axis, keepdims=True)
        return nothing - xp.inf, nothing
    if b is not None:
        return signed_log_sum(backend, x, b, part)
    z = _logits(backend, x, part, 1.0)
    largest = backend.stop_gradient(xp.max(z, axis=axis, keepdims=True))
    endless = xp.isinf(largest)  # the result is the largest entry itself
    row = row_stats(backend, xp.where(endless, 0.0, z), None, z.dtype)
    value = xp.where(endless, largest, row.lse)
    one = xp.ones_like(largest)
    sign = xp.where(largest == -xp.inf, 0.0, xp.where(xp.isnan(largest), largest, one))
    return value, sign


def without_sign(
    backend: Any, x: Array, part: Array | None, b: Array | None, _: Any
) -> tuple[Array, ...]:
    """Compute log Σ b exp(x), NaN where the sum is negative; so are the derivatives then."""
    value, sign = log_sum_rows(backend, x, part, b, _)
    if b is not None:
        value = value * backend.xp.where(sign < 0, backend.xp.nan, backend.xp.ones_like(sign))
    return (value,)


def _logits(backend: Any, x: Array, part: Array | None, temperature: Any) -> Array:
    rows = Rows(x, class_valid=part)
    if not is_mapped(rows, None, temperature):
        return x
    return mapped_logits(backend, rows, x.dtype, None, temperature).u
