"""Time of loss and gradient of DTensors whose classes two ranks share, beside PyTorch's own loss.

``python -m xp_xent.benchmarks.torch_ranks`` starts the ranks, one thread each, and prints the
table of docs/scaling-torch.md: medians of calls that take turns, and the bytes that a rank puts
into collectives, as PyTorch's profiler names their inputs.
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import Any, Final

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import loss_parallel

from xp_xent import cross_entropy

RANKS: Final = 2
GOALS: Final = {"xp_xent": 0.6, "xp_xent, label_smoothing": 0.8}  # of loss_parallel's time


def ways(z: Any, y: Any) -> dict[str, Callable[[], None]]:
    """Give what is measured: each a loss and its gradient."""

    def ours(**options: Any) -> None:
        z.grad = None
        cross_entropy(z, y, **options).backward()

    def theirs() -> None:
        z.grad = None
        with loss_parallel():
            torch.nn.functional.cross_entropy(z, y).backward()

    weight = torch.linspace(0.5, 2, z.shape[-1])
    return {
        "xp_xent": ours,
        "xp_xent, label_smoothing": lambda: ours(label_smoothing=0.1),
        "xp_xent, label_smoothing and weight": lambda: ours(label_smoothing=0.1, weight=weight),
        "loss_parallel": theirs,
    }


def sent(call: Callable[[], None]) -> int:
    """Count the bytes of the inputs of a call's collectives on this rank."""
    sizes = {"float": 4, "unsigned char": 1, "long int": 8, "double": 8}
    kinds = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds, record_shapes=True) as profile:
        call()
    found = 0
    for event in profile.events():
        if event.name.startswith("gloo:"):
            for shape, dtype in zip(event.input_shapes, event.input_dtypes, strict=False):
                found += torch.Size(shape).numel() * sizes.get(dtype, 0)
    return found


def measure(rows: int, classes: int, rounds: int) -> dict[str, tuple[float, int]]:
    """Return the median milliseconds and the bytes of each way."""
    mesh = init_device_mesh("cpu", (RANKS,))
    torch.manual_seed(0)
    z = distribute_tensor(torch.randn(rows, classes) * 3, mesh, [Shard(1)]).requires_grad_()
    calls = ways(z, torch.randint(0, classes, (rows,)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            distributed.barrier()
            start = perf_counter()
            call()
            distributed.barrier()
            times[name].append(perf_counter() - start)
    counted = {name: sent(call) for name, call in calls.items()}
    return {name: (1e3 * statistics.median(x[1:]), counted[name]) for name, x in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Start the ranks, measure, and print the table; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/ranks", rank=0 if child else 1,
            world_size=RANKS, timeout=timedelta(seconds=120),
        )  # fmt: skip
        found = measure(given.rows, given.classes, given.rounds)
        distributed.destroy_process_group()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    whole = found["loss_parallel"][0]
    print("| loss and gradient | ms | of loss_parallel's | bytes a rank puts in |")
    print("| --- | --- | --- | --- |")
    for name, (time, count) in found.items():
        print(f"| {name} | {time:.0f} | {time / whole:.2f} | {count:,} |")
    return int(any(found[name][0] > goal * whole for name, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
