"""One `LossAccumulator` of those of all processes: exact, so that each has the same bits of it.

What travels is `LossAccumulator.to_bytes`, 544 bytes a process, whatever it is a sum of.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xp_xent import LossAccumulator

__all__ = ["all_reduce_jax", "all_reduce_torch", "merge_dask"]


def all_reduce_torch(total: LossAccumulator, group: Any = None) -> LossAccumulator:
    """Return the sum of the accumulators of all ranks of ``torch.distributed``, on each of them.

    Parameters
    ----------
    total : LossAccumulator
        That of this rank. Each rank of the group makes this call.
    group : ProcessGroup, optional
        The ranks; None: all.

    Returns
    -------
    LossAccumulator

    Examples
    --------
    >>> from torch import distributed
    >>> from xp_xent import LossAccumulator
    >>> from xp_xent.integrations.processes import all_reduce_torch
    >>> distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    >>> all_reduce_torch(LossAccumulator().update(2.5, 3))
    LossAccumulator(sum=2.5, weight=3.0)
    >>> distributed.destroy_process_group()
    """
    import torch
    from torch import distributed

    # NCCL alone carries nothing that lies in host memory.
    on_host = "cpu:" in distributed.get_backend_config(group)
    device = "cpu" if on_host else torch.accelerator.current_accelerator()
    own = torch.frombuffer(bytearray(total.to_bytes()), dtype=torch.uint8).to(device)
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(parts, own, group)
    return _sum(LossAccumulator.from_bytes(part.cpu().numpy().tobytes()) for part in parts)


def all_reduce_jax(total: LossAccumulator) -> LossAccumulator:
    """Return the sum of the accumulators of all processes of ``jax.distributed``, on each of them.

    Parameters
    ----------
    total : LossAccumulator
        That of this process, of what its own devices computed. Each process makes this call.

    Returns
    -------
    LossAccumulator

    Examples
    --------
    >>> from xp_xent import LossAccumulator
    >>> from xp_xent.integrations.processes import all_reduce_jax
    >>> all_reduce_jax(LossAccumulator().update(2.5, 3))
    LossAccumulator(sum=2.5, weight=3.0)
    """
    from jax.experimental import multihost_utils

    own = np.frombuffer(total.to_bytes(), dtype=np.uint8)
    parts = np.asarray(multihost_utils.process_allgather(own)).reshape(-1, own.size)
    return _sum(LossAccumulator.from_bytes(part.tobytes()) for part in parts)


def merge_dask(totals: Sequence[Any], split_every: int = 8) -> Any:
    """Return the delayed sum of Dask's delayed accumulators, which workers merge in a tree.

    Parameters
    ----------
    totals : sequence of Delayed
        One accumulator a partition.
    split_every : int, default 8
        How many are merged at once.

    Returns
    -------
    Delayed

    Raises
    ------
    ValueError
        `split_every` is below 2.

    Examples
    --------
    >>> import dask
    >>> from xp_xent import LossAccumulator
    >>> from xp_xent.integrations.processes import merge_dask
    >>> parts = [dask.delayed(LossAccumulator().update)(float(loss), 1) for loss in range(20)]
    >>> merge_dask(parts).compute(scheduler="threads")
    LossAccumulator(sum=190.0, weight=20.0)
    """
    from dask import delayed

    if split_every < 2:
        raise ValueError(f"split_every: got {split_every}, wanted at least 2")
    merge = delayed(_sum, pure=True)
    while True:
        starts = range(0, max(len(totals), 1), split_every)
        totals = [merge(list(totals[start : start + split_every])) for start in starts]
        if len(totals) == 1:
            return totals[0]


def _sum(parts: Iterable[LossAccumulator]) -> LossAccumulator:
    return sum(parts, LossAccumulator())
