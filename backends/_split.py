"""Calls whose rows or classes lie in several places, each of which has a part of every array."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Over what a call's arrays are split, in the words of their library."""

    classes: Any = None
    rows: Any = None
    num_classes: int | None = None  # beyond which columns take no part; None: all do
    adapter: Any = None  # for parts of these arrays; None: the one that their library has


current: ContextVar[Split | None] = ContextVar("split", default=None)
used: list[bool] = []  # something in it once any thread has split: until then nobody asks further


def __getattr__(name: str) -> Any:
    # An attribute PyTorch's compiler reads, and looks at again in each call, in whatever thread or
    # context; a context variable it cannot read.
    if name == "now":
        return current.get()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextmanager
def within(taken: Split | None) -> Iterator[None]:
    """Take arrays of the calls within as `split` has taken those of others."""
    if taken is not None and not used:
        used.append(True)
    token = current.set(taken)
    try:
        _tell_jax()
        yield
    finally:
        try:
            current.reset(token)
        finally:
            _tell_jax()


_keys: list[Any] = []  # of JAX's caches, to which this context's split is one more key


def _add_key() -> None:
    make = getattr(sys.modules.get("jax"), "make_user_context", None)  # older releases have none
    if make is not None:
        _keys.append(make(None))


def _tell_jax() -> None:
    """Let a function under JAX's jit be traced anew for another split than it was traced for."""
    if not _keys and current.get() is not None:
        _add_key()
    for key in _keys:
        key(current.get()).__enter__()  # until another one: this thread may go on elsewhere


_add_key()  # A new key has JAX trace what it knows once more: there is little at first.


def split(
    *, classes: Any = None, rows: Any = None, num_classes: int | None = None
) -> AbstractContextManager[None]:
    """Take the arrays of calls within a ``with`` block for parts of larger ones.

    Each of several places calls a loss with the part of the arrays that it has. All get the same
    reduced loss, of all rows and classes, and each the part of a gradient that belongs to its part
    of an array; labels count the classes of the whole. Between the places go numbers of rows, never
    anything of the logits' size.

    Parameters
    ----------
    classes : optional
        Over what the classes are split, in order. JAX: the name of a mesh axis, or
        a tuple of names, over which ``jax.shard_map`` runs the call. PyTorch: a process group, over
        whose ranks parts may be uneven.
        None: each place has all the classes of its rows.
    rows : optional
        Over what the rows are split, likewise. None: a mean or sum is of the rows that are here.
    num_classes : int, optional
        How many classes there are, where the last part is filled up with columns that are none:
        these take no part, get no mass of label smoothing, and labels of them are out of range.
        None: every column is a class. PyTorch, whose parts may be uneven, refuses it.

    Returns
    -------
    context manager
        It yields nothing. One within another replaces it.

    Raises
    ------
    TypeError
        `num_classes` is not an integer, or `classes` or `rows` is what no library takes; within:
        they are not what the arrays' library takes, or it has no parts.
    ValueError
        `num_classes` is not positive; within: there are fewer columns, or what is named is nothing
        that arrays are split over.

    Notes
    -----
    Options of one number a class, `weight` and `alpha`, are given whole, with `num_classes` numbers
    where that is given. All else of the logits' shape (probabilities, `class_where`) is split as
    these are; probabilities are to be 0 in columns that are no classes. What has one number a row
    is split as the rows are. A row's Hessian is refused, as are losses whose elements stand alone,
    unless only rows are split.

    Enter it inside a function that ``jax.jit`` compiles. JAX finds a program by the split around
    its call too, but for releases without ``jax.make_user_context``, where it keeps the first one.
    With PyTorch, enter it inside a function whose activations are checkpointed, for backward calls
    that anew, and inside one that ``torch.compile`` compiles without ``fullgraph=True``. With that
    it must be around every call, for the compiler cannot read how it is entered.

    Examples
    --------
    The last two of five columns fill a vocabulary up:

    >>> import jax, jax.numpy as jnp
    >>> import xp_xent
    >>> logits, labels = jnp.zeros((2, 5)), jnp.asarray([0, 2])
    >>> with xp_xent.split(num_classes=3):
    ...     loss = xp_xent.cross_entropy(logits, labels)
    >>> print(round(float(loss), 4), round(float(jnp.log(3)), 4))
    1.0986 1.0986

    Classes over the devices of a mesh, here over one:

    >>> from jax.sharding import AxisType, PartitionSpec as P
    >>> def local(logits, labels):
    ...     with xp_xent.split(classes="model"):
    ...         return xp_xent.cross_entropy(logits, labels)
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
    >>> over = {"in_specs": (P(None, "model"), P()), "out_specs": P()}
    >>> print(round(float(jax.shard_map(local, mesh=mesh, **over)(logits, labels)), 4))
    1.6094
    """
    for argument, over in (("classes", classes), ("rows", rows)):
        try:
            hash(over)
        except TypeError:
            raise TypeError(
                f"{argument}: got {over!r}, wanted names of mesh axes or a process group"
            ) from None
    if num_classes is not None:
        if type(num_classes) is not int:
            raise TypeError(f"num_classes: got {num_classes!r}, wanted an integer")
        if num_classes < 1:
            raise ValueError(f"num_classes: got {num_classes}, wanted a positive integer")
    return within(Split(classes, rows, num_classes))
