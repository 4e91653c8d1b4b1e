"""A rank that is lost in the middle of a call, and what the other one sees.

Called as ``python _lost_rank.py FOLDER HOW``: the second rank, a fork, either dies or stays away.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from xp_xent import cross_entropy, next_token_cross_entropy, softmax
from xp_xent.backends import _split
from xp_xent.backends._split import split

TIMEOUT = 4.0  # seconds; of the group


def lost(how: str) -> None:
    """Take part in nothing; return once the other one has seen it."""
    if how == "dies":
        os._exit(3)
    time.sleep(4 * TIMEOUT)
    os._exit(0)


def seen() -> list[dict[str, Any]]:
    """Ask for losses of which the other rank has a part: what is raised, and after what time."""
    z, y = torch.randn(6, 7, dtype=torch.float64, requires_grad=True), torch.arange(6)
    found, world = [], distributed.group.WORLD
    calls = {
        "cross_entropy": lambda: cross_entropy(z, y),
        "softmax": lambda: softmax(z),
        "next_token_cross_entropy": lambda: next_token_cross_entropy(z, y),
    }
    for name, call in calls.items():
        start = time.monotonic()
        try:
            with split(classes=world):
                call()
        except Exception as error:  # noqa: BLE001 (it is what is reported)
            said = f"{type(error).__name__}: {error}"
        else:
            said = "nothing"
        seconds = time.monotonic() - start
        left = _split.current.get() is not None or _split.now is not None
        found.append({"call": name, "said": said, "seconds": seconds, "left": left})
    loss = cross_entropy(z, y)
    loss.backward()
    found.append({"call": "alone", "said": f"{loss.item()}", "seconds": 0.0, "left": False})
    return found


if __name__ == "__main__":
    folder, how = Path(sys.argv[1]), sys.argv[2]
    rank = 0 if (child := os.fork()) else 1
    distributed.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank,
                                   world_size=2, timeout=timedelta(seconds=TIMEOUT))  # fmt: skip
    with split(classes=distributed.group.WORLD):  # while both are there
        cross_entropy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    if rank == 1:
        lost(how)
    (folder / "seen.json").write_text(json.dumps(seen()))
    os.kill(child, 9)
    os._exit(0)  # the group cannot be left in order
