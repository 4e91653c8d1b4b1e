"""Random calls of every loss: shapes, axes, targets and any combination of options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
from _truth import Array, Truth, truth

import xp_xent
from xp_xent.backends import Adapter
from xp_xent.conformance._formats import COMPUTE

# K is 1 to 7 over the axes.
SHAPES = [(4,), (1, 7), (3, 2), (5, 4), (3, 2, 4), (2, 3, 2, 2)]
# JAX compiles each operation for each shape, and keeps it.
SHAPES_OF = {"jax": [(3, 4), (3, 2, 4)]}
LABELS = ["int8", "int16", "int32", "int64", "uint8"]


@dataclass
class Case:
    """One call, on the host; `cotangent` is for the derivative alone."""

    loss: str
    arrays: tuple[Array, ...]
    options: dict[str, Any]
    cotangent: Array | None = None

    @property
    def function(self) -> Any:
        """The public function."""
        return getattr(xp_xent, self.loss)

    @property
    def classes(self) -> int:
        """K; 2 where the loss is binary."""
        if self.loss in BINARY:
            return 2
        if self.loss == "linear_cross_entropy":
            return self.arrays[1].shape[0]
        return self.arrays[0].shape[self.options.get("axis", -1)]

    def on(self, backend: Adapter, dtype: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arrays and options there: arrays in `dtype`, array options as computed."""
        arrays = tuple(send(backend, a, dtype) for a in self.arrays)
        return arrays, {k: send(backend, v, held(k, dtype)) for k, v in self.options.items()}

    def rounded(self, backend: Adapter, dtype: str) -> Case:
        """The same call with the values that `dtype` can hold."""
        arrays = tuple(rounded(backend, a, dtype) for a in self.arrays)
        options = {k: rounded(backend, v, held(k, dtype)) for k, v in self.options.items()}
        return Case(self.loss, arrays, options, rounded(backend, self.cotangent, COMPUTE[dtype]))

    def truth(self, dtype: str = "float64") -> Truth:
        """What the call must answer, and the errors that logits of that dtype excuse."""
        return truth(self, dtype)


def held(option: str, dtype: str) -> str:
    """Give the dtype of an array option: a parameter has the logits', a weight that of the loss."""
    return dtype if option == "bias" else COMPUTE[dtype]


def is_float(value: Any) -> bool:
    """Whether it is a host array of floats."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def send(backend: Adapter, value: Any, dtype: str) -> Any:
    """A host array as the backend's: floats in `dtype`, integers and booleans as they are."""
    if not isinstance(value, np.ndarray):
        return value
    return backend.asarray(value, dtype=dtype if is_float(value) else None)


def rounded(backend: Adapter, value: Any, dtype: str) -> Any:
    """The float64 values that `send` leaves."""
    if not is_float(value):
        return value
    return np.asarray(backend.to_numpy(send(backend, value, dtype))).astype(np.float64)


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...], axis: int) -> Array:
    q = rng.random(shape) * (rng.random(shape) < 0.8) + 1e-3 * (rng.random(shape) < 0.5)
    # Not always summing to one: the formulas do not ask for it.
    return q / np.maximum(q.sum(axis=axis, keepdims=True), 0.5)


def _labels(rng: np.random.Generator, shape: tuple[int, ...], classes: int, draw: Any) -> Array:
    return np.asarray(rng.integers(0, classes, shape), dtype=draw(st.sampled_from(LABELS)))


