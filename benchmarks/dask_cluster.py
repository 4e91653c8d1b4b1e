"""What Dask's workers move: bytes between two of them for one loss of logits that they hold.

    python -m xp_xent.benchmarks.dask_cluster

Logits 40000 × 2000 in float32, cut along rows, classes and both, lie in the workers' memory. The
loss, the loss with label smoothing, and the loss with its gradient are computed where they are. The
scheduler is told that moving is slow: else it moves blocks to a worker that has nothing to do,
whatever is computed of them.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster, wait

from xp_xent import cross_entropy, value_and_grad

PINNED = {
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.bandwidth": "100 kB",
}
CALLS: dict[str, Callable[..., Any]] = {
    "loss": cross_entropy,
    "loss, label smoothing": lambda z, y: cross_entropy(z, y, label_smoothing=0.1),
    "loss and gradient": value_and_grad(cross_entropy),
}


def moved(client: Any) -> int:
    """Count the bytes that workers have fetched from each other."""

    def log(dask_worker: Any) -> int:
        return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)

    return sum(client.run(log).values())


def measure(call: Callable[..., Any], rows: int, classes: int, chunks: tuple[int, int]) -> Any:
    """Return MB moved and seconds, in workers of its own: the scheduler learns of transfers."""
    with (
        dask.config.set(PINNED),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        random = da.random.default_rng(0).standard_normal((rows, classes), chunks=chunks)
        logits = client.persist(random.astype("float32"))
        wait(logits)
        labels = np.random.default_rng(1).integers(0, classes, rows)
        before, start = moved(client), time.perf_counter()
        wait(client.persist(call(logits, labels)))
        seconds = time.perf_counter() - start
        return (moved(client) - before) / 1e6, seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--classes", type=int, default=2_000)
    options = parser.parse_args()
    rows, classes = options.rows, options.classes
    cuts = {
        "rows": (rows // 16, classes),
        "classes": (rows, classes // 8),
        "both": (rows // 8, classes // 4),
    }
    table = [
        [cut, str(chunks), name, *measure(call, rows, classes, chunks)]
        for cut, chunks in cuts.items()
        for name, call in CALLS.items()
    ]
    print(f"logits: {rows * classes * 4 / 1e6:g} MB")
    header = ["cut along", "chunks", "", "moved, MB", "s"]
    print(pd.DataFrame(table, columns=header).to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
