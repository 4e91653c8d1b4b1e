"""The share of rows whose loss and gradient are accurate, for xp_xent and its peers.

python benchmarks/accuracy.py --json accuracy.json

A row of K classes with log-odds t against its class is accurate when its loss and every entry of
its gradient are within (8 + 2|t| + log2 K) eps of the truth, which is certified by ball
arithmetic. The loss of float16 and bfloat16 logits counts as a float32, their gradient in their
own dtype; below the smallest normal number its eps counts. Rows go from confident to hopeless, t
from -60 to 60. The exit status is 1 if xp_xent misses a row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {2: 1.0, 3: 1.0, 10: 1.0, 1000: 0.2}  # classes -> share of --rows
FARTHEST = 60.0
PACKAGES = ("xp_xent", "numpy", "torch", "jax", "dpnp", "array-api-strict", "optax", "scipy")
Array = Any


def prepare_libraries() -> None:
    """Set what JAX and dpnp read when they are imported."""
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if opencl.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(opencl))


@dataclass
class Rows:
    """Logits of one dtype and size, and what is certain of them; everything in float64."""

    dtype: str
    logits: Array  # (N, K)
    labels: Array  # (N,)
    odds: Array  # (N,)
    loss: Array  # (N,)
    gradient: Array  # (N, K)


def certified_rows(dtype: str, classes: int, count: int, seed: int = 0) -> Rows:
    """Draw rows with log-odds uniform over the range, and certify their loss and gradient."""
    from flint import ctx

    from xp_xent.conformance import _enclosure, reference, tolerance

    draw = np.random.default_rng([seed, classes])
    spread = draw.choice([0.1, 1.0, 3.0], size=(count, 1))
    logits = draw.normal(0.0, spread, (count, classes))
    labels, rows = draw.integers(0, classes, count), np.arange(count)
    logits[rows, labels] = -np.inf
    others = np.logaddexp.reduce(logits, axis=1)
    logits[rows, labels] = others + draw.uniform(-FARTHEST, FARTHEST, count)
    logits = np.vectorize(lambda x: _enclosure.nearest(float(x), dtype))(logits)
    loss, gradient = np.empty(count), np.empty((count, classes))
    with ctx.workprec(256):
        for i, (z, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
            truth = reference.row(z, reference.masses(label, classes))
            loss[i], gradient[i] = float(truth.loss), [float(x) for x in truth.gradient]
    odds = tolerance.log_odds(logits)[rows, labels]
    return Rows(dtype, logits, labels, odds, loss, gradient)


def judge(rows: Rows, loss: Array, gradient: Array) -> dict[str, Any]:
    """Count the accurate rows; errors are in units of what is allowed."""
    from xp_xent.conformance import _formats, tolerance

    def worst_of(got: Array, truth: Array, dtype: str) -> Array:
        allowed = tolerance.row_tolerance(dtype, rows.logits.shape[1], rows.odds)
        got, truth = got.reshape(len(truth), -1), truth.reshape(len(truth), -1)
        scale = np.maximum(np.abs(truth), _formats.FORMATS[dtype].smallest_normal)
        return np.nan_to_num(np.max(np.abs(got - truth) / scale, axis=1) / allowed, nan=np.inf)

    of_loss = worst_of(loss, rows.loss, _formats.COMPUTE[rows.dtype])
    of_gradient = worst_of(gradient, rows.gradient, rows.dtype)
    both = np.maximum(of_loss, of_gradient)
    return {
        "rows": len(both),
        "accurate": int(np.sum(both <= 1.0)),
        "accurate_losses": int(np.sum(of_loss <= 1.0)),
        "accurate_gradients": int(np.sum(of_gradient <= 1.0)),
        "worst": float(np.max(both)),
    }


def measure(rows_per_size: int) -> dict[str, dict[str, Any]]:
    """Judge every subject in every dtype: subject -> dtype -> counts."""
    from xp_xent.benchmarks.subjects import subjects
    from xp_xent.conformance import _formats

    table: dict[str, dict[str, Any]] = {subject.name: {} for subject in subjects()}
    for dtype in _formats.FORMATS:
        for classes, part in SIZES.items():
            print(f"{dtype}, {classes} classes", file=sys.stderr, flush=True)
            rows = certified_rows(dtype, classes, max(1, round(part * rows_per_size)))
            for subject in subjects():
                if dtype not in subject.dtypes:
                    continue
                one = judge(rows, *subject.ask(rows.logits, rows.labels, dtype))
                known = table[subject.name].setdefault(dtype, one)
                if known is not one:
                    worst = max(known["worst"], one["worst"])
                    known.update({key: known[key] + one[key] for key in known}, worst=worst)
    return table


def print_table(title: str, table: dict[str, dict[str, Any]], count: str) -> None:
    """Print the share of rows that `count` counts, a line a subject."""
    from xp_xent.conformance import _formats

    width = max(map(len, (title, *table)))
    print(f"\n{title:<{width}}", *(f"{dtype:>9}" for dtype in _formats.FORMATS))
    for name, by_dtype in table.items():
        shares = {d: f"{100 * one[count] / one['rows']:.2f}" for d, one in by_dtype.items()}
        print(f"{name:<{width}}", *(f"{shares.get(d, '-'):>9}" for d in _formats.FORMATS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rows", type=int, default=1000, help="of each size; a fifth of 1000 classes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts, too")
    options = parser.parse_args()
    from xp_xent.benchmarks._machine import versions

    prepare_libraries()
    table, about = measure(options.rows), versions(PACKAGES)
    print(", ".join(f"{name} {number}" for name, number in about.items()))
    print_table("accurate rows, %", table, "accurate")
    print_table("of these, the loss alone", table, "accurate_losses")
    print_table("and the gradient alone", table, "accurate_gradients")
    if options.json:
        content = {"versions": about, "sizes": list(SIZES), "results": table}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    ours = [
        one for name, row in table.items() if name.startswith("xp_xent") for one in row.values()
    ]
    return int(any(one["accurate"] < one["rows"] for one in ours))


if __name__ == "__main__":
    sys.exit(main())
