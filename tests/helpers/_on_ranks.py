"""What ranks are asked to do: functions of a module, which their processes import."""

from __future__ import annotations

import os
import time
from typing import Any

from torch import distributed

Array = Any


def added(x: Array, *, times: int = 1) -> Array:
    """Add up what the ranks make of it."""
    x = x * times * (distributed.get_rank() + 1)
    distributed.all_reduce(x)
    return x


def refused(x: Array) -> Array:
    """Refuse on each rank, with words of its own."""
    raise ValueError(f"rank {distributed.get_rank()} refuses\nand explains")


def refused_by_one(x: Array) -> Array:
    """Refuse on one rank, for which the other waits."""
    if distributed.get_rank() == 1:
        raise ValueError("rank 1 refuses")
    distributed.barrier()
    return x


def answered_apart(x: Array) -> Array:
    """Give another answer on each rank."""
    return x + distributed.get_rank()


def asleep(x: Array) -> Array:
    """Give no answer."""
    time.sleep(600)
    return x


def ended(x: Array) -> Array:
    """End the process of one rank, for which the other waits."""
    if distributed.get_rank() == 1:
        os._exit(3)
    distributed.barrier()
    return x


def process(x: Array) -> Array:
    """Give the process that is the first rank."""
    found = x.new_tensor([os.getpid()], dtype=x.dtype)
    distributed.broadcast(found, 0)
    return found
