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
    loss, gradient = np.empty(count), np.empty((count, classes))
    with ctx.workprec(256):
        for i, (z, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
            truth = reference.row(z, reference.masses(label, classes))
            loss[i], gradient[i] = float(truth.loss), [float(x) for x in truth.gradient]
    odds = tolerance.log_odds(logits)[rows, labels]
    return Rows(dtype, logits, labels, odds, loss, gradient)


def ask(subject: Any, rows: Rows) -> list[Array]:
    """Ask for the loss and the gradient of each row; exact in float64."""
    from xp_xent import backends

    backend = backends.get(subject.backend)
    # Rows are exact in their dtype, so the way through float32 changes nothing.
    host = rows.logits if rows.dtype == "float64" else rows.logits.astype(np.float32)
    given = backend.asarray(host, dtype=rows.dtype), backend.asarray(rows.labels, dtype="int64")
    calls = (subject.functions["cross_entropy"], subject.gradients["cross_entropy"])
    answers = [backend.to_numpy(call(*given, reduction="none")) for call in calls]
    return [answer.astype(np.float64) for answer in answers]


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
        "rows": len(both), "both": int(np.sum(both <= 1)), "loss": int(np.sum(of_loss <= 1)),
        "gradient": int(np.sum(of_gradient <= 1)), "worst": float(np.max(both)),
    }  # fmt: skip


def measure(rows_per_size: int) -> pd.DataFrame:
    """Judge every subject that has a loss of rows in every dtype: a record a size."""
    from xp_xent import backends
    from xp_xent.conformance import _formats, _subjects

    found = []
    asked = [s for s in _subjects.subjects()[0] if not s.traced or s.backend == "jax"]
    for dtype in _formats.FORMATS:
        for classes, part in SIZES.items():
            print(f"{dtype}, {classes} classes", file=sys.stderr, flush=True)
            rows = certified_rows(dtype, classes, max(1, round(part * rows_per_size)))
            for subject in asked:
                known = subject.dtypes or backends.get(subject.backend).float_dtypes()
                if dtype in known and "cross_entropy" in subject.gradients:
                    try:
                        counts = judge(rows, *ask(subject, rows))
                    except NotImplementedError:
                        continue
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
    total = found.groupby(["subject", "dtype"], sort=False).sum().reset_index()
    for count in ("both", "loss", "gradient"):
        share = total.assign(share=(100 * total[count] / total["rows"]).map("{:.2f}".format))
        table = share.pivot(index="subject", columns="dtype", values="share").fillna("–")
        table = table.reindex(index=total["subject"].unique(), columns=total["dtype"].unique())
        print(f"\naccurate, %: {count}\n{table.to_markdown(disable_numparse=True)}")
    if json:
        found.to_json(json, orient="records", indent=1)
    ours = found[found["subject"].str.startswith("xp_xent")]
    raise typer.Exit(int((ours["both"] < ours["rows"]).any()))


if __name__ == "__main__":
    typer.run(main)
