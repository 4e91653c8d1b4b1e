"""What `value_and_grad` and its relatives return: callables that compare, print and pickle."""

from collections.abc import Callable
from functools import partial
from inspect import Parameter, Signature, signature
from numbers import Real
from typing import Any

from xp_xent.backends import dtype_name
from xp_xent.flow import checks as check
from xp_xent.flow.execute import compute
from xp_xent.flow.plan import Ask, loss_of
from xp_xent.flow.validate import common_backend

Array = Any


class Derivative:
    """A function that asks the evaluation of a loss for something.

    Two are equal where the same function made them of equal losses and settings. Arrays that a
    `functools.partial` holds are compared by identity, so that they are hashable, too.

    Parameters
    ----------
    maker : callable
        The public function that makes it of `loss` and `settings`.
    loss : callable
        What that function was given.
    ask : Ask
        What evaluations are asked for.
    **settings
        The other arguments of `maker`.
    """

    def __init__(
        self, maker: Callable[..., Any], loss: Callable[..., Any], ask: Ask, **settings: Any
    ) -> None:
        self._maker, self._loss, self._ask, self._settings = maker, loss, ask, settings
        self._found, self._first, self._options = loss_of(loss)
        self.__name__ = maker.__name__

    def __call__(self, *arrays: Array, **options: Any) -> Any:
        """Call it with the loss's arrays and options."""
        found, arrays = self._found, (*self._first, *arrays)
        return compute(
            found, self._ask, arrays, found.with_defaults(arrays, self._options | options)
        )

    @property
    def __signature__(self) -> Signature:
        """The loss's, less the arrays that a partial holds, with its settings as defaults."""
        arrays, options = [], []
        for name, one in signature(self._found.function).parameters.items():
            if one.kind is Parameter.POSITIONAL_ONLY:
                arrays.append(one)
            else:
                options.append(one.replace(default=self._options.get(name, one.default)))
        return Signature(self._parameters(arrays[len(self._first) :], options))

    def _parameters(self, arrays: list[Parameter], options: list[Parameter]) -> list[Parameter]:
        return [*arrays, *options]

    def __repr__(self) -> str:
        given = [getattr(self._loss, "__name__", repr(self._loss))]
        given += [f"{name}={value!r}" for name, value in self._settings.items()]
        return f"{self.__name__}({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Derivative):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return self._maker, (self._loss, *self._settings.values())

    def _key(self) -> tuple[Any, ...]:
        return self._maker, _key(self._loss), _key(tuple(self._settings.values()))


class ValueAndGrad(Derivative):
    """What `value_and_grad` returns; `single` where its gradient is one array and no tuple."""

    def __init__(self, *made: Any, single: bool, argnums: Any) -> None:
        super().__init__(*made, argnums=argnums)
        self._single = single

    def __call__(
        self, *arrays: Array, cotangent: Any = None, out: Any = None, **options: Any
    ) -> tuple[Array, Any]:
        """Compute the loss and its gradient."""
        found, arrays = self._found, (*self._first, *arrays)
        if cotangent is not None and not isinstance(cotangent, Real):
            _of_one_library(arrays, cotangent=cotangent)
        options = found.with_defaults(arrays, self._options | options)
        if out is None:
            value, gradients = compute(found, self._ask, arrays, options, cotangent)
            return value, gradients[0] if self._single else gradients
        out, (names,) = (out,) if self._single else out, self._ask.arguments
        arrays, options = found.placed(arrays, options)
        _check_out(names, dict(zip(found.arguments, arrays, strict=True)) | options, cotangent, out)
        value, gradients = compute(found, self._ask, arrays, options, cotangent, out)
        gradients = tuple([a if b is None else b for a, b in zip(gradients, out, strict=True)])
        return value, gradients[0] if self._single else gradients

    def _parameters(self, arrays: list[Parameter], options: list[Parameter]) -> list[Parameter]:
        own = [Parameter(x, Parameter.KEYWORD_ONLY, default=None) for x in ("cotangent", "out")]
        return [*arrays, *own, *options]


class HVP(Derivative):
    """What `hvp` returns."""

    def __call__(self, *arrays: Array, **options: Any) -> Array:
        """Multiply the Hessian by the last of the arrays."""
        if len(arrays) < 2:
            raise TypeError("hvp: wanted the loss's arrays and then the vector, all positional")
        _of_one_library(arrays[:-1], vector=arrays[-1])
        *given, vector = arrays
        found, arrays = self._found, (*self._first, *given)
        options = found.with_defaults(arrays, self._options | options)
        return compute(found, self._ask, arrays, options, vector)

    def _parameters(self, arrays: list[Parameter], options: list[Parameter]) -> list[Parameter]:
        return [*arrays, Parameter("vector", Parameter.POSITIONAL_ONLY), *options]


def _of_one_library(arrays: tuple[Array, ...], **more: Array) -> None:
    """Refuse arrays of several libraries or devices."""
    common_backend(**{f"argument {i}": array for i, array in enumerate(arrays)}, **more)


def _check_out(names: tuple[str, ...], given: dict[str, Any], cotangent: Any, out: Any) -> None:
    """Refuse arrays into which the gradients by the arguments named cannot be written."""
    if not isinstance(out, tuple) or len(out) != len(names):
        got = f"a tuple of {len(out)}" if isinstance(out, tuple) else type(out).__name__
        raise TypeError(f"out: got {got}, wanted a tuple of {len(names)}, one for each of argnums")
    inputs = {name: x for name, x in given.items() if hasattr(x, "shape") and hasattr(x, "dtype")}
    if hasattr(cotangent, "shape"):
        inputs["cotangent"] = cotangent
    inputs = {name: x for name, x in inputs.items() if not isinstance(x, Real)}
    outputs = [x for x in out if x is not None]
    for name, x in zip(names, out, strict=True):
        if x is None:
            continue
        if name == "temperature":
            raise TypeError("out: got an array for the gradient by a number, wanted None there")
        backend = common_backend(**inputs, out=x)
        if (like := inputs.get(name)) is not None:
            check.shape("out", x, tuple(like.shape), f"that of {name}")
            if dtype_name(x.dtype) != dtype_name(like.dtype):
                wanted = dtype_name(like.dtype)
                raise TypeError(f"out: got dtype {dtype_name(x.dtype)}, wanted {wanted}, {name}'s")
        others = (*inputs.values(), *(other for other in outputs if other is not x))
        if sum(other is x for other in outputs) > 1:
            raise ValueError("out: got one array twice, wanted one for each gradient")
        if why := backend._not_writable(x, others):
            raise ValueError(f"out: {why}")


def _key(x: Any) -> tuple[Any, ...]:
    """Return what is equal, and has the same hash, where x is; arrays by their identity."""
    if isinstance(x, partial):
        named = sorted(x.keywords.items())
        return partial, _key(x.func), _key(x.args), *((name, _key(value)) for name, value in named)
    if type(x) is tuple:
        return tuple, *map(_key, x)
    if hasattr(x, "dtype") or type(x).__hash__ is None:
        return id, id(x)
    return type(x), x
