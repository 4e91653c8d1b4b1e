"""Train by Transformers' Trainer on two CPU ranks, as one process and its fork: a program to run.

The ranks' batches, two accumulated ones each, have different numbers of labels.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from test_transformers import FIVE_DIGITS, train
from torch import distributed

from xp_xent.integrations.transformers import causal_lm_loss


def join(rank: int, port: int) -> None:
    """Let the next Trainer find two ranks."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in (ranks | where).items()}
    AcceleratorState._reset_state(reset_partial_state=True)


def main(rank: int, port: int, folder: Path) -> None:
    """Compare two ranks with one process, and with the built-in loss."""
    torch.set_num_threads(1)
    loss = causal_lm_loss()
    alone = train("causal", loss, folder, size=4, accumulated=1, max_steps=2)
    join(rank, port)
    ours, built_in = (
        train("causal", f, folder, size=1, accumulated=2, max_steps=2, ddp_backend="gloo")
        for f in (loss, None)
    )
    assert distributed.get_world_size() == 2
    assert ours == pytest.approx(built_in, rel=FIVE_DIGITS)
    assert ours[:2] == pytest.approx(alone[:2], rel=FIVE_DIGITS)  # its evaluation's batches differ
    distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = os.fork()
    main(0 if child else 1, port, Path(sys.argv[1]))
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
