"""JAX outside `jit`: each loss through a function that is compiled once a signature, and kept.

Operation by operation, a loss takes some thirty dispatches, each of which JAX compiles for each
shape: by one program the first call is shorter, too. As that sees no values, the same call is
prepared on NumPy before, which shares the memory of JAX's arrays on the CPU, and refuses them.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xp_xent.backends._base import Array
from xp_xent.backends._numbers import dtype_kind

# Signatures that are kept, the oldest of which makes room.
MOST = 512

_PLAIN = frozenset((int, float, bool, str, type(None)))
Evaluate = Callable[..., Any]  # (loss, ask, arrays, options, *more)


class Compiled(NamedTuple):
    """What is kept of a signature: no array of a call."""

    refuse: Callable[..., None]
    call: Callable[..., Any]
    label_places: tuple[int, ...]  # of operands that are labels, and were looked at


class Plans:
    """Compiled functions by the signatures of calls."""

    def __init__(self, evaluate: Evaluate, can_read_values: Callable[[Array], bool]) -> None:
        self._evaluate, self._can_read_values = evaluate, can_read_values
        self._kept: dict[Any, Compiled] = {}
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
        key, operands = _signature(loss, ask, arrays, options, more)
        if key is None:
            return self._evaluate(loss, ask, arrays, options, *more)
        found = self._kept.get(key)
        if found is None:
            plan = loss.validate(arrays, options)
            refuse = _refusing(loss, arrays, options, self._can_read_values)
            labels: tuple[int, ...] = ()
            if plan.has_labels:
                labels = _label_places(loss, arrays, options, self._can_read_values)
            call = _compiled(self._evaluate, loss, ask, arrays, options, more, tuple(operands))
            found = Compiled(refuse, call, labels)
        found.refuse(arrays, options)
        for place in found.label_places:
            operands[place] = operands[place].astype(int)
        result = found.call(*operands.values())
        if key not in self._kept:
            self._keep(key, found)
        return result

    def _keep(self, key: Any, found: Compiled) -> None:
        with self._lock:
            if len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept.setdefault(key, found)


def _signature(
    loss: Any,
    ask: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    more: tuple[Any, ...],
) -> tuple[Any, dict[int, Any]]:
    """Return the key of a call, None for what has none, and what its program is called with.

    That is arrays, and numbers of the formula, so that another number is not compiled again.
    """
    key = [loss, ask, jax.config.jax_enable_x64, jax.config.jax_default_device]
    operands: dict[int, Any] = {}
    for x in arrays:
        if not isinstance(x, jax.Array):  # `validate` refuses it
            return None, operands
    for place, (name, x) in enumerate((*enumerate(arrays), *options.items(), *enumerate(more))):
        kind, is_option = type(x), name in options
        if is_option and x is loss.defaults[name]:
            continue
        if isinstance(x, jax.Array):
            about = _about(x)
            if about is None:
                return None, operands
            key += (name, *about)
            operands[place] = x
        elif isinstance(x, np.generic):
            if name not in loss.numbers:
                return None, operands
            key += (name, float, bool(x == 0))
            operands[place] = x.item()
        elif kind in (int, float) and not (is_option and name not in loss.numbers):
            # What is 0 leaves a term of the formula out.
            key += (name, kind, bool(x == 0))
            if x != 0:
                operands[place] = x
        elif kind in _PLAIN:
            key += (name, kind, x)
        else:
            return None, operands
    return tuple(key), operands


def _about(x: Array) -> tuple[Any, ...] | None:
    """Return what a program depends on; None of what is traced by more than one derivative."""
    if not isinstance(x, jax.core.Tracer):
        return x.aval, x.sharding, x.committed
    # JAX compiles the first derivative of what is compiled. Of further ones, and of what is mapped,
    # it would make a program for each nesting.
    nested = isinstance(getattr(x, "primal", x), jax.core.Tracer)
    return None if nested else (type(x), x.aval)


def _label_places(
    loss: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    can_read_values: Callable[[Array], bool],
) -> tuple[int, ...]:
    """Return the places of labels to make JAX's usual integers: all give the same program and bits.

    A label that counts is a class and fits; so has the one that is ignored to.
    """
    usual = jnp.asarray(0).dtype
    ignored = options.get("ignore_index")
    if isinstance(ignored, int) and not jnp.iinfo(usual).min <= ignored <= jnp.iinfo(usual).max:
        return ()
    return tuple(
        place
        for place, (name, x) in enumerate(zip(loss.arguments, arrays, strict=True))
        if name == loss.labels
        and dtype_kind(x.dtype) == "integer"
        and x.dtype != usual
        and can_read_values(x)
    )


def _refusing(
    loss: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    can_read_values: Callable[[Array], bool],
) -> Callable[..., None]:
    """Return a function that refuses the values of calls of this signature, if it can read them."""
    masks = [name for name in ("where", "class_where") if options.get(name) is not None]
    if not all(can_read_values(options[name]) for name in masks):
        masks = []
    places = [
        place
        for place, (name, x) in enumerate(zip(loss.arguments, arrays, strict=True))
        if (dtype_kind(x.dtype) in ("integer", "bool") or name in loss.bounded)
        and can_read_values(x)
        and (masks or options.get("where") is None)
    ]
    numbers = [
        name
        for name in loss.numbers & options.keys()
        if not isinstance(x := options[name], jax.Array) or can_read_values(x)
    ]
    # What is not looked at has its shape alone.
    blank = [_blank(x) for x in arrays]
    settings = {
        name: loss.defaults[name] if isinstance(x, jax.Array) else x for name, x in options.items()
    }

    def given(arrays: tuple[Array, ...], options: dict[str, Any]) -> tuple[Any, Any]:
        host = list(blank)
        for place in places:
            host[place] = np.asarray(arrays[place])
        read = {name: np.asarray(options[name]) for name in masks}
        for name in numbers:
            x = options[name]
            read[name] = np.asarray(x) if isinstance(x, jax.Array) else x
        return tuple(host), settings | read

    plan = loss.validate(*given(arrays, options))

    def refuse(arrays: tuple[Array, ...], options: dict[str, Any]) -> None:
        with np.errstate(all="ignore"):  # as wherever NumPy prepares a call
            loss.prepare(plan, *given(arrays, options))

    return refuse


def _blank(x: Array) -> np.ndarray:
    """Return an array of one number in the shape of x, and in a dtype that is not to be widened."""
    dtype = x.dtype
    if dtype_kind(dtype) == "floating" and dtype.itemsize < 4:
        dtype = np.float32
    return np.broadcast_to(np.zeros((), dtype), x.shape)


def _compiled(
    evaluate: Evaluate,
    loss: Any,
    ask: Any,
    arrays: tuple[Array, ...],
    options: dict[str, Any],
    more: tuple[Any, ...],
    places: tuple[int, ...],
) -> Callable[..., Any]:
    """Make a compiled function of what stands in these places of all that a call was given."""
    given, count, names = (*arrays, *options.values(), *more), len(arrays), tuple(options)
    others = [None if place in places else x for place, x in enumerate(given)]
    end = count + len(names)

    def call(*traced: Array) -> Any:
        values = list(others)
        for place, x in zip(places, traced, strict=True):
            values[place] = x
        named = dict(zip(names, values[count:end], strict=True))
        return evaluate(loss, ask, tuple(values[:count]), named, *values[end:])

    call.__name__ = call.__qualname__ = loss.function.__name__  # what profiles and logs show
    return jax.jit(call)
