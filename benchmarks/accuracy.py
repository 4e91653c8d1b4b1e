"""The share of rows whose loss and gradient are accurate, for xp_xent and its peers.

python benchmarks/accuracy.py --json accuracy.json

A row of K classes with log-odds t against its class is accurate when its loss and every entry of
its gradient are within (8 + 2|t| + log2 K) eps of the truth, which is certified by ball
arithmetic. The loss of float16 and bfloat16 logits counts as a float32, their gradient in their
own dtype; below the smallest normal number its eps counts. Rows go from confident to hopeless, t
from -60 to 60. The exit status is 1 if xp_xent misses a row.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import typer
from flint import ctx

from xp_xent import backends
from xp_xent.benchmarks._machine import prepare_libraries, versions
from xp_xent.conformance import _enclosure, _subjects, reference, tolerance
from xp_xent.conformance._formats import COMPUTE, FORMATS

SIZES: Final = {2: 1.0, 3: 1.0, 10: 1.0, 1000: 0.2}  # classes -> share of --rows
FARTHEST: Final = 60.0
PACKAGES: Final = "xp_xent numpy torch jax dpnp mlx array-api-strict optax scipy".split()
Array = Any


def certified_rows(dtype: str, classes: int, count: int) -> tuple[Array, Array, Array, Array]:
    """Draw logits and labels with log-odds uniform over the range; certify loss and gradient."""
    draw = np.random.default_rng([0, classes])
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
        loss = np.asarray([[float(truth.loss)] for truth in truths])
        gradient = np.asarray([[float(x) for x in truth.gradient] for truth in truths])
    return logits, labels, loss, gradient


def judge(subject: Any, dtype: str, certified: tuple[Array, ...]) -> dict[str, Any]:
    """Ask for each row's loss and gradient, and count the accurate ones."""
    (logits, labels, *truths), backend = certified, backends.get(subject.backend)
    # Rows are exact in their dtype, so the way through float32 changes nothing.
    host = logits if dtype == "float64" else logits.astype(np.float32)
    given = backend.asarray(host, dtype=dtype), backend.asarray(labels, dtype="int64")
    odds = tolerance.log_odds(logits)[np.arange(len(labels)), labels]

    def accurate(calls: Any, truth: Array, dtype: str) -> Array:
        got = backend.to_numpy(calls["cross_entropy"](*given, reduction="none")).astype(np.float64)
        allowed = tolerance.row_tolerance(dtype, logits.shape[1], odds)
        scale = np.maximum(np.abs(truth), FORMATS[dtype].smallest_normal)
        return (np.abs(got.reshape(truth.shape) - truth) / scale <= allowed[:, None]).all(axis=1)

    loss = accurate(subject.functions, truths[0], COMPUTE[dtype])
    gradient = accurate(subject.gradients, truths[1], dtype)
    counts = {"both": loss & gradient, "loss": loss, "gradient": gradient}
    about = {"subject": subject.name, "dtype": dtype, "rows": len(loss)}
    return about | {name: int(one.sum()) for name, one in counts.items()}


def main(
    rows: Annotated[int, typer.Option(help="Of each size; a fifth of 1000 classes.")] = 1000,
    json: Annotated[Path | None, typer.Option(help="Write the counts, too.")] = None,
) -> None:
    """Print the share of rows whose loss and gradient are accurate, for xp_xent and its peers."""
    prepare_libraries("float64")
    records = []
    for dtype in FORMATS:
        for classes, part in SIZES.items():
            print(f"{dtype}, {classes} classes", file=sys.stderr, flush=True)
            certified = certified_rows(dtype, classes, max(1, round(part * rows)))
            for subject in _subjects.subjects()[0]:
                known = subject.dtypes or backends.get(subject.backend).float_dtypes()
                # What compilers and ranks compute is the same arithmetic, and takes long.
                again = (subject.traced and subject.backend == "torch") or "ranks" in subject.name
                if dtype in known and "cross_entropy" in subject.gradients and not again:
                    records.append(judge(subject, dtype, certified))
    found = pd.DataFrame(records)
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
