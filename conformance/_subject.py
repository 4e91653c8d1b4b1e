"""What is judged: functions that answer like the ones here, and how one of them is asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent import backends
from xp_xent.backends import Adapter, dtype_name
from xp_xent.conformance._load import Host

Array = Any
NEWLINE = "\n"


@dataclass(frozen=True)
class Subject:
    """An implementation to judge.

    Attributes
    ----------
    name : str
        For the report.
    backend : str
        The array library that it takes, one of `xp_xent.backends.installed`.
    functions : mapping of str to callable
        By the name of the function here whose arguments it takes, as arrays of that library.
    gradients : mapping of str to callable, optional
        The same arguments, and the gradient with respect to the first. With
        ``reduction="none"`` that is the gradient of each row's own loss; one that takes
        `cotangent`, of the loss's shape, is asked for weighted rows too. That of a map gives
        the `cotangent`, of the value's shape, pulled back.
    dtypes : tuple of str, optional
        The logits' dtypes that it takes; those of the library, unless given.
    traced : bool, default False
        It runs compiled, where labels cannot be looked at: a label out of range may give NaN
        instead of an error.
    packages : tuple of str, optional
        Distributions whose versions belong into the report.
    forget : callable, optional
        Frees what has been compiled. Vectors with the same dtypes, shapes and options are then
        asked one after another, and this is called after each such group.

    Notes
    -----
    What raises NotImplementedError, or does not take an option at all, is unsupported.

    Examples
    --------
    >>> import xp_xent
    >>> from xp_xent.conformance import Subject
    >>> mine = Subject("mine", "numpy", {"cross_entropy": xp_xent.cross_entropy})
    """

    name: str
    backend: str
    functions: Mapping[str, Callable[..., Array]]
    gradients: Mapping[str, Callable[..., Array]] = field(default_factory=dict)
    dtypes: tuple[str, ...] | None = None
    traced: bool = False
    packages: tuple[str, ...] = ()
    forget: Callable[[], None] | None = None


class Failure(Exception):  # noqa: N818 (a verdict; nothing went wrong here)
    """An answer that is wrong before its numbers are looked at, or by them.

    Attributes
    ----------
    kind : str
        error, mutation, namespace, device, dtype, shape, value, gradient or property.
    reason : str
        What was got and what was wanted.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Answer(NamedTuple):
    """What a subject answered, on the host."""

    dtype: str
    array: NDArray[Any]


def send(backend: Adapter, value: Any) -> Any:
    """Give an array to the library; anything else stays."""
    return backend.asarray(value.array, dtype=value.dtype) if isinstance(value, Host) else value


def _bits(backend: Adapter, value: Any) -> bytes | None:
    return backend.to_numpy(value).tobytes() if hasattr(value, "dtype") else None


def _takes(call: Callable[..., Array], arrays: list[Any], options: dict[str, Any]) -> str | None:
    """Say which option a function does not take, or None."""
    try:
        signature = inspect.signature(call)
        signature.bind(*arrays, **options)
    except ValueError:  # a built-in function has no signature
        return None
    except TypeError as error:
        return str(error)
    return None


def _implied(arguments: Mapping[str, Host]) -> dict[str, Any]:
    """Name the option that a label of -100 means, to one who may not have it."""
    labels = [x.array for x in arguments.values() if x.dtype == "int64"]
    return {"ignore_index": -100} if any((x == -100).any() for x in labels) else {}


def ask(
    subject: Subject,
    what: str,
    function: str,
    arguments: Mapping[str, Host],
    options: Mapping[str, Any],
) -> Answer:
    """Ask for a value or a gradient, and check all of the answer but its numbers and its shape.

    Parameters
    ----------
    subject : Subject
    what : {"value", "gradient"}
    function : str
        The name of the function here.
    arguments, options : mapping
        As in a `Vector`.

    Returns
    -------
    Answer

    Raises
    ------
    NotImplementedError
        The subject has no such function or option.
    Failure
        It raised, wrote to its inputs, or answered with another library's or device's array.
    """
    calls = subject.functions if what == "value" else subject.gradients
    if function not in calls:
        raise NotImplementedError(f"no {what} of {function}")
    backend = backends.get(subject.backend)
    arrays = [send(backend, x) for x in arguments.values()]
    named = {name: send(backend, x) for name, x in options.items()}
    implied = {**_implied(arguments), **named}
    if missing := _takes(calls[function], arrays, implied):
        raise NotImplementedError(missing)
    before = [_bits(backend, x) for x in (*arrays, *named.values())]
    try:
        got = calls[function](*arrays, **named)
        # Here, for a library that computes when it is copied refuses bad labels then.
        host = backend.to_numpy(got) if backends.owner_of(got) is backend else None
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        # The option was passed on to something that does not take it.
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise NotImplementedError(str(error)) from error
        reason = f"{what}: raised {type(error).__name__}: {str(error).partition(NEWLINE)[0]}"
        raise Failure("error", reason) from error
    for name, value, bits in zip(
        (*arguments, *named), (*arrays, *named.values()), before, strict=True
    ):
        if _bits(backend, value) != bits:
            raise Failure("mutation", f"{what}: wrote to its argument {name}")
    return _answer(backend, what, got, host, arrays[0])


def _answer(backend: Adapter, what: str, got: Any, host: Any, like: Any) -> Answer:
    """Check the library and the device of what was copied to the host."""
    kind = type(got)
    if host is None:
        named = f"{kind.__module__}.{kind.__qualname__}"
        raise Failure("namespace", f"{what}: got {named}, wanted an array of {backend.name}")
    if backend.device(got) != backend.device(like):
        there, here = backend.device(got), backend.device(like)
        raise Failure("device", f"{what}: got an array on {there}, wanted one on {here}")
    return Answer(dtype_name(got.dtype), np.asarray(host))
