"""Train a model behind FSDP on two CPU ranks, as one process and its fork: a program to run.

FSDP frees the storage of gathered parameters after their use, and fills it again for backward.
"""

from __future__ import annotations

import os
import sys
import warnings
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from xp_xent import linear_cross_entropy


class Model(torch.nn.Module):
    """A language model of a layer, whose loss is computed in `forward`, from the head's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = torch.nn.Linear(16, 16), torch.nn.Linear(16, 50)

    def forward(self, x: Any, y: Any) -> Any:
        return linear_cross_entropy(self.body(x).tanh(), self.head.weight, y, bias=self.head.bias)


def sharded(kind: str) -> Any:
    """The same model on each rank, sharded by the newer FSDP or the older one."""
    torch.manual_seed(0)
    model = Model()
    if kind == "fsdp1":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    fully_shard(model.body)
    return fully_shard(model)


def losses(model: Any, batches: Any, steps: int = 3) -> list[Any]:
    """Train with the mean of the batches' losses, a batch a rank."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=2.0), []
    for _ in range(steps):
        optimizer.zero_grad()
        own = [model(*batch) for batch in batches]
        (sum(own) / len(own)).backward()
        optimizer.step()
        found.append(torch.stack(own).detach())
    return found


def main(rank: int, init: str) -> None:
    """Compare both ways with a model that is not sharded."""
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2,
                                   timeout=timedelta(seconds=60))  # fmt: skip
    torch.manual_seed(1)
    batches = [(torch.randn(8, 16), torch.randint(0, 50, (8,))) for _ in range(2)]
    torch.manual_seed(0)
    want = torch.stack(losses(Model(), batches))[:, rank]
    for kind in ("fsdp1", "fsdp2"):
        got = torch.cat(losses(sharded(kind), batches[rank : rank + 1]))
        assert torch.allclose(got, want, rtol=1e-5), (kind, got, want)
    # Outside of forward, parameters are distributed tensors, beside which what each rank has of its
    # own is not what all have.
    with pytest.raises(RuntimeError, match="the ranks disagree about the labels"):
        linear_cross_entropy(batches[rank][0], sharded("fsdp2").head.weight, batches[rank][1])
    distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # FSDP's own
    child = os.fork()
    main(0 if child else 1, sys.argv[1])
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
