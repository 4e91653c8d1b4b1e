"""Metrics on two CPU ranks, as one process and its fork: a program to run."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

import torch
from torch import distributed

from xp_xent import LossAccumulator, cross_entropy
from xp_xent.integrations.torchmetrics import CrossEntropy, Perplexity


def main(rank: int, init: str) -> None:
    """Compare what two ranks sum up with a mean of all their tokens."""
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2,
                                   timeout=timedelta(seconds=60))  # fmt: skip
    torch.manual_seed(0)
    logits, tokens = torch.randn(9, 11, dtype=torch.float64), torch.arange(9)
    tokens[3] = -100
    metrics = CrossEntropy(), Perplexity()
    for part in ((slice(2), slice(2, 4)), (slice(4, 9),))[rank]:  # of 3 tokens, and of 5
        for metric in metrics:
            metric.update(logits[part], tokens[part])
    rows = cross_entropy(logits, tokens, reduction="none")
    whole = LossAccumulator().update(rows, 8)
    for metric, wanted in zip(metrics, (whole.mean, whole.perplexity), strict=True):
        own = metric.accumulator
        assert metric.compute().item() == wanted, "each bit"
        assert abs(own.mean - whole.mean) > 1e-3, "each rank has a mean of its own"
        assert own.weight == (3, 5)[rank]
        assert metric.accumulator == own, "after it, each rank has its own sums again"
    distributed.destroy_process_group()


if __name__ == "__main__":
    child = os.fork()
    main(0 if child else 1, sys.argv[1])
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
