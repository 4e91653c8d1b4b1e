"""Arguments, labels, smoothing, class weights: the rows of the semantics table about targets."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from _cases import COMPUTE, LOSSES
from _tools import assert_near, call, value_and_grad
from _truth import Array

import xp_xent
from xp_xent import cross_entropy, nll_loss
from xp_xent.backends import Adapter

RNG = np.random.default_rng(7)
LOGITS = RNG.normal(size=(6, 5)) * 3
LABELS = np.array([0, 4, 2, 2, 1, 3])
ELL = -(LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True)))  # ℓ_c of every class
PICKED = ELL[np.arange(6), LABELS]
WEIGHT = np.array([0.5, 2.0, 1.0, 3.0, 0.25])
PROBABILITIES = RNG.dirichlet(np.ones(5), size=6)
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def near(got: Array, want: Any, scale: Any = None, *, spread: float = 20.0) -> None:
    """In float64, against a formula written out in float64."""
    want = np.asarray(want)
    size = np.abs(want if scale is None else scale)
    assert_near(got, want, size, dtype="float64", classes=5, spread=spread)


class TestArguments:
    """Row "arguments"."""

    @pytest.mark.parametrize("name", [*LOSSES, "perplexity", "softmax", "logsumexp", "diagnose"])
    def test_arrays_are_positional_options_are_keywords(self, name: str) -> None:
        kinds = [p.kind for p in inspect.signature(getattr(xp_xent, name)).parameters.values()]
        assert set(kinds) == {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY}

    @pytest.mark.parametrize("name", sorted(set(LOSSES) & set(xp_xent.__all__)))
    def test_the_last_axis_is_the_default(self, name: str) -> None:
        axis = inspect.signature(getattr(xp_xent, name)).parameters.get("axis")
        assert axis is None or axis.default == -1

    @pytest.mark.parametrize("axis", [0, 1, 2, 3, -4, -2])
    def test_class_axis_anywhere(self, backend: Adapter, axis: int) -> None:
        """keras#21097: the axis was ignored."""
        logits = np.moveaxis(LOGITS.reshape(2, 3, 1, 5), -1, axis)
        labels = LABELS.reshape(2, 3, 1)
        rows = call(backend, "float64", cross_entropy, logits, labels, axis=axis, reduction="none")
        near(rows, PICKED.reshape(2, 3, 1))

    def test_one_row_alone(self, backend: Adapter) -> None:
        row = call(backend, "float64", cross_entropy, LOGITS[1], np.array(4), reduction="none")
        near(row, PICKED[1])


class TestLabels:
    """Row "labels"."""

    @pytest.mark.parametrize("kind", INTEGERS)
    def test_any_integer_dtype(self, backend: Adapter, kind: str) -> None:
        """pytorch#45540: int64 only."""
        usual = value_and_grad(backend, cross_entropy, LOGITS, LABELS, label_smoothing=0.1)
        labels = LABELS.astype(kind)
        for got, want in zip(
            value_and_grad(backend, cross_entropy, LOGITS, labels, label_smoothing=0.1),
            usual,
            strict=True,
        ):
            assert np.array_equal(got, want)

    @pytest.mark.parametrize("kind", ["uint8", "uint16", "int8", "int64"])
    def test_ignored_label_of_any_integer_dtype(self, backend: Adapter, kind: str) -> None:
        """Nothing wraps: −100 is no unsigned label, and 255 may be the one to ignore."""
        labels = LABELS.astype(kind)
        whole = call(backend, "float64", cross_entropy, LOGITS, labels)
        near(whole, PICKED.mean())
        ignored = 255 if kind.startswith("u") else -100
        labels[1] = ignored
        some = call(backend, "float64", cross_entropy, LOGITS, labels, ignore_index=ignored)
        near(some, np.delete(PICKED, 1).mean())

    def test_minus_one_is_no_label_of_the_last_class(self, backend: Adapter) -> None:
        """A negative label must not count from the end, even where it is the ignored one."""
        labels = np.where(LABELS == 4, -1, LABELS)
        rows = call(
            backend, "float64", cross_entropy, LOGITS, labels, ignore_index=-1, reduction="none"
        )
        near(rows, np.where(LABELS == 4, 0, PICKED))

    @pytest.mark.parametrize("smoothing", ["uniform", "others"])
    def test_one_hot_is_the_index(self, backend: Adapter, dtype: str, smoothing: str) -> None:
        how: dict[str, Any] = {"label_smoothing": 0.2, "smoothing": smoothing, "reduction": "none"}
        index = value_and_grad(backend, cross_entropy, LOGITS, LABELS, dtype=dtype, **how)
        hot = value_and_grad(backend, cross_entropy, LOGITS, np.eye(5)[LABELS], dtype=dtype, **how)
        for got, want, kind in zip(hot, index, (COMPUTE[dtype], dtype), strict=True):
            exactly = want.astype(np.float64)
            scale = np.maximum(np.abs(exactly), 0.3)  # of p and q, whose difference a gradient is
            assert_near(got, exactly, scale, dtype=kind, classes=5, spread=20)

    def test_probabilities_need_not_sum_to_one(self, backend: Adapter) -> None:
        q = PROBABILITIES * 2.5
        near(call(backend, "float64", cross_entropy, LOGITS, q, reduction="none"), (q * ELL).sum(1))


