"""Write a loss and its gradient as ONNX models, which run wherever onnxruntime does.

ONNX has no derivatives, and needs none here: `value_and_grad` is a closed form, and is written down
like the loss. The number of rows is a symbol, N. Each model runs on batches of several sizes and is
compared with NumPy, in ULP; then rows of growing confidence show what is left of their losses, also
by ONNX's own operator SoftmaxCrossEntropyLoss, which subtracts logarithms.

    python examples/onnx_export.py [--folder DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ndonnx
import numpy as np
import onnx
import onnxruntime
from common import print_table

from xp_xent import cross_entropy, value_and_grad

CLASSES = 10
SIZES = (1, 7, 1000)
LEADS = (0, 5, 10, 15, 20, 40, 80)  # how far a label's logit is above the others, all 0
NEAR = 48  # ULP, (8 + 2|t| + log₂ K)·eps: what log-odds t up to 18 excuse


def export(path: Path, function: Callable[..., Any], names: tuple[str, ...]) -> None:
    """Write what a function of logits and labels returns as a model."""
    inputs = {
        "logits": ndonnx.argument(shape=("N", CLASSES), dtype=ndonnx.float32),
        "labels": ndonnx.argument(shape=("N",), dtype=ndonnx.int64),
    }
    found = function(*inputs.values())
    outputs = dict(zip(names, found if isinstance(found, tuple) else (found,), strict=True))
    onnx.save(ndonnx.build(inputs, outputs), path)


def export_operator(path: Path) -> None:
    """Write ONNX's own loss of each row as a model."""
    make = onnx.helper.make_tensor_value_info
    inputs = [
        make("logits", onnx.TensorProto.FLOAT, ["N", CLASSES]),
        make("labels", onnx.TensorProto.INT64, ["N"]),
    ]
    names = [x.name for x in inputs]
    node = onnx.helper.make_node("SoftmaxCrossEntropyLoss", names, ["loss"], reduction="none")
    losses = make("loss", onnx.TensorProto.FLOAT, ["N"])
    graph = onnx.helper.make_graph([node], "operator", inputs, [losses])
    opset = onnx.helper.make_opsetid("", 21)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def run(path: Path, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, {"logits": logits, "labels": labels}))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance in ULP."""
    return float(np.max(np.abs(one - other) / np.spacing(np.abs(other))))


def rows_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, labels: loss(logits, labels, reduction="none")


def compare(folder: Path) -> bool:
    """Compare loss and gradient with NumPy on random logits."""
    both = value_and_grad(cross_entropy)
    models = {"loss": cross_entropy, "loss and gradient": both}
    rng, rows, worst = np.random.default_rng(0), [], 0.0
    for name, function in models.items():
        path, names = folder / f"{name.replace(' ', '_')}.onnx", ("loss", "gradient")
        export(path, function, names if function is both else names[:1])
        for size in SIZES:
            logits = 3 * rng.standard_normal((size, CLASSES), dtype=np.float32)
            labels = rng.integers(0, CLASSES, size)
            wanted = function(logits, labels)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            off = [distance(*pair) for pair in zip(run(path, logits, labels), wanted, strict=True)]
            worst = max(worst, *off)
            cells = [f"{x:g}" for x in off] + ["–"] * (2 - len(off))
            rows.append((f"{path.name}, N = {size}", f"{path.stat().st_size:,}", *cells))
    print_table(("model", "bytes", "loss, ULP from NumPy's", "gradient"), rows)
    return worst <= NEAR


def confident(folder: Path) -> bool:
    """Compare rows of growing confidence with their losses in double precision."""
    logits = np.zeros((len(LEADS), CLASSES), dtype=np.float32)
    logits[:, 0] = LEADS
    labels = np.zeros(len(LEADS), dtype=np.int64)
    export(folder / "rows.onnx", rows_of(cross_entropy), ("loss",))
    export_operator(folder / "operator.onnx")
    truth = cross_entropy(logits.astype(np.float64), labels, reduction="none")
    (ours,), (operator,) = (run(folder / f"{x}.onnx", logits, labels) for x in ("rows", "operator"))
    numpy = cross_entropy(logits, labels, reduction="none")
    errors = [np.abs(x - truth) / truth for x in (numpy, ours, operator)]
    rows = [
        (lead, f"{loss:.6g}", *(f"{x:.1e}" for x in found))
        for lead, loss, *found in zip(LEADS, truth, *errors, strict=True)
    ]
    header = ("lead", "loss", "error of xp_xent, NumPy", "ONNX", "SoftmaxCrossEntropyLoss")
    print_table(header, rows)
    return bool(max(errors[1]) < 1e-5)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write the models, and to keep them")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        near, accurate = compare(folder), confident(folder)
    print(f"\nThe models {'agree' if near else 'DO NOT agree'} with NumPy to {NEAR} ULP;", end=" ")
    print(f"their confident rows {'keep' if accurate else 'DO NOT keep'} their digits.")
    return 0 if near and accurate else 1


if __name__ == "__main__":
    sys.exit(main())
