"""`vmap`, `jacfwd` and `jacrev` of MLX, which has but products with Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def vmap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map over the first axis."""
    import mlx.core as mx

    return mx.vmap(function)


def jacrev(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give the Jacobian, (outputs…, inputs…), by one product a number of the output."""
    import mlx.core as mx

    def jacobian(x: Any) -> Any:
        value = function(x)
        basis = mx.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
        rows = mx.vmap(lambda v: mx.vjp(function, [x], [v])[1][0])(basis)
        return rows.reshape(*value.shape, *x.shape)

    return jacobian


def jacfwd(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give the Jacobian of a function of a row (K,), by one product a number of the row."""
    import mlx.core as mx

    def jacobian(x: Any) -> Any:
        basis = mx.eye(x.size, dtype=x.dtype)
        return mx.moveaxis(mx.vmap(lambda v: mx.jvp(function, [x], [v])[1][0])(basis), 0, -1)

    return jacobian