class TestLabelSmoothing:
    """Row "label smoothing"."""

    def test_uniform(self, backend: Adapter) -> None:
        rows = call(
            backend, "float64", cross_entropy, LOGITS, LABELS, label_smoothing=0.3, reduction="none"
        )
        near(rows, 0.7 * PICKED + 0.3 * ELL.mean(axis=1))

    def test_others(self, backend: Adapter) -> None:
        """Megatron-LM#737: ε/(K−1) goes to the other classes, 1 − ε stays."""
        rows = call(
            backend,
            "float64",
            cross_entropy,
            LOGITS,
            LABELS,
            label_smoothing=0.3,
            smoothing="others",
            reduction="none",
        )
        near(rows, 0.7 * PICKED + 0.3 / 4 * (ELL.sum(axis=1) - PICKED))

    def test_all_mass_spread(self, backend: Adapter) -> None:
        mean = call(backend, "float64", cross_entropy, LOGITS, LABELS, label_smoothing=1.0)
        near(mean, ELL.mean())

    def test_defaults(self) -> None:
        parameters = inspect.signature(cross_entropy).parameters
        assert parameters["label_smoothing"].default == 0.0
        assert parameters["smoothing"].default == "uniform"


class TestClassWeights:
    """Rows "class weights, mean" and "smoothing with class weights or probabilities"."""

    def test_index_mean(self, backend: Adapter) -> None:
        """pytorch#8062, #61309: the weighted mean divides by the weights of the labels."""
        mean = call(backend, "float64", cross_entropy, LOGITS, LABELS, weight=WEIGHT)
        share = WEIGHT[LABELS]
        near(mean, (share * PICKED).sum() / share.sum())

    def test_probability_mean(self, backend: Adapter) -> None:
        mean = call(backend, "float64", cross_entropy, LOGITS, PROBABILITIES, weight=WEIGHT)
        near(mean, (PROBABILITIES * WEIGHT * ELL).sum() / 6)

    def test_weighted_mean_with_ignored_rows(self, backend: Adapter) -> None:
        """pytorch#73205, #65329: smoothing, weights and an ignored row at once."""
        labels = LABELS.copy()
        labels[2] = -100
        kept = np.delete(np.arange(6), 2)
        how: dict[str, Any] = {"weight": WEIGHT, "label_smoothing": 0.3}
        some = call(backend, "float64", cross_entropy, LOGITS, labels, **how)
        less = call(backend, "float64", cross_entropy, LOGITS[kept], LABELS[kept], **how)
        near(some, less)

    def test_uniform_smoothing(self, backend: Adapter) -> None:
        """pytorch#69339, #91383: each class's term carries its own weight."""
        own = 0.7 * WEIGHT[LABELS] * PICKED + 0.3 / 5 * (WEIGHT * ELL).sum(axis=1)
        mean = call(
            backend, "float64", cross_entropy, LOGITS, LABELS, weight=WEIGHT, label_smoothing=0.3
        )
        near(mean, own.sum() / WEIGHT[LABELS].sum())

    def test_others_smoothing(self, backend: Adapter) -> None:
        rest = (WEIGHT * ELL).sum(axis=1) - WEIGHT[LABELS] * PICKED
        own = 0.7 * WEIGHT[LABELS] * PICKED + 0.3 / 4 * rest
        how: dict[str, Any] = {"label_smoothing": 0.3, "smoothing": "others", "weight": WEIGHT}
        near(
            call(backend, "float64", cross_entropy, LOGITS, LABELS, **how),
            own.sum() / WEIGHT[LABELS].sum(),
        )

    @pytest.mark.parametrize("smoothing", ["uniform", "others"])
    def test_smoothed_probabilities(self, backend: Adapter, smoothing: str) -> None:
        q = PROBABILITIES * 1.5
        spread = 0.3 / 5 if smoothing == "uniform" else 0.3 * (1.5 - q) / 4
        own = ((0.7 * q + spread) * WEIGHT * ELL).sum(axis=1)
        how: dict[str, Any] = {"label_smoothing": 0.3, "smoothing": smoothing, "weight": WEIGHT}
        near(call(backend, "float64", cross_entropy, LOGITS, q, **how), own.mean())

    def test_class_of_weight_zero(self, backend: Adapter) -> None:
        """Its rows have no loss, no gradient and no share, even when they are hopeless."""
        logits = LOGITS.copy()
        logits[0, 0] = -np.inf
        weight = WEIGHT.copy()
        weight[0] = 0
        value, gradient = value_and_grad(
            backend, cross_entropy, logits, LABELS, dtype="float64", weight=weight
        )
        share = weight[LABELS[1:]]
        near(value, (share * PICKED[1:]).sum() / share.sum())
        assert (gradient[0] == 0).all()

    def test_nll_of_log_probabilities(self, backend: Adapter) -> None:
        how: dict[str, Any] = {"weight": WEIGHT, "label_smoothing": 0.3}
        whole = call(backend, "float64", cross_entropy, LOGITS, LABELS, **how)
        near(call(backend, "float64", nll_loss, -ELL, LABELS, **how), whole)


