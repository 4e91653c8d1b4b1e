"""Weights against imbalance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import assert_near, call, error_of
from _truth import Array

from xp_xent import balanced_class_weights, effective_number_weights, positive_class_weight
from xp_xent.backends import Adapter

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
