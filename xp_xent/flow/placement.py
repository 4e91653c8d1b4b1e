"""Labels, weights and masks of NumPy, or sequences, placed beside the logits of any library."""

from typing import Any

import numpy as np

from xp_xent.backends import dtype_name, owner_of
from xp_xent.flow.options import FOREIGN, MASKS, WEIGHTS

Array = Any
Options = dict[str, Any]


def placed(
    labels: str | None, names: tuple[str, ...], arrays: tuple[Array, ...], options: Options
) -> tuple[tuple[Array, ...], Options]:
    """Return a call with labels, weights and masks of NumPy, or sequences, beside its first array.

    What is differentiable is left as it is given, and so is what is of another library.
    """
    like = arrays[0]
    is_numpy = isinstance(like, np.ndarray)

    def is_foreign(x: Any) -> bool:
        return type(x) in FOREIGN and not (is_numpy and type(x) is np.ndarray)

    moved = {}
    for name in (*WEIGHTS, *MASKS):
        if is_foreign(x := options.get(name)):
            moved[name] = _beside(like, name, x)
    for name, x in options.items():
        if name not in moved and type(x) is np.ndarray and x.ndim == 0 and not is_numpy:
            moved[name] = x[()]  # NumPy's number
    if moved:
        options = options | moved
    if labels is not None and is_foreign(x := arrays[at := names.index(labels)]):
        arrays = (*arrays[:at], _beside(like, labels, x), *arrays[at + 1 :])
    return arrays, options


def _beside(like: Array, name: str, given: Any) -> Any:
    """Place labels, weights or a mask beside an array; return what is none of them as it is."""
    backend = owner_of(like)
    try:
        # A copy, in the machine's order of bytes, that a library may keep and write to.
        host = np.array(given)
        host = host.astype(host.dtype.newbyteorder("="), copy=False)
    except ValueError:  # a sequence of sequences of several lengths
        return given
    if backend is None or host.dtype.kind not in ("biuf" if name in WEIGHTS else "biu"):
        return given
    if name in WEIGHTS and host.dtype.kind != "b":
        double = dtype_name(getattr(like, "dtype", None)) == "float64"
        host = host.astype(np.float64 if double else np.float32)
    elif name in MASKS and host.dtype.kind != "b" and bool(((host == 0) | (host == 1)).all()):
        host = host != 0
    found = backend._placed(host, like)
    if host.dtype.kind in "iu" and host.size:
        limits = backend.xp.iinfo(found.dtype)
        outside = (host < limits.min) | (host > limits.max)
        if outside.any():
            first = tuple(int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"{name}: got {host[first]} at position {first}, which {dtype_name(found.dtype)} "
                "does not hold"
            )
    return found
