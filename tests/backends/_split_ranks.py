"""Run groups of checks on ranks over gloo.

Called as ``python _split_ranks.py RANKS FOLDER EVERY GROUP …``. Ranks are this process and its
forks; each writes what failed as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).parent))
import _split_cases as cases
import _split_faults as faults
import _split_ways as other_ways

GROUPS = {
    "options": cases.option_checks,
    "blocks": cases.block_checks,
    "confident": cases.confident_checks,
    "texts": cases.text_checks,
    "others": cases.other_checks,
    "faults": faults.fault_checks,
    "ways": other_ways.way_checks,
    "weights": faults.weight_checks,
    "metrics": faults.metric_checks,
    "vectors": other_ways.vector_checks,
}


def wrong(pairs: Any) -> str:
    """Tell what is further from what is wanted than 1e-12 of the largest."""
    for at, pair in enumerate(pairs):
        got, want = (cases.full(x).detach() for x in pair)
        if got.shape != want.shape:
            return f"pair {at}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
        apart = (got.double() - want.double()).abs().max() if want.numel() else torch.zeros(())
        scale = want.double().abs().max().clamp(min=1.0) if want.numel() else 1.0
        if not bool(apart <= 1e-12 * scale):
            return f"pair {at}: {float(apart)} apart"
    return ""


def main(rank: int, ranks: int, folder: Path, every: bool, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank,
                                   world_size=ranks, timeout=timedelta(seconds=60))  # fmt: skip
    found: dict[str, Any] = {}
    for name in names:
        found[name] = {"count": 0, "failed": []}
        for title, check in GROUPS[name](ranks, every):
            found[name]["count"] += 1
            try:
                said = wrong(check())
            except Exception as error:  # noqa: BLE001 (it is what is reported)
                said = f"{type(error).__name__}: {error}"[:400]
                said += "".join(traceback.format_tb(error.__traceback__)[-2:])[-300:]
            if said:
                found[name]["failed"].append(f"{title}: {said}")
    (folder / f"{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    ranks, rank, children = int(sys.argv[1]), 0, []
    for one in range(1, ranks):
        child = os.fork()
        if child == 0:
            rank, children = one, []
            break
        children.append(child)
    main(rank, ranks, Path(sys.argv[2]), sys.argv[3] == "every", sys.argv[4:])
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(codes, default=0))
