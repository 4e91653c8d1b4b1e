"""Adapters to array libraries, found by the type of an array and imported only then.

Nothing here imports a framework: an array's type names the package that it comes from, and the
adapter of that package is loaded when the first such array shows up. Other libraries register a
`Backend` subclass through the entry-point group ``xp_xent.backends``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from xp_xent.backends import _split
from xp_xent.backends._base import Adapter, Backend
from xp_xent.backends._numbers import (
    dtype_kind,
    dtype_name,
    float_names,
    has_unknown,
    is_symbolic,
    known_types,
    same_shape,
)  # fmt: skip
from xp_xent.backends._row_sums import ExpSums

__all__ = [
    "Adapter", "Backend", "ExpSums", "backend_of", "dtype_kind", "dtype_name",
    "float_names", "get", "has_unknown", "installed", "is_symbolic", "known_types", "owner_of",
    "same_shape", "to_numpy",
]  # fmt: skip

# Import statements, one a library, because torch.compile traces these and no function that imports:
# a compiled loss may be the first call of a process.


def _load_numpy() -> Adapter:
    from xp_xent.backends._numpy import BACKEND

    return BACKEND


def _load_strict() -> Adapter:
    from xp_xent.backends._strict import BACKEND

    return BACKEND


def _load_torch() -> Adapter:
    from xp_xent.backends._torch import BACKEND

    return BACKEND


def _load_jax() -> Adapter:
    from xp_xent.backends._jax import BACKEND

    return BACKEND


def _load_cupy() -> Adapter:
    from xp_xent.backends._cupy import BACKEND

    return BACKEND


def _load_dpnp() -> Adapter:
    from xp_xent.backends._dpnp import BACKEND

    return BACKEND


def _load_mlx() -> Adapter:
    from xp_xent.backends._mlx import BACKEND

    return BACKEND


def _load_dask() -> Adapter:
    from xp_xent.backends._dask import BACKEND

    return BACKEND


def _load_ndonnx() -> Adapter:
    from xp_xent.backends._ndonnx import BACKEND

    return BACKEND


_BUILT_IN: dict[str, Callable[[], Adapter]] = {
    "numpy": _load_numpy,
    "array_api_strict": _load_strict,
    "torch": _load_torch,
    "jax": _load_jax,
    "cupy": _load_cupy,
    "dpnp": _load_dpnp,
    "mlx": _load_mlx,
    "dask": _load_dask,
}
# It writes down what others are to compute, so that `installed` has no use for it.
_NAMED = _BUILT_IN | {"ndonnx": _load_ndonnx}
# By the top-level package of an array's type.
_PACKAGES = _NAMED | {"jaxlib": _load_jax}

_loaded: dict[str, Adapter] = {}
_by_type: dict[type, Adapter | None] = {}  # of subclasses from other packages


def _entry_points() -> dict[str, Any]:
    # Imported here: importlib.metadata is slow, and only unknown arrays and listings need it.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="xp_xent.backends")}


def get(name: str) -> Adapter:
    """Return the backend of that name, importing its library.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"array_api_strict"``, ``"torch"``, ``"jax"``, ``"cupy"``, ``"dpnp"``,
        ``"mlx"``, ``"dask"``, ``"ndonnx"`` or the name of a registered entry point.

    Returns
    -------
    Adapter

    Raises
    ------
    ValueError
        No backend has that name.
    ImportError
        Its library is not installed, or cannot be used on this machine.

    Examples
    --------
    >>> from xp_xent import backends
    >>> backends.get("numpy").name
    'numpy'
    """
    if name not in _loaded:
        if name in _NAMED:
            _loaded[name] = _NAMED[name]()
        else:
            registered = _entry_points()
            if name not in registered:
                known = ", ".join([*_NAMED, *registered])
                raise ValueError(f"name: no backend is called {name!r}; there are {known}")
            _loaded[name] = registered[name].load()()
    return _loaded[name]


def installed() -> tuple[str, ...]:
    """List the backends whose library can be used on this machine; imports them.

    Those that compute: ndonnx, which writes models that others run, is not among them.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from xp_xent import backends
    >>> "numpy" in backends.installed()
    True
    """
    names = []
    for name in (*_BUILT_IN, *_entry_points()):
        try:
            get(name)
        except ImportError:
            continue
        names.append(name)
    return tuple(names)


def _find(kind: type) -> Adapter | None:
    packages = [cls.__module__.partition(".")[0] for cls in kind.__mro__ if cls is not object]
    for root in packages:
        if root in _PACKAGES:
            return _PACKAGES[root]()
    if set(packages) == {"builtins"}:  # lists, floats, None: no need to ask other packages
        return None
    for name, point in _entry_points().items():
        if set(point.load().packages) & set(packages):
            return get(name)
    return None


def _backend_of_one(array: Any, argument: str) -> Adapter:
    backend = owner_of(array)
    if backend is None:
        kind = type(array)
        raise TypeError(
            f"{argument}: got {kind.__module__}.{kind.__qualname__}, wanted an array of "
            f"{', '.join(_NAMED)} or of a registered backend; convert it first, for example "
            "with numpy.asarray"
        )
    if reason := backend.unsupported_reason(array):
        raise TypeError(f"{argument}: {reason}")
    return backend


def owner_of(array: Any) -> Adapter | None:
    """Find the backend of an array, or None; what it may refuse is not asked."""
    kind = type(array)
    # First without a cache: a compiled loss that filled one would be compiled again for that.
    # (str, for of torch.nn.Parameter the compiler knows the module, but no method of its name.)
    load = _PACKAGES.get(str(kind.__module__).partition(".")[0])
    if load is not None:
        return load()
    if kind not in _by_type:
        _by_type[kind] = _find(kind)
    return _by_type[kind]


def backend_of(*arrays: Any, **named: Any) -> Adapter:
    """Find the one backend that owns all the arrays.

    Parameters
    ----------
    *arrays, **named
        Arrays; a keyword is the argument's name in error messages.

    Returns
    -------
    Adapter

    Raises
    ------
    TypeError
        Something is not an array of a known library, or the arrays belong to several.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import backends
    >>> backends.backend_of(np.zeros(3)).name
    'numpy'
    """
    arguments = {f"argument {i}": array for i, array in enumerate(arrays)} | named
    found: Adapter | None = None
    first = ""
    for argument, array in arguments.items():
        backend = _backend_of_one(array, argument)
        if found is None:
            found, first = backend, argument
        elif backend is not found:
            raise TypeError(
                f"{argument}: got an array of {backend.name}, but {first} is of {found.name}; "
                "arrays of different libraries are never converted, so convert one explicitly"
            )
    if found is None:
        raise TypeError("backend_of: got no array")
    split = _split.now if _split.used else None
    if split is None:
        return found
    return found._of_part(split) if split.adapter is None else split.adapter


def to_numpy(array: Any, name: str = "array") -> np.ndarray:
    """Copy an array of any library to NumPy: within `split`, what is here of it.

    Parameters
    ----------
    array : array
        On any device; not traced.
    name : str, default "array"
        The argument's name in error messages.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    TypeError
        No known library owns it, or it is of a kind that the library's backend refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import backends
    >>> print(backends.to_numpy(np.ones(2)))
    [1. 1.]
    """
    copy = getattr(
        _backend_of_one(array, name), "to_numpy", None
    )  # which the protocol does not ask for
    return np.array(np.from_dlpack(array)) if copy is None else copy(array)
