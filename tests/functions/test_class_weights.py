"""Weights against imbalance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import assert_near, call, error_of
from _truth import Array

from xp_xent import balanced_class_weights, effective_number_weights, positive_class_weight
from xp_xent.backends import Adapter

SAMPLES = np.random.default_rng(5).integers(1, 40, 50) / 16  # exact in every dtype
LABELS = np.repeat(np.arange(4), [40, 1, 7, 2])
COUNTS = np.array([40, 1, 7, 2])


def near(got: Array, want: Any) -> None:
    """In the library's default floating dtype, whichever that is."""
    kind = "float32" if got.dtype == np.float32 else "float64"
    assert_near(got, np.asarray(want, dtype=float), want, dtype=kind, classes=4, spread=0.0)


class TestBalanced:
    """N / (K n_c)."""

    def test_scikit_learn_agrees(self, backend: Adapter) -> None:
        utils = pytest.importorskip("sklearn.utils.class_weight")
        want = utils.compute_class_weight("balanced", classes=np.arange(4), y=LABELS)
        near(call(backend, "float32", balanced_class_weights, LABELS, 4), want)

    def test_any_shape_order_and_integer(self, backend: Adapter) -> None:
        labels = np.random.default_rng(0).permutation(LABELS).reshape(5, 10).astype(np.uint8)
        near(call(backend, "float32", balanced_class_weights, labels, 4), 50 / (4 * COUNTS))

    def test_ignored_labels(self, backend: Adapter) -> None:
        labels = np.append(LABELS, [-100] * 9)
        near(call(backend, "float32", balanced_class_weights, labels, 4), 50 / (4 * COUNTS))
        kept = np.array([40, 1, 2])
        got = call(backend, "float32", balanced_class_weights, LABELS, 4, ignore_index=2)
        near(got, [*43 / (4 * kept[:2]), 0, 43 / (4 * kept[2])])
        for beyond in (2**32 - 100, -(2**70)):  # no label of any dtype
            got = call(backend, "float32", balanced_class_weights, LABELS, 4, ignore_index=beyond)
            near(got, 50 / (4 * COUNTS))

    def test_a_class_without_labels(self, backend: Adapter) -> None:
        got = call(backend, "float32", balanced_class_weights, LABELS, 6)
        near(got, [*50 / (6 * COUNTS), 0, 0])


class TestEffectiveNumber:
    """Cui et al., CVPR 2019: (1 − β) / (1 − β^n), scaled to sum to K."""

    @pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.999, 0.9999999])
    def test_formula(self, backend: Adapter, beta: float) -> None:
        number = -np.expm1(COUNTS * np.log(beta)) / (1 - beta) if beta else np.ones(4)
        want = 4 / number / (1 / number).sum()
        got = call(backend, "float32", effective_number_weights, LABELS, 4, beta=beta)
        near(got, want)

    def test_extremes(self) -> None:
        assert np.array_equal(effective_number_weights(LABELS, 4, beta=0.0), np.ones(4))
        inverse = 1 / COUNTS
        got = effective_number_weights(LABELS, 4, beta=1 - 2**-50)
        assert np.abs(got - 4 * inverse / inverse.sum()).max() < 2**-40

    def test_a_class_without_labels(self, backend: Adapter) -> None:
        got = call(backend, "float32", effective_number_weights, LABELS, 6)
        assert (got[4:] == 0).all()
        assert np.isfinite(got).all()

    def test_ignored_labels(self, backend: Adapter) -> None:
        kept = LABELS[LABELS != 2]
        want = call(backend, "float32", effective_number_weights, kept, 4)
        got = call(backend, "float32", effective_number_weights, LABELS, 4, ignore_index=2)
        near(got, want)
        assert got[2] == 0

    @pytest.mark.parametrize("beta", [1.0, 1.5, -0.1, np.nan])
    def test_beta(self, beta: float) -> None:
        assert "beta" in str(error_of(effective_number_weights, LABELS, 4, beta=beta))


