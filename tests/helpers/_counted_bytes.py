"""Bytes that a device hands to collectives, beside the model's: python _counted_bytes.py ENGINE.

It writes the lines of docs/scaling.md. A new engine is a function in `ENGINES`, which counts what
programs do and names the way of the model that each goes.
"""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from xp_xent.benchmarks._scaling import Layout, cost, told

# A program, the way it goes, a layout; collectives, bytes handed to them, and held (0: not counted)
Counts = Iterator[tuple[str, str, Layout, tuple[int, int, int]]]
WIDTHS = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "bf16": 2, "f16": 2, "pred": 1}
COLLECTIVE = re.compile(
    r"= .*? (?:all-(?:reduce|gather|to-all)|reduce-scatter|collective-permute)(?:-start)?\((.*?)\)"
)
NAMED = re.compile(r"(%[\w.-]+) = (\(.*?\)|\S+) ")


def in_hlo(text: str) -> tuple[int, int]:
    """Count a compiled program's collectives, and the bytes of their operands, on a device."""
    sizes = {name: size_of(shape) for name, shape in NAMED.findall(text)}
    operands = [found.split(", ") for found in COLLECTIVE.findall(text)]
    return len(operands), sum(sizes[name] for names in operands for name in names)


def size_of(shape: str) -> int:
    """Give the bytes of an array, or a tuple of them, as HLO writes its shape."""
    arrays = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", re.sub(r"\{.*?\}", "", shape))
    return sum(WIDTHS.get(kind, 0) * math.prod(map(int, filter(None, dims.split(","))))
               for kind, dims in arrays)  # fmt: skip


def count_jax() -> Counts:
    """Under jit, on meshes of 8 CPU devices, whose axes the compiler splits or the types name."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from xp_xent import cross_entropy, value_and_grad

    def gathered(logits: Any, labels: Any) -> Any:
        whole = NamedSharding(mesh, PartitionSpec())
        return cross_entropy(jax.lax.with_sharding_constraint(logits, whole), labels)

    both = value_and_grad(cross_entropy)
    programs = {"value": cross_entropy, "value_and_grad": both, "gathered": gathered}
    for kind in (AxisType.Auto, AxisType.Explicit):
        for parts in ((1, 8), (2, 4), (8, 1)):
            at = Layout(64, 4096, *parts)
            mesh = jax.make_mesh(parts, ("rows", "classes"), axis_types=(kind, kind))
            split = NamedSharding(mesh, PartitionSpec("rows", "classes"))
            rows = NamedSharding(mesh, PartitionSpec("rows"))
            logits = jax.ShapeDtypeStruct((at.rows, at.classes), "float32", sharding=split)
            labels = jax.ShapeDtypeStruct((at.rows,), "int32", sharding=rows)
            for name, program in programs.items():
                if name == "gathered" and (kind is AxisType.Explicit or parts[0] > 1):
                    continue
                with jax.set_mesh(mesh):
                    compiled = jax.jit(program).lower(logits, labels).compile()
                held = compiled.memory_analysis()
                memory = held.argument_size_in_bytes + held.output_size_in_bytes
                memory += held.temp_size_in_bytes
                counted = *in_hlo(compiled.as_text()), memory * (program is both)
                way = "gather everything" if name == "gathered" else "xp_xent under JAX's compiler"
                yield f"{name}, {kind.name} axes", way, at, counted


def count_torch() -> Counts:
    """DTensors on two ranks of gloo, this process and its fork: ours, and PyTorch's own."""
    import torch
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import loss_parallel
    from torch.utils._python_dispatch import TorchDispatchMode

    from xp_xent import cross_entropy

    class Count(TorchDispatchMode):
        """Let distributed tensors pass, and count what their own operators do to plain ones."""

        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if any(issubclass(one, DTensor) for one in types):
                return NotImplemented
            name = func._opname
            if func.namespace == "_c10d_functional" and name.startswith(("all_", "reduce_")):
                self.sizes.append(args[0].nbytes)
            if func.namespace == "c10d" and name.startswith("_allgather_base"):
                self.sizes.append(args[1].nbytes)
            return func(*args, **(kwargs or {}))

    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/ranks", rank=0 if child else 1, world_size=2
        )
        at = Layout(64, 4096, 1, 2)
        mesh = init_device_mesh("cpu", (2,))
        logits = distribute_tensor(torch.zeros(at.rows, at.classes), mesh, [Shard(1)])
        labels = torch.arange(at.rows)
        logits.requires_grad_()
        with Count() as ours:
            cross_entropy(logits, labels).backward()
        with loss_parallel(), Count() as theirs:
            torch.nn.functional.cross_entropy(logits, labels).backward()
        distributed.barrier()
        distributed.destroy_process_group()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    ways = {"xp_xent": "xp_xent, one exchange", "loss_parallel": "PyTorch's loss_parallel"}
    for (program, way), count in zip(ways.items(), (ours, theirs), strict=True):
        yield program, way, at, (len(count.sizes), sum(count.sizes), 0)


ENGINES = {"JAX": count_jax, "PyTorch": count_torch}

if __name__ == "__main__":
    for program, way, at, counted in ENGINES[sys.argv[1]]():
        model = cost(way, at)
        held = f"{told(counted[2])} / {told(model.memory)}" if counted[2] else ""
        cells = [
            sys.argv[1], program, f"{at.rows} × {at.classes}", f"{at.row_parts} × {at.class_parts}",
            f"{counted[0]} / {model.collectives}", f"{counted[1]} / {model.given}", held,
        ]  # fmt: skip
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
