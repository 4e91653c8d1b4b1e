"""What the examples share: options, a progress display, a table, and Adam."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Array = Any  # an array of whichever library the example runs on


def prepare_libraries() -> None:
    """Set the two variables that JAX and dpnp read when they are imported, unless they are set."""
    # JAX rounds float64 to float32 by default.
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    # The package intel-opencl-rt lets dpnp run on a plain CPU, but is not found by itself.
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if opencl.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(opencl))


def parse_options(description: str, steps: int) -> argparse.Namespace:
    """Read --backend and --steps, and make the libraries ready to be imported."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--backend", default="numpy", help="numpy, torch, jax, cupy, dpnp, …")
    parser.add_argument("--steps", type=int, default=steps, help="of the optimiser")
    prepare_libraries()
    return parser.parse_args()


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int, Array], None]]:
    """Yield ``show(done, loss)``: a bar on a terminal that has rich, a line a second elsewhere."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        bar = None
    else:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, console=console) if console.is_terminal else None
    shown = 0.0

    def show(done: int, loss: Array) -> None:
        # Reading the loss waits for the device, so it is read only when it is displayed.
        nonlocal shown
        now = time.monotonic()
        if done < total and now - shown < (0.1 if bar else 1.0):
            return
        shown = now
        text = f"{label:<24} loss {float(loss):.6f}"
        if bar:
            bar.update(task, completed=done, description=text)
        else:
            print(f"{text}  step {done}/{total}", file=sys.stderr, flush=True)

    if bar is None:
        yield show
        return
    with bar:
        task = bar.add_task(label, total=total)
        yield show


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows` under `header`, each column as wide as its widest cell, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    print()
    for name, *rest in cells:
        aligned = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([f"{name:<{widths[0]}}", *aligned]))


class Adam:
    """Adam (Kingma & Ba, 2015) over a tuple of arrays of one library."""

    def __init__(self, xp: Any, parameters: Sequence[Array], rate: float = 0.01) -> None:
        self.xp, self.rate, self.steps = xp, rate, 0
        self.means = tuple(xp.zeros_like(p) for p in parameters)
        self.squares = tuple(xp.zeros_like(p) for p in parameters)

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> tuple[Array, ...]:
        """Return the parameters after one step; arrays are replaced, never written to."""
        self.steps += 1
        self.means = tuple(0.9 * m + 0.1 * g for m, g in zip(self.means, gradients, strict=True))
        self.squares = tuple(
            0.999 * s + 0.001 * g * g for s, g in zip(self.squares, gradients, strict=True)
        )
        mean_scale, square_scale = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        return tuple(
            p - self.rate * (m / mean_scale) / (self.xp.sqrt(s / square_scale) + 1e-8)
            for p, m, s in zip(parameters, self.means, self.squares, strict=True)
        )