class TestWeightedSamples:
    """Counts become sums of weights; `absent` says what becomes of classes that do not occur."""

    WEIGHED = np.bincount(LABELS, SAMPLES)

    def test_balanced(self, backend: Adapter) -> None:
        want = self.WEIGHED.sum() / (4 * self.WEIGHED)
        how: dict[str, Any] = {"sample_weight": SAMPLES}
        near(call(backend, "float32", balanced_class_weights, LABELS, 4, **how), want)
        order = np.random.default_rng(0).permutation(50)
        how = {"sample_weight": SAMPLES[order].reshape(5, 10)}
        shuffled = LABELS[order].reshape(5, 10)
        near(call(backend, "float32", balanced_class_weights, shuffled, 4, **how), want)

    def test_scikit_learn_agrees(self, backend: Adapter) -> None:
        utils = pytest.importorskip("sklearn.utils.class_weight")
        how: dict[str, Any] = {"sample_weight": SAMPLES}
        want = utils.compute_class_weight("balanced", classes=np.arange(4), y=LABELS, **how)
        near(call(backend, "float32", balanced_class_weights, LABELS, 4, **how), want)

    def test_effective_number(self, backend: Adapter) -> None:
        number = 1 - 0.9**self.WEIGHED
        want = 4 / number / (1 / number).sum()
        how: dict[str, Any] = {"sample_weight": SAMPLES, "beta": 0.9}
        near(call(backend, "float32", effective_number_weights, LABELS, 4, **how), want)

    def test_ones_are_none(self, backend: Adapter) -> None:
        for function in (balanced_class_weights, effective_number_weights):
            how: dict[str, Any] = {"sample_weight": np.ones(50), "ignore_index": 2}
            want = call(backend, "float32", function, LABELS, 4, ignore_index=2)
            near(call(backend, "float32", function, LABELS, 4, **how), want)

    def test_what_is_not_counted_may_weigh_anything(self, backend: Adapter) -> None:
        """And a rare class keeps its digits beside heavy ones."""
        labels, weight = (
            np.array([0, 1, 2, -100, 9]),
            np.array([2.0**20, 2.0**-20, 3, np.nan, np.inf]),
        )
        how: dict[str, Any] = {"sample_weight": weight}
        kept = weight[:3]
        got = call(backend, "float32", balanced_class_weights, labels, 3, **how)
        near(got, kept.sum() / (3 * kept))

    def test_positive(self, backend: Adapter) -> None:
        targets = np.random.default_rng(2).integers(0, 2, (50, 3)).astype(np.float32)
        weighed = SAMPLES @ targets
        want = (SAMPLES.sum() - weighed) / weighed
        how: dict[str, Any] = {"sample_weight": SAMPLES}
        near(call(backend, "float32", positive_class_weight, targets, **how), want)
        near(call(backend, "float32", positive_class_weight, targets.T.copy(), axis=1, **how), want)

    def test_absent(self, backend: Adapter) -> None:
        got = call(backend, "float32", balanced_class_weights, LABELS, 6, absent="zero")
        near(got, [*50 / (4 * COUNTS), 0, 0])
        got = call(backend, "float32", effective_number_weights, LABELS, 6, absent="zero")
        want = call(backend, "float32", effective_number_weights, LABELS, 4)
        near(got, [*want, 0, 0])
        weight = np.where(LABELS == 1, 0.0, 1.0)  # weighs nothing: does not occur
        how: dict[str, Any] = {"sample_weight": weight, "absent": "zero"}
        got = call(backend, "float32", balanced_class_weights, LABELS, 4, **how)
        near(got, [49 / 120, 0, 49 / 21, 49 / 6])
        targets = np.array([[1, 0], [0, 0]])
        near(call(backend, "float32", positive_class_weight, targets, absent="zero"), [1, 0])

    @pytest.mark.parametrize("function", [balanced_class_weights, effective_number_weights])
    def test_refused(self, backend: Adapter, function: Any) -> None:
        labels = backend.asarray(LABELS)
        if backend.can_read_values(labels):
            message = str(error_of(function, labels, 6, absent="error"))
            assert "labels: got none of class 4 (2 of 6 classes)" in message
        else:
            got = backend.to_numpy(function(labels, 6, absent="error"))
            assert np.isnan(got).tolist() == [False] * 4 + [True] * 2
        assert function(labels, 4, absent="error").shape == (4,)
        assert "absent" in str(error_of(function, labels, 4, absent="skip"))
        short = backend.asarray(SAMPLES[:4])
        assert "sample_weight" in str(error_of(function, labels, 4, sample_weight=short))

    def test_compiled_by_jax(self) -> None:
        jax = pytest.importorskip("jax")
        weights = jax.jit(
            lambda y, w: balanced_class_weights(y, 5, sample_weight=w, absent="error")
        )(jax.numpy.asarray(LABELS), jax.numpy.asarray(SAMPLES))
        near(np.asarray(weights), [*SAMPLES.sum() / (5 * self.WEIGHED), np.nan])


class TestPositive:
    """Negatives per positive."""

    @pytest.mark.parametrize("kind", ["int64", "bool", "uint8", "float32"])
    def test_multilabel(self, backend: Adapter, kind: str) -> None:
        targets = np.zeros((8, 3), dtype=kind)
        targets[:2, 0] = targets[:4, 1] = targets[:7, 2] = 1
        near(call(backend, "float32", positive_class_weight, targets), [3, 1, 1 / 7])
        got = call(backend, "float32", positive_class_weight, targets.T, axis=1)
        near(got, [3, 1, 1 / 7])

    def test_binary(self, backend: Adapter) -> None:
        near(call(backend, "float32", positive_class_weight, np.array([1, 0, 0, 0])), 3.0)

    def test_no_positive(self) -> None:
        """No weight makes up for it, and inf would turn a loss into NaN."""
        message = str(error_of(positive_class_weight, np.array([[1, 0], [0, 0]])))
        assert "targets" in message
        assert "positive" in message


@pytest.mark.parametrize("function", [balanced_class_weights, effective_number_weights])
@pytest.mark.parametrize(
    ("labels", "classes", "named"),
    [
        (LABELS.astype(float), 4, "labels"),
        (LABELS, 0, "num_classes"),
        (LABELS, 4.0, "num_classes"),
        (LABELS.tolist(), 4, "labels"),
    ],
)
def test_wrong_arguments(function: Any, labels: Any, classes: Any, named: str) -> None:
    assert named in str(error_of(function, labels, classes))
