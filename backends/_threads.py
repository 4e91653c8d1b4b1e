"""Threads for libraries whose operations release the GIL: how many, and a pool to share.

The work is cut the same way whatever the number of threads, so that results have the same bits.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # imported when first needed: it takes longer than this package
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

_limit: ContextVar[int | None] = ContextVar("xp_xent_threads", default=None)
ceiling: ContextVar[int | None] = ContextVar("xp_xent_ceiling", default=None)


@contextmanager
def threads(limit: Any) -> Iterator[None]:
    """Limit the threads of NumPy's losses, and of PyTorch's on the CPU, within a ``with`` block.

    Without it, as many as there are processors that the process may use; the environment's
    ``XP_XENT_NUM_THREADS`` or else ``OMP_NUM_THREADS`` lower that, and a worker process of
    `multiprocessing` uses one. Small arrays take one thread in any case. Results have the same
    bits at any number of threads.

    Parameters
    ----------
    limit : int
        The most threads that one call may use, the calling one included; at least 1.

    Returns
    -------
    context manager
        It yields nothing.

    Raises
    ------
    ValueError
        `limit` is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> import xp_xent
    >>> with xp_xent.threads(1):
    ...     loss = xp_xent.cross_entropy(np.zeros((2, 4)), np.asarray([0, 1]))
    >>> print(round(float(loss), 6))
    1.386294
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"limit: got {limit!r}, wanted a positive integer")
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def allowed() -> int:
    """Return how many threads a call may use now."""
    limit, most = _limit.get(), ceiling.get()
    limit = _default() if limit is None else limit
    return limit if most is None else min(limit, most)


def _default() -> int:
    for name in ("XP_XENT_NUM_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return min(int(first), _processors())
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return 1  # a worker process, whose siblings use the other processors
    return _processors()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(function: Callable[[Item], object], items: Iterable[Item], count: int) -> None:
    """Call a function with each of `count` items, on several threads where that is allowed."""
    helpers = min(allowed(), count) - 1 if count > 1 else 0
    if helpers < 1:
        for item in items:
            function(item)
        return
    lock, left = threading.Lock(), iter(items)

    def work() -> None:
        while True:
            with lock:
                item = next(left, None)
            if item is None:
                return
            function(item)

    def help_out() -> None:
        _limit.set(1)  # what runs here starts no more threads
        work()

    # A copy of the context a thread: it holds how NumPy treats floating-point errors.
    started: list[Future[object]] = []
    try:
        started.extend(_pool.submit(copy_context().run, help_out) for _ in range(helpers))
    except RuntimeError as error:
        if " after " not in str(error):  # "… after shutdown": the interpreter ends, go on alone
            raise
    try:
        work()
    finally:
        # Those that never got a thread are not waited for: nothing is left to do.
        for one in started:
            if not one.cancel():
                one.result()


class _Pool:
    """A thread pool that is made when first needed, and again in a forked child."""

    def __init__(self) -> None:
        self.forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., object], *arguments: object) -> "Future[object]":
        with self._lock:
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor

                self._executor = ThreadPoolExecutor(
                    max(1, _processors() - 1), thread_name_prefix="xp_xent"
                )
        return self._executor.submit(function, *arguments)


_pool = _Pool()
