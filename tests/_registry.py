"""Every public loss under each of its options, one deterministic small call a pair.

The tests of transforms run over it, and docs/transforms.md is written from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from _cases import Case, send
from _truth import Array

import xp_xent
from xp_xent.backends import Adapter

ROWS, CLASSES, FEATURES = 3, 4, 2  # one shape for all: JAX compiles every operation for each shape
ROW_OPTIONS = ("sample_weight", "where", "normalizer", "normalizer array", "sum", "none")
LABEL_OPTIONS = ("ignore_index", *ROW_OPTIONS)
SMOOTHED = ("weight", "label_smoothing", "smoothing", *ROW_OPTIONS)
SOFTMAX = ("z_loss", "softcap", *SMOOTHED)


@dataclass(frozen=True)
class Form:
    """A public function with one kind of targets, and the options that it has."""

    function: str
    targets: str | None
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Function and targets."""
        return "-".join(filter(None, (self.function, self.targets))).replace(" ", "_")


FORMS = (
    Form("cross_entropy", "labels", ("ignore_index", "axis", *SOFTMAX)),
    Form("cross_entropy", "probabilities", ("axis", *SOFTMAX)),
    Form("nll_loss", "labels", ("ignore_index", "axis", *SMOOTHED)),
    Form("nll_loss", "probabilities", ("axis", *SMOOTHED)),
    Form("linear_cross_entropy", "labels", ("ignore_index", "bias", *SOFTMAX)),
    Form("linear_cross_entropy", "probabilities", ("bias", *SOFTMAX)),
    Form("next_token_cross_entropy", "labels", ("ignore_index", *SOFTMAX)),
    Form("softmax_focal_loss", "labels", ("alpha", "alpha array", "gamma", "axis", *LABEL_OPTIONS)),
    Form("poly_cross_entropy", "labels", ("epsilon", "weight", "axis", *LABEL_OPTIONS)),
    Form(
        "binary_cross_entropy_with_logits",
        "0 or 1",
        ("element weight", "pos_weight", "label_smoothing", *ROW_OPTIONS[1:]),
    ),
    Form(
        "binary_cross_entropy_with_logits",
        "probabilities",
        ("element weight", "pos_weight", "label_smoothing", *ROW_OPTIONS[1:]),
    ),
    Form("sigmoid_focal_loss", "0 or 1", ("alpha", "gamma", *ROW_OPTIONS[1:])),
    Form("sigmoid_focal_loss", "probabilities", ("alpha", "gamma", *ROW_OPTIONS[1:])),
    Form("kl_divergence", "probabilities", ("log_targets", "normalized", "axis", *ROW_OPTIONS)),
    Form("jensen_shannon_divergence", "logits", ("beta", "axis", *ROW_OPTIONS)),
    Form("entropy", None, ("axis", "where", "sum", "none")),
    Form("perplexity", "labels", ("axis", "ignore_index", "sample_weight", "where")),
    Form("softmax", None, ("axis",)),
    Form("log_softmax", None, ("axis",)),
    Form("logsumexp", None, ("axis", "keepdims")),
    Form("sigmoid", None, ()),
    Form("log_sigmoid", None, ()),
)
ELEMENTWISE = ("binary_cross_entropy_with_logits", "sigmoid_focal_loss")
MAPS = ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid")
# Without value_and_grad and its relatives
NOT_LOSSES = ("perplexity", *MAPS)
# "all": every option at once; these three exclude one another, or the rest of the shape.
ALONE = ("axis", "sum", "none", "alpha", "normalizer", "normalized", "keepdims")


