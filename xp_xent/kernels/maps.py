"""Maps of rows x (..., K) whose entries may be left out: softmax, its logarithm, log Σ b exp(x).

Left-out entries are −∞ whatever they hold. Without any, at a temperature of 1 and without weights,
the rows are seen as they are.
"""

from typing import Any

from xp_xent.backends._numbers import is_one
from xp_xent.kernels.log_sum import signed_log_sum
from xp_xent.kernels.logit_map import mapped_logits
from xp_xent.kernels.row_stats import row_stats
from xp_xent.kernels.rows import Rows

Array = Any


def softmax_rows(
    backend: Any, x: Array, part: Array | None, _: None, temperature: Any
) -> tuple[Array, ...]:
    """Compute exp(x/T) / Σ exp(x/T); 0 where an entry takes no part."""
    if backend._class_count(x.shape[backend.class_axis]) == 0:
        return (-x,)
    z = _logits(backend, x, part, temperature)
    p = row_stats(backend, z, None, z.dtype).probabilities
    return (p if part is None else backend.xp.where(part, p, 0.0),)


def log_softmax_rows(
    backend: Any, x: Array, part: Array | None, _: None, temperature: Any
) -> tuple[Array, ...]:
    """Compute the logarithm of that; −∞ where an entry takes no part."""
    if backend._class_count(x.shape[backend.class_axis]) == 0:
        return (-x,)
    z = _logits(backend, x, part, temperature)
    log_p = -row_stats(backend, z, None, z.dtype).surprisals
    return (log_p if part is None else backend.xp.where(part, log_p, -backend.xp.inf),)


def log_sum_rows(
    backend: Any, x: Array, part: Array | None, b: Array | None, _: Any
) -> tuple[Array, ...]:
    """Compute log Σ b exp(x), NaN where the sum is negative; so are the derivatives then."""
    if b is None or backend._class_count(x.shape[backend.class_axis]) == 0:
        return (_log_sum(backend, x, part),)
    value, sign = signed_log_sum(backend, x, b, part)
    return (value * backend.xp.where(sign < 0, backend.xp.nan, backend.xp.ones_like(sign)),)


def log_sum_and_sign_rows(
    backend: Any, x: Array, part: Array | None, b: Array | None, _: Any
) -> tuple[Array, Array]:
    """Compute log |Σ b exp(x)| and the sign of Σ b exp(x)."""
    if b is not None and backend._class_count(x.shape[backend.class_axis]) != 0:
        return signed_log_sum(backend, x, b, part)
    xp, value = backend.xp, _log_sum(backend, x, part)
    known = backend.stop_gradient(value)
    sign = xp.where(xp.isnan(known), known, xp.ones_like(known))
    return value, xp.where(known == -xp.inf, 0.0, sign)


def _log_sum(backend: Any, x: Array, part: Array | None) -> Array:
    xp = backend.xp
    if backend._class_count(x.shape[backend.class_axis]) == 0:
        return xp.sum(x, axis=backend.class_axis, keepdims=True) - xp.inf
    z = _logits(backend, x, part, 1.0)
    largest = backend.stop_gradient(backend._row_max(z))
    endless = xp.isinf(largest)  # the result is the largest entry itself
    row = row_stats(backend, xp.where(endless, 0.0, z), None, z.dtype)
    return xp.where(endless, largest, row.lse)


def _logits(backend: Any, x: Array, part: Array | None, temperature: Any) -> Array:
    if part is None and is_one(temperature):
        return x
    rows = Rows(x, class_valid=part)
    return mapped_logits(backend, rows, x.dtype, temperature=temperature).u
