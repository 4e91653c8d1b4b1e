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
from _forms import (
    ALONE,
    CLASSES,
    ELEMENTWISE,
    FEATURES,
    FORMS,
    MAPS,
    NOT_LOSSES,
    ROWS,
    TRANSFORMED,
    UNBOUNDED,
    Form,
)
from _truth import Array

import xp_xent
from xp_xent.backends import Adapter, backend_of


def logarithm(*arrays: Any, **options: Any) -> Any:
    """Give the logarithm, without the sign, which has no derivative."""
    return xp_xent.logsumexp(*arrays, **options)[0]


def finite_log_softmax(*arrays: Any, **options: Any) -> Any:
    """Give 0 where an entry takes no part."""
    found = xp_xent.log_softmax(*arrays, **options)
    xp = backend_of(found).xp
    return xp.where(found == -xp.inf, 0.0, found)


@dataclass(eq=False)
class Entry(Case):
    """A call of the registry, known by its identity."""

    form: Form = FORMS[0]
    option: str = "plain"

    @property
    def function(self) -> Any:
        """The public function, or one that gives the finite part of its result."""
        if self.options.get("return_sign"):
            return logarithm
        if self.loss == "log_softmax" and "where" in self.options:
            return finite_log_softmax
        return getattr(xp_xent, self.loss)

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
        named = ("bias", "temperature")
        return tuple(key for key in self.floats if isinstance(key, int) or key in named)

    @property
    def bounded(self) -> bool:
        """Whether the magnitudes in a row of the Hessian have a sum in closed form."""
        spread = self.form.targets == "probabilities" or "label_smoothing" in self.options
        return self.loss not in UNBOUNDED and not (self.loss in TRANSFORMED and spread)

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
    if form.function == "binary_cross_entropy":
        logits = 1 / (1 + np.exp(-logits))
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


def _part(form: Form, rows: int) -> Array:
    """Leave a class out on which no target lies: of few rows one that has no label at all."""
    if form.targets == "probabilities":  # each class has some
        return np.ones((rows, CLASSES), dtype=bool)
    first = 4 if form.function == "next_token_cross_entropy" else 0
    labels = np.arange(rows) * 3 + first
    absent = (labels + 2) % CLASSES if rows > ROWS else np.full(rows, 1 + first // 4)
    return np.asarray(np.arange(CLASSES) != absent[:, None])


def _values(form: Form, rows: int, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    shape = (rows, CLASSES) if form.function in ELEMENTWISE else (rows,)
    where = np.ones(shape, dtype=bool)
    where[-1] = False
    entries = np.ones((rows, CLASSES), dtype=bool)
    entries[-1, 1:] = False
    entries[0, 0] = False
    signed = np.linspace(-0.5, 2.0, CLASSES)
    return {
        "plain": {},
        "weight": {"weight": rng.uniform(0.5, 2.0, CLASSES)},
        "element weight": {"weight": rng.uniform(0.5, 2.0, shape)},
        "pos_weight": {"pos_weight": rng.uniform(0.5, 4.0, CLASSES)},
        "sample_weight": {"sample_weight": rng.uniform(0.5, 2.0, shape)},
        "where": {"where": where},
        "ignore_index": {"ignore_index": 1 if form.function in ELEMENTWISE else 3},
        "label_smoothing": {"label_smoothing": 0.1},
        "smoothing": {"label_smoothing": 0.2, "smoothing": "others"},
        "z_loss": {"z_loss": 0.1},
        "softcap": {"softcap": 5.0},
        "bias": {"bias": rng.normal(size=CLASSES)},
        "alpha": {"alpha": 0.3},
        "alpha array": {"alpha": rng.uniform(0.2, 0.9, CLASSES)},
        "gamma": {"gamma": 1.5},
        "epsilon": {"epsilon": 0.5},
        "class_where": {"class_where": _part(form, rows)},
        "alpha of one number": {"alpha": np.asarray(0.3)},
        **{
            f"{name} array": {name: np.asarray(value)}
            for name, value in (
                ("label_smoothing", 0.1),
                ("z_loss", 0.1),
                ("softcap", 5.0),
                ("temperature", 1.5),
                ("gamma", 1.5),
                ("epsilon", 0.5),
                ("beta", 0.25),
            )
        },
        "beta": {"beta": 0.25},
        "log_targets": {"log_targets": True},
        "normalized": {"normalized": True},
        "normalizer": {"normalizer": 7.0},
        "normalizer array": {"normalizer": np.asarray(7.0)},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "axis": {"axis": 0},
        "over": {"over": -1},
        "keepdims": {"keepdims": True},
        "entries where": {"where": entries},
        "temperature": {"temperature": 0.7},
        "b": {"b": rng.uniform(0.5, 2.0, CLASSES)},
        "return_sign": {"b": signed, "return_sign": True},
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
    return np.stack([value, np.roll(value, 1, axis=0) if value.ndim else 0.75 * value])