@dataclass(eq=False)
class Entry(Case):
    """A call of the registry, known by its identity."""

    form: Form = FORMS[0]
    option: str = "plain"

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def name(self) -> str:
        """Function, targets and option."""
        return f"{self.form.name}-{self.option}".replace(" ", "_")

    @property
    def floats(self) -> tuple[int | str, ...]:
        """Every array that can have a derivative: positions, and names of options."""
        return tuple(key for key, array in self.everything().items() if array.dtype.kind == "f")

    @property
    def closed(self) -> tuple[int | str, ...]:
        """Those that `value_and_grad` differentiates by."""
        return tuple(key for key in self.floats if isinstance(key, int) or key == "bias")

    def everything(self) -> dict[int | str, Array]:
        """Each array of the call, by position or name of the option."""
        options = {k: v for k, v in self.options.items() if isinstance(v, np.ndarray)}
        return dict(enumerate(self.arrays)) | options

    def bind(
        self, backend: Adapter, keys: tuple[int | str, ...], dtype: str = "float64"
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Give the call as a function of these arrays alone, and the arrays, on a library."""
        arrays, options = self.on(backend, dtype)

        def function(*values: Any) -> Any:
            positional, named = list(arrays), dict(options)
            for key, value in zip(keys, values, strict=True):
                (positional if isinstance(key, int) else named)[key] = value
            return self.function(*positional, **named)

        sent = dict(enumerate(arrays)) | options
        return function, [sent[key] for key in keys]

    def weighted(
        self, backend: Adapter, keys: tuple[int | str, ...], dtype: str = "float64"
    ) -> tuple[Callable[..., Any], list[Any]]:
        """`bind`, with the result weighed unevenly and summed: a scalar for any call."""
        function, values = self.bind(backend, keys, dtype)
        if self.cotangent is None:
            return function, values
        cotangent = send(backend, self.cotangent, "float64" if dtype == "float64" else "float32")

        def total(*values: Any) -> Any:
            return backend.xp.sum(function(*values) * cotangent)

        return total, values


def _arrays(form: Form, rows: int, rng: np.random.Generator) -> tuple[Array, ...]:
    logits = rng.normal(size=(rows, CLASSES)) * 2
    if form.function == "nll_loss":
        logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scores: tuple[Array, ...] = (logits,)
    if form.function == "linear_cross_entropy":
        scores = rng.normal(size=(rows, FEATURES)), rng.normal(size=(CLASSES, FEATURES))
    if form.targets is None:
        return scores
    if form.targets == "labels":
        # Of next tokens the first one is not predicted: what is left must count.
        first = 1 if form.function == "next_token_cross_entropy" else 0
        return *scores, (np.arange(rows) * 3 + first) % CLASSES
    if form.targets == "logits":
        return *scores, rng.normal(size=logits.shape) * 2
    if form.targets == "0 or 1":
        return *scores, (rng.random(logits.shape) < 0.4).astype(np.int64)
    q = rng.uniform(0.1, 1.0, logits.shape)
    return *scores, q if form.function in ELEMENTWISE else q / q.sum(axis=1, keepdims=True)


def _values(form: Form, rows: int, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    shape = (rows, CLASSES) if form.function in ELEMENTWISE else (rows,)
    where = np.ones(shape, dtype=bool)
    where[-1] = False
    return {
        "plain": {},
        "weight": {"weight": rng.uniform(0.5, 2.0, CLASSES)},
        "element weight": {"weight": rng.uniform(0.5, 2.0, shape)},
        "pos_weight": {"pos_weight": rng.uniform(0.5, 4.0, CLASSES)},
        "sample_weight": {"sample_weight": rng.uniform(0.5, 2.0, shape)},
        "where": {"where": where},
        "ignore_index": {"ignore_index": 3},
        "label_smoothing": {"label_smoothing": 0.1},
        "smoothing": {"label_smoothing": 0.2, "smoothing": "others"},
        "z_loss": {"z_loss": 0.1},
        "softcap": {"softcap": 5.0},
        "bias": {"bias": rng.normal(size=CLASSES)},
        "alpha": {"alpha": 0.3},
        "alpha array": {"alpha": rng.uniform(0.5, 2.0, CLASSES)},
        "gamma": {"gamma": 1.5},
        "epsilon": {"epsilon": 0.5},
        "beta": {"beta": 0.25},
        "log_targets": {"log_targets": True},
        "normalized": {"normalized": True},
        "normalizer": {"normalizer": 7.0},
        "normalizer array": {"normalizer": np.asarray(7.0)},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "axis": {"axis": 0},
        "keepdims": {"keepdims": True},
    }


def entry(form: Form, option: str, rows: int = ROWS) -> Entry:
    """Make a call with one option, or "all" that go together, for any number of rows."""
    rng = np.random.default_rng(5)
    arrays, values = _arrays(form, rows, rng), _values(form, rows, rng)
    options: dict[str, Any] = {}
    together = [name for name in form.options if name not in ALONE] if option == "all" else [option]
    for name in together:
        options |= values[name]
    cotangent = None
    if option == "none" or form.function in MAPS:
        losses = rows - 1 if form.function == "next_token_cross_entropy" else rows
        whole = form.function in ELEMENTWISE or form.function in MAPS
        shape = (rows, CLASSES) if whole else (losses,)
        cotangent = np.linspace(-1.0, 2.0, math.prod(shape)).reshape(shape)
        if form.function == "logsumexp":
            cotangent = cotangent[:, :1] if option == "keepdims" else cotangent[:, 0]
    if option == "axis":
        size = (rows, CLASSES)
        arrays = tuple(a.T.copy() if a.shape == size else a for a in arrays)
        options["axis"] = 0
        if cotangent is not None and cotangent.ndim == 2:
            cotangent = cotangent.T.copy()
    return Entry(form.function, arrays, options, cotangent, form, option)


@cache
def entries(form: Form) -> tuple[Entry, ...]:
    """Give the plain loss, the loss under each option, and under all at once."""
    together = [name for name in form.options if name not in ALONE]
    names = ("plain", *form.options, *(["all"] if len(together) > 1 else []))
    return tuple(entry(form, name) for name in names)


def fullest(form: Form, rows: int = ROWS) -> Entry:
    """Give a loss with all its options at once."""
    return entry(form, "all", rows)


def closed_gradients(case: Entry, backend: Adapter) -> tuple[Any, ...]:
    """Differentiate by `case.closed` with value_and_grad; none for what is not a loss."""
    if case.loss in NOT_LOSSES:
        return ()
    arrays, options = case.on(backend, "float64")
    if case.cotangent is not None:
        options["cotangent"] = send(backend, case.cotangent, "float64")
    return tuple(xp_xent.value_and_grad(case.function, case.closed)(*arrays, **options)[1])


def variants(value: Array) -> Array:
    """Stack an array of a call on another that fits its place, to map over."""
    return np.stack([value, np.roll(value, 1) if value.ndim else value + 1])
