"""Read the vectors: JSON in, NumPy arrays out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xp_xent.conformance._formats import ulp_error
from xp_xent.conformance.tolerance import Floats, accepts

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
# Options whose scalars are written as hex floats
FLOAT_OPTIONS = (
    "label_smoothing", "z_loss", "softcap", "temperature", "normalizer", "alpha", "gamma",
    "beta",
)  # fmt: skip


class Host(NamedTuple):
    """An input in host memory, exact.

    Attributes
    ----------
    dtype : str
        The dtype to give it in the library under test.
    array : ndarray
        Of that dtype, or of float32 where NumPy has none of that name (bfloat16).
    """

    dtype: str
    array: NDArray[Any]


@dataclass(frozen=True)
class Expected:
    """A certified result.

    Attributes
    ----------
    dtype : str
        The dtype that the result must have.
    data : ndarray of float64
        The truth, correctly rounded to that dtype.
    ulps : ndarray of float64
        How far from it each number may be, in ULP.
    """

    dtype: str
    data: Floats
    ulps: Floats

    def accepts(self, got: NDArray[Any], *, flushes: bool = False) -> bool:
        """Tell if a result of that shape is within tolerance.

        Parameters
        ----------
        got : ndarray of float
            The result, converted to float64 or not.
        flushes : bool, optional
            The library treats subnormal numbers as 0.

        Returns
        -------
        bool
        """
        if got.shape != self.data.shape:
            return False
        return bool(np.all(accepts(got, self.data, self.ulps, self.dtype, flushes=flushes)))

    def worst(self, got: NDArray[Any]) -> float:
        """Give the largest error in ULP."""
        return float(np.max(ulp_error(got, self.data, self.dtype), initial=0.0))


@dataclass(frozen=True)
class Vector:
    """One test.

    Attributes
    ----------
    id : str
        Unique, and for ever the same.
    topic : str
        The file that it stands in.
    function : str
        The public function's name.
    dtype : str
        The logits' dtype.
    comment : str
        Why the test is there.
    flags : tuple of str
        What it is about; keys of the file's notes.
    arguments : dict of str to Host
        The arrays, logits first; a map's is x.
    options : dict
        Keyword arguments, arrays as Host.
    value, gradient : Expected or None
        The loss and its gradient with respect to the logits; no gradient where the loss is +inf
        because a class without a probability carries mass, neither where every call must raise.
    cotangent : Host or None
        What weights the losses, or a map's entries, in the gradient: of the value's shape.
    raises : str or None
        The exception that a call must raise: on every machine where there is no value, else on
        those that can look at labels, in host memory; value and gradient are what others give.
    """

    id: str
    topic: str
    function: str
    dtype: str
    comment: str
    flags: tuple[str, ...]
    arguments: dict[str, Host]
    options: dict[str, Any]
    value: Expected | None
    gradient: Expected | None
    cotangent: Host | None = None
    raises: str | None = None


def _number(text: Any) -> Any:
    return float.fromhex(text) if isinstance(text, str) else text


def _host(coded: Mapping[str, Any]) -> Host:
    kind = "float32" if coded["dtype"] == "bfloat16" else coded["dtype"]
    data = [_number(x) for x in coded["data"]]
    array = np.array(data, dtype=kind if coded["dtype"] in INTEGERS else None).astype(kind)
    return Host(coded["dtype"], array.reshape(coded["shape"]))


def _expected(coded: Mapping[str, Any] | None) -> Expected | None:
    if coded is None:
        return None
    data = np.array([_number(x) for x in coded["data"]], dtype=np.float64)
    ulps = np.array(coded["ulps"], dtype=np.float64)
    shape = coded["shape"]
    return Expected(coded["dtype"], data.reshape(shape), ulps.reshape(shape))


def _option(name: str, coded: Any) -> Any:
    if isinstance(coded, dict):
        return _host(coded)
    return _number(coded) if name in FLOAT_OPTIONS else coded


def _vector(topic: str, group: Mapping[str, Any], test: Mapping[str, Any]) -> Vector:
    return Vector(
        id=test["tcId"],
        topic=topic,
        function=group["function"],
        dtype=group["dtype"],
        comment=test["comment"],
        flags=tuple(test["flags"]),
        arguments={name: _host(coded) for name, coded in test["arguments"].items()},
        options={name: _option(name, coded) for name, coded in test["options"].items()},
        value=_expected(test["value"]),
        gradient=_expected(test["gradient"]),
        cotangent=_host(test["cotangent"]) if "cotangent" in test else None,
        raises=test.get("raises"),
    )


def names() -> tuple[str, ...]:
    """List the vector files.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from xp_xent import conformance
    >>> "smoothing" in conformance.names()
    True
    """
    folder = files("xp_xent.conformance") / "vectors"
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(x[:-5] for x in found if x.endswith(".json") and x != "schema.json"))


@cache
def load(name: str) -> tuple[Vector, ...]:
    """Read the vectors of a file.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    tuple of Vector

    Examples
    --------
    >>> from xp_xent import conformance
    >>> conformance.load("agreement")[0].function
    'cross_entropy'
    """
    path = files("xp_xent.conformance") / "vectors" / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    groups = content["testGroups"]
    return tuple(_vector(name, group, test) for group in groups for test in group["tests"])
