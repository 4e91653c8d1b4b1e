"""JAX outside `jit`: each loss through a function that is compiled once a signature, and kept.

Operation by operation, a small loss would take some thirty dispatches, a large one as many walks
through memory. Values are looked at before: what is compiled sees none.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from xp_xent.backends._base import Array

# Signatures that are kept, the oldest of which makes room.
MOST = 512
# Values of the options that are numbers, of which a kernel is compiled for each: who changes them
# in every call is not to wait for a compiler in every call.
MOST_NUMBERS = 8

_NUMBERS = frozenset((int, float))
_PLAIN = frozenset((int, float, bool, str, type(None)))
Evaluate = Callable[..., Any]  # (loss, ask, arrays, options, *more)


class Plans:
    """Compiled functions by the signatures of calls; no array is kept."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._kept: dict[Any, dict[Any, tuple[Any, Callable[..., Any]]]] = {}
        self._lock = threading.Lock()

    def run(
        self,
        loss: Any,
        ask: Any,
        arrays: tuple[Array, ...],
        options: dict[str, Any],
        more: tuple[Any, ...],
    ) -> Any:
        """Refuse a call, or answer it by what is compiled; leave what has no signature to JAX."""
        key, numbers = _signature(loss, ask, arrays, options, more)
        if key is None:
            return self._evaluate(loss, ask, arrays, options, *more)
        kept = self._kept.get(key, {})
        found = kept.get(numbers)
        if found is None and len(kept) >= MOST_NUMBERS:
            return self._evaluate(loss, ask, arrays, options, *more)
        if found is None:
            plan = loss.validate(arrays, options)
            call = _compiled(self._evaluate, loss, ask, arrays, options, more)
        else:
            plan, call = found
        loss.refuse_values(plan, arrays, options)
        values = (*arrays, *options.values(), *more)
        result = call(*[x for x in values if isinstance(x, jax.Array)])
        if found is None:
            self._keep(key, numbers, (plan, call))
        return result

    def _keep(self, key: Any, numbers: Any, found: tuple[Any, Callable[..., Any]]) -> None:
        with self._lock:
            if key not in self._kept and len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept.setdefault(key, {}).setdefault(numbers, found)


def _signature(
    loss: Any,
    ask: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    more: tuple[Any, ...],
) -> tuple[Any, Any]:
    """Return the key of a call, and its options that are numbers; None for what has none."""
    key: list[Any] = [loss, ask, jax.config.jax_enable_x64]
    numbers: list[Any] = []
    try:
        for x in arrays:
            key += _about(x)
        for name, x in options.items():
            if x is loss.defaults[name]:
                continue
            kind = type(x)
            if kind in _NUMBERS and name in loss.numbers:
                numbers += (name, kind, x)
            elif kind in _PLAIN:
                key += (name, kind, x)
            elif isinstance(x, np.generic):
                numbers += (name, x.dtype, x.item())
            else:
                key.append(name)
                key += _about(x)
        for x in more:
            if type(x) in _PLAIN:
                numbers += (type(x), x)
            else:
                key += _about(x)
    except AttributeError:  # `validate` refuses what is no array
        return None, None
    return tuple(key), tuple(numbers)


def _about(x: Array) -> tuple[Any, ...]:
    """Return what plan and program depend on."""
    if isinstance(x, jax.core.Tracer):
        return type(x), x.aval
    return x.aval, x.sharding, x.committed


def _compiled(
    evaluate: Evaluate,
    loss: Any,
    ask: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    more: tuple[Any, ...],
) -> Callable[..., Any]:
    """Make a compiled function of the arrays among all that a call was given."""
    given, count, names = (*arrays, *options.values(), *more), len(arrays), tuple(options)
    places = [place for place, x in enumerate(given) if isinstance(x, jax.Array)]
    others = [None if isinstance(x, jax.Array) else x for x in given]
    end = count + len(names)

    def call(*traced: Array) -> Any:
        values = list(others)
        for place, x in zip(places, traced, strict=True):
            values[place] = x
        named = dict(zip(names, values[count:end], strict=True))
        return evaluate(loss, ask, tuple(values[:count]), named, *values[end:])

    call.__name__ = call.__qualname__ = loss.function.__name__  # what profiles and logs show
    return jax.jit(call)
