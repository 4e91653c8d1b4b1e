"""Train a byte-level language model whose classifier's classes lie with several ranks.

The text is that of language_model.py. Each rank has all rows, the hidden layer, and its own part of
the 256 classes; between the ranks go a few numbers a row, no logits. At the end stands what one
machine gets from the same start and the same batches.

    torchrun --nproc-per-node 2 examples/vocabulary_parallel_torch.py [--steps 60]
"""

from __future__ import annotations

import argparse
from datetime import timedelta

import torch
from common import print_table
from language_model import BYTES, CONTEXT, HIDDEN, LENGTH, ROWS, load
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from xp_xent import linear_cross_entropy

HELD_OUT = 64  # pieces of text that are scored at the end


class Model(torch.nn.Module):
    """The last bytes' embeddings → tanh layer → classifier, whose rows a mesh may divide."""

    def __init__(self, mesh: DeviceMesh | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.EmbeddingBag(CONTEXT * BYTES, HIDDEN, mode="sum")
        torch.nn.init.normal_(self.embedding.weight, std=0.3)
        classifier = torch.randn(BYTES, HIDDEN) * 0.05
        if mesh is not None:
            classifier = distribute_tensor(classifier, mesh, [Shard(0)])
        self.classifier = torch.nn.Parameter(classifier)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of each byte but the first ones, given those before it."""
        seen = tokens.unfold(1, CONTEXT, 1)[:, :-1] + BYTES * torch.arange(CONTEXT)
        hidden = self.embedding(seen.reshape(-1, CONTEXT)).tanh()
        return linear_cross_entropy(hidden, self.classifier, tokens[:, CONTEXT:].reshape(-1))


def pieces(text: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Return pieces of text, the same ones on every rank."""
    starts = torch.randint(
        len(text) - LENGTH, (count, 1), generator=torch.Generator().manual_seed(seed)
    )
    return text[starts + torch.arange(LENGTH)]


def trained(mesh: DeviceMesh | None, steps: int) -> tuple[float, float]:
    """Train, and return the last batch's loss and the held-out text's, in nats a byte."""
    text, held_out = map(torch.tensor, load())
    model = Model(mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, foreach=False)
    loss = torch.zeros(())
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(pieces(text, ROWS, step))
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scored = model(pieces(held_out, HELD_OUT, steps))
    return tuple(float(x if mesh is None else x.full_tensor()) for x in (loss.detach(), scored))


def main() -> None:
    """Train over the ranks; then let one of them train alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60, help="of the optimiser")
    steps = parser.parse_args().steps
    distributed.init_process_group("gloo", timeout=timedelta(seconds=120))
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    split, last = trained(mesh, steps), mesh.get_local_rank() != 0
    size = mesh.size()
    distributed.destroy_process_group()
    if last:
        return
    alone = trained(None, steps)
    rows = [(f"{size} ranks, {BYTES // size} classes each", split), ("one machine", alone)]
    print_table(("model", "loss", "held out"), [(n, f"{a:.6f}", f"{b:.6f}") for n, (a, b) in rows])


if __name__ == "__main__":
    main()