class TestSampleWeight:
    """Row "sample_weight"."""

    SAMPLES = np.array([1.0, 0.0, 2.0, 0.5, 4.0, 1.0])

    def test_multiplies_loss_and_share(self, backend: Adapter) -> None:
        how = {"weight": WEIGHT, "sample_weight": self.SAMPLES}
        share = WEIGHT[LABELS] * self.SAMPLES
        mean = call(backend, "float64", cross_entropy, LOGITS, LABELS, **how)
        near(mean, (share * PICKED).sum() / share.sum())
        rows = call(backend, "float64", cross_entropy, LOGITS, LABELS, **how, reduction="none")
        near(rows, share * PICKED)

    def test_probabilities_divide_by_the_sample_weights(self, backend: Adapter) -> None:
        mean = call(
            backend, "float64", cross_entropy, LOGITS, PROBABILITIES, sample_weight=self.SAMPLES
        )
        own = (PROBABILITIES * ELL).sum(axis=1)
        near(mean, (self.SAMPLES * own).sum() / self.SAMPLES.sum())

    def test_a_weight_of_two_is_the_row_twice(self, backend: Adapter) -> None:
        twice = np.repeat(np.arange(6), [2, 1, 1, 1, 1, 1])
        doubled = call(backend, "float64", cross_entropy, LOGITS[twice], LABELS[twice])
        weights = np.array([2.0, 1, 1, 1, 1, 1])
        near(
            call(backend, "float64", cross_entropy, LOGITS, LABELS, sample_weight=weights), doubled
        )
