"""Perplexity on two processes: python _two_processes.py LIBRARY RANK ADDRESS FILE writes its bits.

To a file, for gloo writes to the standard output whenever it pleases.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from xp_xent import LossAccumulator, cross_entropy
from xp_xent.integrations.processes import all_reduce_jax, all_reduce_torch, merge_dask

BATCHES = 7


def losses(batch: int) -> Any:
    """The losses of a batch, float32, some of rows that matter little, or too much."""
    rng = np.random.default_rng(batch)
    logits = rng.normal(scale=10.0 ** rng.integers(-3, 4, (40 + batch, 1)), size=(40 + batch, 30))
    return cross_entropy(
        logits.astype(np.float32), rng.integers(0, 30, 40 + batch), reduction="none"
    )


def gathered(batches: Any) -> LossAccumulator:
    """Update with each batch, in the order given."""
    total = LossAccumulator()
    for batch in batches:
        total = total.update(losses(batch))
    return total


def with_torch(rank: int, address: str) -> LossAccumulator:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2,
                                   timeout=timedelta(seconds=60))  # fmt: skip
    total = all_reduce_torch(gathered(range(rank, BATCHES, 2)))
    distributed.destroy_process_group()
    return total


def with_jax(rank: int, address: str) -> LossAccumulator:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, rank, initialization_timeout=60)
    total = all_reduce_jax(gathered(range(rank, BATCHES, 2)))
    jax.distributed.shutdown()
    return total


def with_dask() -> LossAccumulator:
    import dask
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        one = dask.delayed(gathered)
        parts = [one([batch]) for batch in range(BATCHES)]
        return client.compute(merge_dask(parts, split_every=3)).result(timeout=60)


if __name__ == "__main__":
    library, rank, address, file = sys.argv[1:]
    if library == "dask":
        total = with_dask()
    else:
        total = {"torch": with_torch, "jax": with_jax}[library](int(rank), address)
    Path(file).write_text(f"{total.perplexity.hex()} {total.to_bytes().hex()}")
