"""The share of rows whose loss and gradient are accurate, for xp_xent and its peers.

python benchmarks/accuracy.py --json accuracy.json

A row of K classes with log-odds t against its class is accurate when its loss and every entry of
its gradient are within (8 + 2|t| + log2 K) eps of the truth, which is certified by ball
arithmetic. The loss of float16 and bfloat16 logits counts as a float32, their gradient in their
own dtype; below the smallest normal number its eps counts. Rows go from confident to hopeless, t
from -60 to 60. The exit status is 1 if xp_xent misses a row.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import pandas as pd
import typer

SIZES: Final = {2: 1.0, 3: 1.0, 10: 1.0, 1000: 0.2}  # classes -> share of --rows
FARTHEST: Final = 60.0
PACKAGES: Final = "xp_xent numpy torch jax dpnp array-api-strict optax scipy".split()
Array = Any


class Rows(NamedTuple):
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
    with ctx.workprec(256):
        pairs = zip(logits.tolist(), labels.tolist(), strict=True)
        truths = [reference.row(z, reference.masses(label, classes)) for z, label in pairs]
        loss = np.asarray([float(truth.loss) for truth in truths])
        gradient = np.asarray([[float(x) for x in truth.gradient] for truth in truths])
    return Rows(dtype, logits, labels, tolerance.log_odds(logits)[rows, labels], loss, gradient)


def judge(subject: Any, rows: Rows) -> dict[str, Any]:
    """Ask for each row's loss and gradient, and count the accurate ones."""
    from xp_xent import backends
    from xp_xent.conformance import _formats, tolerance

    backend = backends.get(subject.backend)
    # Rows are exact in their dtype, so the way through float32 changes nothing.
    host = rows.logits if rows.dtype == "float64" else rows.logits.astype(np.float32)
    given = backend.asarray(host, dtype=rows.dtype), backend.asarray(rows.labels, dtype="int64")

    def accurate(calls: Any, truth: Array, dtype: str) -> Array:
        got = backend.to_numpy(calls["cross_entropy"](*given, reduction="none")).astype(np.float64)
        allowed = tolerance.row_tolerance(dtype, rows.logits.shape[1], rows.odds)
        got, truth = got.reshape(len(truth), -1), truth.reshape(len(truth), -1)
        scale = np.maximum(np.abs(truth), _formats.FORMATS[dtype].smallest_normal)
        return (np.abs(got - truth) / scale <= allowed[:, None]).all(axis=1)

    loss = accurate(subject.functions, rows.loss, _formats.COMPUTE[rows.dtype])
    gradient = accurate(subject.gradients, rows.gradient, rows.dtype)
    counts = {"both": loss & gradient, "loss": loss, "gradient": gradient}
    return {"rows": len(loss)} | {name: int(one.sum()) for name, one in counts.items()}


def measure(rows_per_size: int) -> pd.DataFrame:
    """Judge everyone who has a loss of rows, in every dtype: a record a size."""
    from xp_xent import backends
    from xp_xent.conformance import _formats, _subjects

    found = []
    for dtype in _formats.FORMATS:
        for classes, part in SIZES.items():
            print(f"{dtype}, {classes} classes", file=sys.stderr, flush=True)
            rows = certified_rows(dtype, classes, max(1, round(part * rows_per_size)))
            for subject in _subjects.subjects()[0]:
                known = subject.dtypes or backends.get(subject.backend).float_dtypes()
                compiled = subject.traced and subject.backend == "torch"
                if dtype in known and "cross_entropy" in subject.gradients and not compiled:
                    counts = judge(subject, rows)
                    found.append({"subject": subject.name, "dtype": dtype} | counts)
    return pd.DataFrame(found)


def main(
    rows: Annotated[int, typer.Option(help="Of each size; a fifth of 1000 classes.")] = 1000,
    json: Annotated[Path | None, typer.Option(help="Write the counts, too.")] = None,
) -> None:
    """Print the share of rows whose loss and gradient are accurate, for xp_xent and its peers."""
    from xp_xent.benchmarks._machine import prepare_libraries, versions

    prepare_libraries("float64")
    found = measure(rows)
    print(", ".join(f"{name} {number}" for name, number in versions(PACKAGES).items()))
    total = found.groupby(["subject", "dtype"], sort=False).sum()
    for count in ("both", "loss", "gradient"):
        shares = (100 * total[count] / total["rows"]).map("{:.2f}".format).unstack(sort=False)
        print(f"\naccurate, %: {count}\n{shares.fillna('–').to_markdown(disable_numparse=True)}")
    if json:
        found.to_json(json, orient="records", indent=1)
    ours = found[found["subject"].str.startswith("xp_xent")]
    raise typer.Exit(int((ours["both"] < ours["rows"]).any()))


if __name__ == "__main__":
    typer.run(main)