def _reduction(draw: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    kind = draw(st.sampled_from(["mean", "sum", "none", "normalizer", "cotangent", "default"]))
    if kind == "normalizer":
        return {"reduction": "mean", "normalizer": float(rng.uniform(0.5, 40.0))}
    if kind == "cotangent":
        return {"reduction": "none", "cotangent": np.asarray(rng.normal(size=shape))}
    return {} if kind == "default" else {"reduction": kind}


def _options(
    draw: Any, rng: np.random.Generator, rows: tuple[int, ...], classes: int, names: list[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "weight": rng.uniform(0.2, 3.0, classes),
        "sample_weight": np.asarray(rng.uniform(0.1, 2.0, rows)),
        "where": np.asarray(rng.random(rows) < 0.7),
        "label_smoothing": float(rng.choice([0.1, 0.5, 1.0])),
        "smoothing": "uniform" if classes == 1 else "others",
        "z_loss": float(rng.choice([1e-4, 0.1])),
        "softcap": float(rng.choice([5.0, 30.0])),
        "temperature": float(rng.choice([0.5, 1.0, 3.0])),
        "class_where": rng.random((*rows, classes)) < 0.7,
        "ignore_index": [-100, 0, 1, 77, None][rng.integers(5)],
        "alpha": rng.uniform(0.1, 1.0, classes) if rng.random() < 0.5 else 0.25,
        "gamma": float(rng.choice([0.0, 0.5, 1.0, 2.0, 3.5])),
        "epsilon": float(rng.choice([0.5, 2.0])),
    }
    chosen = draw(st.sets(st.sampled_from(names)))
    return {name: values[name] for name in sorted(chosen)}


def _ignore(rng: np.random.Generator, labels: Array, options: dict[str, Any]) -> None:
    index = options.get("ignore_index", -100)
    if index is not None and np.can_cast(np.min_scalar_type(index), labels.dtype):
        labels[rng.random(labels.shape) < 0.3] = index


def _part(rng: np.random.Generator, loss: str, part: Array, targets: Array, axis: int) -> Array:
    """Give a mask of classes on which every row's target lies, for every row or for all."""
    part = part | (np.arange(part.shape[-1]) < 2)
    if targets.dtype.kind == "f":
        part = part | (np.moveaxis(targets, axis, -1) > 0)
    else:
        ahead = np.roll(targets, -1, axis=-1) if loss == "next_token_cross_entropy" else targets
        part = part | (ahead[..., None] == np.arange(part.shape[-1]))
    if rng.random() < 0.3:
        part = part.any(axis=tuple(range(part.ndim - 1)), keepdims=True)
    return np.moveaxis(part, -1, axis)


ROWS = ["sample_weight", "where"]
SMOOTH = ["weight", "label_smoothing", "smoothing", *ROWS]
SMOOTH += ["class_where"]
ALL = [*SMOOTH, "z_loss", "softcap", "temperature"]
# Names of the options each loss draws from, and whether it takes probabilities.
TAKES = {
    "cross_entropy": (ALL, True),
    "nll_loss": (SMOOTH, True),
    "linear_cross_entropy": (ALL, True),
    "next_token_cross_entropy": (ALL, False),
    "softmax_focal_loss": (["alpha", "gamma", *SMOOTH], True),
    "poly_cross_entropy": (["epsilon", *SMOOTH], True),
}
BINARY = ["binary_cross_entropy_with_logits", "sigmoid_focal_loss", "binary_cross_entropy"]
DISTRIBUTIONS = ["kl_divergence", "jensen_shannon_divergence", "entropy"]
LOSSES = [*TAKES, *BINARY, *DISTRIBUTIONS]


@st.composite
def cases(draw: Any, loss: str, library: str = "numpy") -> Case:
    """Any call of this loss, in shapes that suit the library."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from(SHAPES_OF.get(library, SHAPES)))
    scale = draw(st.sampled_from([0.5, 4.0, 25.0]))
    if loss in BINARY:
        return _binary(draw, rng, loss, shape, scale)
    if loss in DISTRIBUTIONS:
        return _distribution(draw, rng, loss, shape, scale)
    names, soft = TAKES[loss]
    if loss in ("linear_cross_entropy", "next_token_cross_entropy"):
        shape = shape if len(shape) > 1 else (3, *shape)
        axis = -1
    else:
        axis = draw(st.integers(-len(shape), len(shape) - 1))
    classes, rows = shape[axis], tuple(np.delete(shape, axis).tolist())
    logits = rng.normal(size=shape) * scale
    soft = soft and draw(st.booleans())
    if not soft:
        names = [*names, "ignore_index"]
    options = _options(draw, rng, rows, classes, names)
    if soft:
        targets = _probabilities(rng, shape, axis)
    else:
        targets = _labels(rng, rows, classes, draw)
        _ignore(rng, targets, options)
    if "class_where" in options:
        options["class_where"] = _part(rng, loss, options["class_where"], targets, axis)
    value_shape = (*rows[:-1], rows[-1] - 1) if loss == "next_token_cross_entropy" else rows
    options |= _reduction(draw, rng, value_shape)
    cotangent = options.pop("cotangent", None)
    if loss == "linear_cross_entropy":
        features, classifier = rng.normal(size=(*rows, 3)), rng.normal(size=(classes, 3)) * 2
        if draw(st.booleans()):
            options["bias"] = rng.normal(size=classes)
        return Case(loss, (features, classifier, targets), options, cotangent)
    if loss == "nll_loss":
        logits = logits - np.log(np.exp(logits).sum(axis=axis, keepdims=True))
    if loss != "next_token_cross_entropy" and axis != -1:
        options["axis"] = axis
    return Case(loss, (logits, targets), options, cotangent)


def _binary(
    draw: Any, rng: np.random.Generator, loss: str, shape: tuple[int, ...], scale: float
) -> Case:
    logits = rng.normal(size=shape) * scale
    kind = draw(st.sampled_from(["int64", "bool", "float64"]))
    targets = rng.random(shape) if kind == "float64" else (rng.random(shape) < 0.4).astype(kind)
    broadcast = [shape, shape[-1:], (1,) * len(shape)][rng.integers(3)]
    values: dict[str, Any] = {"where": rng.random(shape) < 0.7}
    values |= {"weight": rng.uniform(0.2, 3.0, broadcast), "label_smoothing": 0.1}
    values |= {"sample_weight": rng.uniform(0.1, 2.0, shape)}
    if kind == "int64":
        targets[rng.random(shape) < 0.3], values["ignore_index"] = 255, 255
    if loss == "sigmoid_focal_loss":
        values |= {"gamma": float(rng.choice([0.0, 1.0, 2.0, 3.5]))}
        values |= {"alpha": rng.uniform(0.1, 0.9, shape[-1:]) if rng.random() < 0.5 else 0.25}
    if loss == "binary_cross_entropy":
        logits = np.clip(1 / (1 + np.exp(-logits)), 0.05, 0.95)  # 1 is 1 in bfloat16 too
    else:
        values |= {"pos_weight": rng.uniform(0.2, 9.0, shape[-1:])}
    chosen = draw(st.sets(st.sampled_from(sorted(values))))
    if kind == "int64":
        chosen.add("ignore_index")
    options = {k: values[k] for k in sorted(chosen)} | _reduction(draw, rng, shape)
    cotangent = options.pop("cotangent", None)
    return Case(loss, (logits, targets), options, cotangent)


def _distribution(
    draw: Any, rng: np.random.Generator, loss: str, shape: tuple[int, ...], scale: float
) -> Case:
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    rows = tuple(np.delete(shape, axis).tolist())
    options: dict[str, Any] = {"axis": axis}
    if draw(st.booleans()):
        options["where"] = np.asarray(rng.random(rows) < 0.7)
    options |= _reduction(draw, rng, rows)
    options.pop("normalizer", None)
    cotangent = options.pop("cotangent", None)
    logits = rng.normal(size=shape) * scale
    targets: tuple[Array, ...] = ()
    if loss == "kl_divergence":
        targets = (_probabilities(rng, shape, axis),)
    elif loss == "jensen_shannon_divergence":
        targets = (rng.normal(size=shape) * scale,)
        options["beta"] = float(rng.choice([0.5, 0.125]))
    if draw(st.booleans()):
        options["temperature"] = float(rng.choice([0.5, 1.0, 3.0]))
    if draw(st.booleans()):
        part = rng.random((*rows, shape[axis])) < 0.7
        q = targets[0] if loss == "kl_divergence" else np.zeros(shape)
        options["class_where"] = _part(rng, loss, part, q, axis)
    return Case(loss, (logits, *targets), options, cotangent)
