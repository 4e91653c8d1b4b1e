"""Ranks of torch.distributed, each a process, on which a function is evaluated together."""

from __future__ import annotations

import functools
import io
import multiprocessing
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, ClassVar, Final

import numpy as np

from xp_xent import backends

Array = Any
PATIENCE: Final = 30.0  # seconds for an answer,
GRACE: Final = 5.0  # and after another rank's, for which this one may wait
KINDS: Final = (
    NotImplementedError, TypeError, ValueError, LookupError, RuntimeError, AssertionError,
)  # fmt: skip


def on_ranks(function: Callable[..., Array], size: int = 2) -> Callable[..., Array]:
    """Return a function that evaluates another one on several ranks, all at once.

    Parameters
    ----------
    function : callable
        One of a module, or a `functools.partial` of one. Each rank calls it with all of the arrays,
        in a process with one thread whose default process group is of gloo; it takes its part of
        them by itself, and returns the whole result, the same on each rank.
    size : int, default 2
        The number of ranks.

    Returns
    -------
    callable
        Takes the same arguments, for a `Subject`. It raises what the first rank raised that did,
        TimeoutError if ranks wait for ever, and RuntimeError if their answers differ. The first
        call starts the ranks, which end with this process; after a TimeoutError they are started
        anew.

    Notes
    -----
    The arrays are copied to the ranks: that a function writes to them is not seen.

    Examples
    --------
    >>> from xp_xent import cross_entropy
    >>> from xp_xent.conformance import Subject, on_ranks
    >>> mine = Subject("mine, 2 ranks", "torch", {"cross_entropy": on_ranks(cross_entropy)})
    """
    return _pool(size).on(function)


class Pool:
    """Processes, one a rank, and pipes to them; those of one pool at a time.

    Each subject has its own: what one leaves behind in a process is not to meet another.
    """

    _started: ClassVar[Pool | None] = None

    def __init__(self, size: int, patience: float = PATIENCE, grace: float = GRACE) -> None:
        self.size, self.patience, self.grace = size, patience, grace
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []

    def on(self, function: Callable[..., Array]) -> Callable[..., Array]:
        """Return a function that evaluates another one on the ranks."""

        @functools.wraps(function)
        def evaluate(*arrays: Array, **options: Any) -> Array:
            return self.evaluate(function, arrays, options)

        return evaluate

    def evaluate(
        self, function: Callable[..., Array], arrays: Sequence[Array], options: Mapping[str, Any]
    ) -> Array:
        """Return what all ranks answer; raise what one of them raises."""
        message = _packed((function, arrays, options))
        if not self._processes:
            self._start()
        try:
            for pipe in self._pipes:
                pipe.send_bytes(message)
            answers = self._answers()
        except BaseException:  # an interrupt, too: answers may be on their way
            self.close()
            raise
        errors = [(rank, x) for rank, x in enumerate(answers) if isinstance(x, Exception)]
        if errors:
            raise errors[0][1]
        for rank, x in enumerate(answers[1:], 1):
            if not _same(x, answers[0]):
                raise RuntimeError(f"rank {rank} answered {x}, and rank 0 {answers[0]}")
        return answers[0]

    def close(self) -> None:
        """End the processes, whatever they do."""
        for process in self._processes:
            process.kill()
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []

    def _start(self) -> None:
        if Pool._started is not None:
            Pool._started.close()
        Pool._started = self
        # A process that is forked where PyTorch is imported already starts in no time.
        context: Any = multiprocessing.get_context(_start_method())
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(["xp_xent.conformance._rank_losses", __name__])
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for rank in range(self.size):
                pipe, theirs = context.Pipe()
                given = rank, self.size, f"{folder}/ranks", theirs
                process = context.Process(target=_work, args=given, daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._pipes.append(pipe)
            try:
                self._answers(patience=120.0)  # PyTorch is imported
            except BaseException:
                self.close()
                raise

    def _answers(self, patience: float | None = None) -> list[Any]:
        """Return an answer of each rank; raise OSError if one of them does not come."""
        found: dict[int, Any] = {}
        start = monotonic()
        until = start + (patience or self.patience)
        while waiting := [rank for rank in range(self.size) if rank not in found]:
            ready = wait([self._pipes[rank] for rank in waiting], until - monotonic())
            if not ready:
                raise TimeoutError(_hanging(waiting, found))
            for rank in waiting:
                if self._pipes[rank] in ready:
                    found[rank] = self._answer(rank)
            if patience is None:
                now = monotonic()
                until = min(until, now + max(self.grace, 4 * (now - start)))
        return [found[rank] for rank in range(self.size)]

    def _answer(self, rank: int) -> Any:
        try:
            return _unpacked(self._pipes[rank].recv_bytes())
        except EOFError as error:
            self._processes[rank].join()
            code = self._processes[rank].exitcode
            raise ChildProcessError(f"rank {rank} ended with {code}") from error


@functools.cache
def _pool(size: int) -> Pool:
    return Pool(size)


def _packed(x: Any) -> bytes:
    """Pickle what may have tensors of any dtype in it."""
    import torch

    file = io.BytesIO()
    torch.save(x, file)
    return file.getvalue()


def _unpacked(message: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(message), weights_only=False)


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _hanging(waiting: Sequence[int], found: Mapping[int, Any]) -> str:
    """Say who hangs, and what became of the others."""
    said = f"hangs: no answer of rank {', '.join(map(str, waiting))}"
    for rank, x in found.items():
        became = f"raised {type(x).__name__}: {x}" if isinstance(x, Exception) else "answered"
        said += f"; rank {rank} {became}"
    return said


def _same(x: Array, y: Array) -> bool:
    """Tell whether two answers have the same numbers, or NaN."""
    first, second = (backends.backend_of(one).to_numpy(one) for one in (x, y))
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=True)


# In the processes


def _work(rank: int, size: int, path: str, pipe: Connection) -> None:
    """Evaluate what comes, until the pipe is closed."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    # Who waits for a rank that is no more must end, though the parent may be no more either.
    store, timeout = distributed.FileStore(path, size), timedelta(seconds=4 * PATIENCE)
    distributed.init_process_group("gloo", None, timeout, size, rank, store)
    pipe.send_bytes(_packed("ready"))
    with suppress(EOFError, OSError):  # the parent is no more
        while True:
            pipe.send_bytes(_packed(_evaluated(pipe.recv_bytes())))


def _evaluated(message: bytes) -> Any:
    try:
        function, arrays, options = _unpacked(message)
        with np.errstate(all="ignore"):
            return function(*arrays, **options)
    except Exception as error:  # noqa: BLE001 (whatever it is, the process that asked judges it)
        kind = next((kind for kind in KINDS if isinstance(error, kind)), Exception)
        return kind(str(error).partition("\n")[0])
