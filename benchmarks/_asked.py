"""Calls of the `xp_xent` that a Python has, timed as `_against` asks for them.

Run by itself: it knows the public names alone, of any revision.
"""

import json
import sys
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from xp_xent import cross_entropy, value_and_grad


@cache
def prepared(name: str, rows: int, classes: int) -> Any:
    """Put the inputs in place, and return the call."""
    draw = np.random.default_rng((rows, classes))
    z, y = draw.standard_normal((rows, classes), np.float32), draw.integers(0, classes, rows)
    if name == "NumPy, the loss":
        return lambda: cross_entropy(z, y)
    if name == "NumPy, value_and_grad":
        return lambda: value_and_grad(cross_entropy)(z, y)
    import torch

    leaf, labels = torch.tensor(z, requires_grad=True), torch.tensor(y)

    def backward() -> None:
        cross_entropy(leaf, labels).backward()
        leaf.grad = None

    return backward


NAMES = {
    "NumPy, the loss": "numpy", "NumPy, value_and_grad": "numpy",
    "PyTorch, loss.backward()": "torch",
}  # fmt: skip

if __name__ == "__main__":
    for line in sys.stdin:
        *asked, count = json.loads(line)
        call = prepared(*asked)
        for turn in range((3 * count + 1) // 2):
            if turn == (count + 1) // 2:
                start = perf_counter()
            call()
        print((perf_counter() - start) / count, flush=True)
