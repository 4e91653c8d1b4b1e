"""Loss and gradient on one worker and on two: time, and what a worker holds beside its imports.

    python -m xp_xent.benchmarks.workers

prints a table of docs/performance.md. A worker has one thread: a rank of PyTorch over gloo, a
process of Dask's, a device of JAX on the CPU. Classes are split over ranks and devices, rows over
Dask's workers. Each line is of processes of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import numpy as np

from xp_xent import cross_entropy as loss
from xp_xent import value_and_grad

ROUNDS: Final = 7
MIB: Final = 1 << 20


def held() -> int:
    """Return the most bytes that this process has held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def median(call: Callable[[], Any]) -> float:
    """Return the median seconds of a call, the first left out."""
    times = []
    for _ in range(ROUNDS + 1):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return statistics.median(times[1:])


def arrays(rows: int, classes: int, parts: int = 1) -> tuple[Any, Any]:
    """Draw logits, of one part of the classes, and labels."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((rows, classes // parts), np.float32)
    return logits, rng.integers(0, classes, rows)


def on_rank(rank: int, size: int, folder: str, rows: int, classes: int) -> None:
    """Measure one of PyTorch's ranks, which has a part of the classes."""
    import torch
    from torch import distributed

    import xp_xent

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    group = distributed.group.WORLD if size > 1 else None
    before = held()
    logits, labels = map(torch.from_numpy, arrays(rows, classes, size))
    logits.requires_grad_()

    def call() -> None:
        logits.grad = None
        with xp_xent.split(classes=group):
            loss(logits, labels).backward()
        distributed.barrier()

    seconds = median(call)
    if rank == 0:
        print(seconds, held() - before)
    distributed.destroy_process_group()


def torch_ranks(size: int, rows: int, classes: int) -> None:
    """Start PyTorch's ranks."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(on_rank, (size, folder, rows, classes), nprocs=size)


def dask_workers(size: int, rows: int, classes: int) -> None:
    """Measure Dask's workers, which have their rows in memory."""
    import dask.array as da
    from distributed import Client, LocalCluster, wait

    with (
        LocalCluster(n_workers=size, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(lambda: __import__("xp_xent"))
        before = client.run(held)
        chunks = rows // 8, -1
        random = da.random.default_rng(0).standard_normal((rows, classes), chunks=chunks)
        logits = client.persist(random.astype("float32"))
        labels = da.from_array(np.arange(rows) % classes, chunks=rows // 8)
        wait(logits)
        seconds = median(lambda: wait(client.persist(value_and_grad(loss)(logits, labels))))
        most = max(most - before[worker] for worker, most in client.run(held).items())
    print(seconds, most)


def jax_devices(size: int, rows: int, classes: int) -> None:
    """Measure JAX's devices, over which the compiler splits; memory is what it plans."""
    flags = f"--xla_force_host_platform_device_count={size} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((size,), ("classes",), axis_types=(AxisType.Auto,))
    given = zip(
        arrays(rows, classes), (PartitionSpec(None, "classes"), PartitionSpec()), strict=True
    )
    placed = [jax.device_put(x, NamedSharding(mesh, how)) for x, how in given]
    program = jax.jit(value_and_grad(loss)).lower(*placed).compile()
    plan = program.memory_analysis()
    parts = plan.argument_size_in_bytes, plan.output_size_in_bytes, plan.temp_size_in_bytes
    print(median(lambda: jax.block_until_ready(program(*placed))), sum(parts))


ENGINES = {
    "PyTorch, ranks": torch_ranks,
    "Dask, workers": dask_workers,
    "JAX, devices": jax_devices,
}


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or measure one line of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=ENGINES, help="measure one engine, in this process")
    parser.add_argument("--size", type=int, default=1, help="on so many workers")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=32_000)
    given = parser.parse_args(arguments)
    shape = given.rows, given.classes
    if given.engine:
        ENGINES[given.engine](given.size, *shape)
        return 0
    print("| loss and gradient | ms on one | on two | MiB a worker holds, of one | of two |")
    print("| --- | --: | --: | --: | --: |")
    for engine in ENGINES:
        (one, held_one), (two, held_two) = (line(engine, size, *shape) for size in (1, 2))
        times = f"{1e3 * one:.0f} | {1e3 * two:.0f}"
        print(f"| {engine} | {times} | {held_one // MIB} | {held_two // MIB} |")
    return 0


def line(engine: str, size: int, rows: int, classes: int) -> tuple[float, int]:
    """Measure in a process: seconds, and the bytes that a worker holds."""
    asked = {"engine": engine, "size": size, "rows": rows, "classes": classes}
    options = [x for name, value in asked.items() for x in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "xp_xent.benchmarks.workers", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    seconds, most = done.stdout.split()[-2:]
    return float(seconds), int(most)


if __name__ == "__main__":
    sys.exit(main())
