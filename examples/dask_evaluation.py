"""Perplexity of logits that no machine's memory holds: a Zarr store, read by Dask's workers.

A model has written its logits chunk by chunk, along tokens and classes. Two worker processes, whose
memory limits together are less than the store, compute the perplexity of all tokens. Beside it
stands the same number by one process that reads the store slice by slice.

    python examples/dask_evaluation.py [--tokens 32768] [--report report.html]

The peak memory is that of both workers together; the performance report needs bokeh.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from common import print_table
from dask.utils import format_bytes
from distributed import Client, LocalCluster, performance_report
from distributed.diagnostics import MemorySampler

from xp_xent import LossAccumulator, cross_entropy, perplexity

ROWS = 2048  # of a chunk: what one process holds at a time


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--vocabulary", type=int, default=8_192)
    parser.add_argument("--limit", default="400MB", help="memory of each of the two workers")
    parser.add_argument("--report", help="write Dask's performance report to this HTML file")
    return parser.parse_args()


def write(folder: Path, tokens: int, vocabulary: int) -> np.ndarray:
    """Write logits as a model would, and return the tokens that it should have predicted."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, vocabulary, tokens)
    store = zarr.create_array(
        folder, shape=(tokens, vocabulary), chunks=(ROWS, 2048), dtype="float32", compressors=None
    )
    for start in range(0, tokens, ROWS):
        rows = slice(start, min(start + ROWS, tokens))
        logits = rng.standard_normal((rows.stop - start, vocabulary), dtype=np.float32)
        logits[np.arange(len(logits)), labels[rows]] += 8.0
        store[rows] = logits
    return labels


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def on_workers(folder: Path, labels: np.ndarray, options: argparse.Namespace) -> list[object]:
    """Compute the perplexity on two workers: chunks of rows and classes, as they were written."""
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=options.limit, dashboard_address=None
    )
    report = performance_report(options.report) if options.report else nullcontext()
    with cluster, Client(cluster):
        memory = MemorySampler()
        with report, memory.sample("both", interval=0.05):
            start = time.perf_counter()
            logits = da.from_zarr(folder)
            found = float(perplexity(logits, labels).compute())
            seconds = time.perf_counter() - start
    peak = format_bytes(int(memory.to_pandas()["both"].max()))
    return ["two workers", f"{found:.9g}", peak, f"{seconds:.2f}"]


def alone(folder: Path, labels: np.ndarray) -> list[object]:
    """Compute it in this process, slice by slice."""
    start = time.perf_counter()
    total, store = LossAccumulator(), zarr.open_array(folder, mode="r")
    for first in range(0, len(labels), ROWS):
        rows = slice(first, first + ROWS)
        total = total.update(cross_entropy(store[rows], labels[rows], reduction="none"))
    seconds = time.perf_counter() - start
    peak = format_bytes(peak_memory())
    return ["one process", f"{total.perplexity:.9g}", peak, f"{seconds:.2f}"]


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "logits.zarr"
        labels = write(folder, options.tokens, options.vocabulary)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"store {format_bytes(size)}, limit of each of two workers {options.limit}")
        rows = [on_workers(folder, labels, options), alone(folder, labels)]
    print_table(("computed by", "perplexity", "peak memory", "seconds"), rows)
    if options.report:
        print(f"\nperformance report: {options.report}")
    one, other = (float(row[1]) for row in rows)
    if abs(one - other) > 1e-5 * other:
        raise SystemExit("DO NOT agree")
    print("\nThe two agree.")


if __name__ == "__main__":
    main()
