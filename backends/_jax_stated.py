"""JAX: the derivative of a whole loss stated, as its closed form, where the formula's takes longer.

Differentiated by JAX, a loss in steps would take each step twice, for what it needs again must not
be kept. The closed form takes value and gradients in one walk.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xp_xent.backends import _split
from xp_xent.backends._base import Array
from xp_xent.backends._numbers import HALF, dtype_name

Named = dict[str, Array]


def widened(array: Array) -> Array:
    """Convert half precision: a cotangent may be what keeps its gradient from underflowing."""
    return array.astype(jnp.float32) if dtype_name(array.dtype) in HALF else array


def moving(tangents: tuple[Named]) -> Named:
    """Return the tangents that are not known to be zero."""
    zero = jax.custom_derivatives.SymbolicZero
    return {name: x for name, x in tangents[0].items() if not isinstance(x, zero)}


def differentiated(
    function: Callable[..., Any], primals: tuple[Named], tangents: tuple[Named]
) -> Any:
    """Differentiate as JAX does."""
    (arrays,), changing = primals, moving(tangents)
    moved = {name: arrays[name] for name in changing}
    return jax.jvp(lambda moved: function(arrays | moved), (moved,), (changing,))


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a function's loops from what JAX does to those that it differentiates around.

    It would move everything that is the same in each step, broadcast constants too, out to memory.
    """
    call = jax.custom_jvp(function)
    call.defjvp(
        lambda primals, tangents: differentiated(function, primals, tangents),
        symbolic_zeros=True,
    )
    return call


def value(loss: Any, arrays: tuple[Array, ...], options: dict[str, Any], backend: Any) -> Any:
    """Compute a reduced loss."""
    names, settings = loss.arguments, tuple(options)
    given = dict(zip(names, arrays, strict=True)) | options
    traced = {name: x for name, x in given.items() if isinstance(x, jax.Array)}
    others = {name: x for name, x in given.items() if name not in traced}  # may be closed over

    split = _split.current.get()  # JAX differentiates later, perhaps outside of the context

    def evaluation(traced: Named) -> Any:
        now = others | traced
        with _split.within(split):
            return loss.evaluation(
                tuple([now[name] for name in names]), {name: now[name] for name in settings}
            )

    def formula(traced: Named) -> Any:
        return evaluation(traced).value()

    def jvp(primals: tuple[Named], tangents: tuple[Named]) -> tuple[Any, Any]:
        changing = moving(tangents)
        if not set(changing) <= loss.variables:
            return differentiated(formula, primals, tangents)
        wide = {name: widened(x) for name, x in primals[0].items()}
        wrt = tuple(changing)  # nothing traced may be closed over

        def closed(traced: Named) -> Any:
            # What this part of rows and classes gives: a number is added up over the parts.
            return evaluation(traced)._replace(in_part=True).value_and_grads(wrt)

        both = whole(closed)
        result, gradients = both(wide)
        # Linear in the tangents: JAX transposes it, and differentiates the gradients in turn.
        reduced, *stats = jax.tree.leaves(result)
        change = jnp.zeros_like(reduced)
        for gradient, x in zip(gradients, changing.values(), strict=True):
            change = change + jnp.sum(gradient * x.astype(gradient.dtype))
        (change,) = backend._over_rows(*backend._over_classes(change))
        still = map(jax.custom_derivatives.zero_from_primal, stats)
        return result, jax.tree.unflatten(jax.tree.structure(result), [change, *still])

    call = jax.custom_jvp(formula)
    call.defjvp(jvp, symbolic_zeros=True)
    return call(traced)
