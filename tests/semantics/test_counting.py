"""What counts: ignored rows, reductions, empty inputs, labels out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import send
from _tools import assert_near, call, error_of, value_and_grad
from _truth import Array

import xp_xent
from xp_xent import cross_entropy, poly_cross_entropy, softmax_focal_loss
from xp_xent.backends import Adapter

RNG = np.random.default_rng(11)
LOGITS = RNG.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, 1, 2, 2, 1])
PROBABILITIES = RNG.dirichlet(np.ones(4), size=6)
COUNTED = np.array([True, False, True, True, False, True])
ELL = -(LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True)))
PICKED = ELL[np.arange(6), LABELS]
LABEL_LOSSES = [cross_entropy, softmax_focal_loss, poly_cross_entropy]


def near(got: Array, want: Any) -> None:
    """In float64."""
    assert_near(got, want, np.abs(want), dtype="float64", classes=4, spread=15.0)


class TestIgnored:
    """Row "ignore_index, where"."""

    @pytest.mark.parametrize("loss", LABEL_LOSSES, ids=lambda f: f.__name__)
    @pytest.mark.parametrize("how", ["ignore_index", "where", "other_index"])
    def test_dropping_the_rows_changes_no_bit_of_the_others(
        self, backend: Adapter, dtype: str, loss: Any, how: str
    ) -> None:
        logits, labels, options = LOGITS.copy(), LABELS.copy(), {}
        logits[~COUNTED] = np.nan
        if how == "where":
            options = {"where": COUNTED}
        elif how == "ignore_index":
            labels[~COUNTED] = -100
        else:
            labels[~COUNTED] = options["ignore_index"] = 77
        rows, gradient = value_and_grad(
            backend, loss, logits, labels, dtype=dtype, reduction="none", **options
        )
        alone, its_gradient = value_and_grad(
            backend, loss, LOGITS[COUNTED], LABELS[COUNTED], dtype=dtype, reduction="none"
        )
        assert (rows[~COUNTED] == 0).all()
        assert (gradient[~COUNTED] == 0).all()
        assert np.array_equal(rows[COUNTED], alone)
        assert np.array_equal(gradient[COUNTED], its_gradient)
        mean = call(backend, dtype, loss, logits, labels, **options)
        less = call(backend, dtype, loss, LOGITS[COUNTED], LABELS[COUNTED])
        kind = "float64" if dtype == "float64" else "float32"
        assert_near(mean, less.astype(np.float64), less, dtype=kind, classes=4, spread=15.0)

    @pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_nothing_of_an_ignored_row_gets_through(
        self, backend: Adapter, poison: float, reduction: str
    ) -> None:
        """pytorch#116349, jax#6811: NaN of a masked row in the value or in a gradient."""
        logits, samples = LOGITS.copy(), np.ones(6)
        logits[~COUNTED] = poison
        samples[~COUNTED] = poison
        how: dict[str, Any] = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.01}
        how |= {"dtype": "float64", "softcap": 20.0}
        value, gradient = value_and_grad(
            backend, cross_entropy, logits, LABELS, where=COUNTED, sample_weight=samples, **how
        )
        less, its = value_and_grad(backend, cross_entropy, LOGITS[COUNTED], LABELS[COUNTED], **how)
        near(value, less)
        near(gradient[COUNTED], its)
        assert (gradient[~COUNTED] == 0).all()

    def test_where_with_probabilities(self, backend: Adapter) -> None:
        targets = PROBABILITIES.copy()
        targets[~COUNTED] = np.nan
        rows, gradient = value_and_grad(
            backend,
            cross_entropy,
            LOGITS,
            targets,
            dtype="float64",
            where=COUNTED,
            reduction="none",
        )
        near(rows, np.where(COUNTED, (PROBABILITIES * ELL).sum(axis=1), 0))
        assert (gradient[~COUNTED] == 0).all()

    def test_a_label_that_does_not_count_may_be_anything(self, backend: Adapter) -> None:
        labels = np.where(COUNTED, LABELS, 10**6)
        near(call(backend, "float64", cross_entropy, LOGITS, labels, where=COUNTED),
             PICKED[COUNTED].mean())  # fmt: skip

    def test_ignore_index_may_be_a_class(self, backend: Adapter) -> None:
        mean = call(backend, "float64", cross_entropy, LOGITS, LABELS, ignore_index=2)
        near(mean, PICKED[LABELS != 2].mean())

    @pytest.mark.parametrize(
        "loss", [xp_xent.binary_cross_entropy_with_logits, xp_xent.sigmoid_focal_loss]
    )
    def test_binary_where(self, backend: Adapter, loss: Any) -> None:
        logits, targets = LOGITS.copy(), PROBABILITIES.copy()
        mask = np.arange(24).reshape(6, 4) % 3 > 0
        logits[~mask] = targets[~mask] = np.nan
        value, gradient = value_and_grad(
            backend, loss, logits, targets, dtype="float64", where=mask
        )
        near(value, call(backend, "float64", loss, LOGITS[mask], PROBABILITIES[mask]))
        assert (gradient[~mask] == 0).all()
        assert np.isfinite(gradient).all()


class TestReduction:
    """Row "reduction", and the two about nothing to reduce."""

    def test_the_three(self, backend: Adapter) -> None:
        for reduction, want in (("none", PICKED), ("sum", PICKED.sum()), ("mean", PICKED.mean())):
            near(call(backend, "float64", cross_entropy, LOGITS, LABELS, reduction=reduction), want)

    @pytest.mark.parametrize("weight", [None, np.array([1.0, 2.0, 0.5, 3.0])])
    def test_normalizer_is_the_denominator(self, backend: Adapter, weight: Array | None) -> None:
        """transformers#34191: parts of a batch, each over the whole batch's count, add up."""
        how: dict[str, Any] = {} if weight is None else {"weight": weight}
        parts = [
            value_and_grad(backend, cross_entropy, LOGITS[i], LABELS[i], dtype="float64",
                           normalizer=6, **how)
            for i in (slice(0, 1), slice(1, 6))
        ]  # fmt: skip
        total = call(backend, "float64", cross_entropy, LOGITS, LABELS, reduction="sum", **how)
        near(parts[0][0] + parts[1][0], total / 6)
        _, gradient = value_and_grad(
            backend, cross_entropy, LOGITS, LABELS, dtype="float64", reduction="sum", **how
        )
        near(np.concatenate([parts[0][1], parts[1][1]]), gradient / 6)

    def test_normalizer_may_be_an_array(self, backend: Adapter) -> None:
        """A count that was summed over devices is an array of the same library."""
        value = call(backend, "float64", cross_entropy, LOGITS, LABELS, normalizer=np.asarray(12.0))
        near(value, PICKED.sum() / 12)

    @pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
    def test_no_rows(self, backend: Adapter, soft: bool) -> None:
        """pytorch#50224."""
        logits = LOGITS[:0]
        targets = PROBABILITIES[:0] if soft else LABELS[:0]
        for reduction, want in (("mean", np.nan), ("sum", 0.0), ("none", np.zeros(0))):
            value, gradient = value_and_grad(
                backend, cross_entropy, logits, targets, reduction=reduction
            )
            assert np.array_equal(value, np.asarray(want), equal_nan=True)
            assert gradient.shape == (0, 4)

    def test_no_rows_with_a_normalizer(self, backend: Adapter) -> None:
        assert call(backend, "float32", cross_entropy, LOGITS[:0], LABELS[:0], normalizer=5) == 0

    def test_no_elements_of_a_binary_loss(self, backend: Adapter) -> None:
        value, gradient = value_and_grad(
            backend, xp_xent.binary_cross_entropy_with_logits, LOGITS[:0], PROBABILITIES[:0]
        )
        assert np.isnan(value)
        assert gradient.shape == (0, 4)

    def test_no_classes(self, backend: Adapter) -> None:
        error = error_of(
            call, backend, "float32", cross_entropy, np.ones((3, 0)), np.zeros(3, np.int64)
        )
        assert isinstance(error, ValueError)
        assert "logits" in str(error)
        assert "(3, 0)" in str(error)

    def test_nothing_counted(self, backend: Adapter) -> None:
        """pytorch#70348, #75181: the mean of nothing is NaN, not 0, and no row gets a gradient."""
        labels = np.full(6, -100)
        value, gradient = value_and_grad(backend, cross_entropy, LOGITS, labels)
        assert np.isnan(value)
        assert (gradient == 0).all()
        assert call(backend, "float32", cross_entropy, LOGITS, labels, reduction="sum") == 0
        assert call(backend, "float32", cross_entropy, LOGITS, labels, normalizer=6) == 0


class TestLabelOutOfRange:
    """Row "label out of range", on host memory; test_semantics_devices has the rest."""

    @pytest.mark.parametrize("label", [4, -1, -5, 1000])
    def test_host(self, backend: Adapter, label: int) -> None:
        """optax#1185, pytorch/xla#4552, keras#23669: wrapped, clamped or asserted, by library."""
        logits, labels = LOGITS.reshape(2, 3, 4), LABELS.reshape(2, 3).copy()
        labels[1, 1] = label
        labels[1, 2] = 99
        sent = send(backend, logits, "float32"), send(backend, labels, "float32")
        if backend.can_read_values(sent[1]) or backend.name == "dask":  # it looks when it computes
            message = str(error_of(lambda: backend.to_numpy(cross_entropy(*sent))))
            assert "targets" in message
            assert str(label) in message
            assert "(1, 1)" in message
            return
        rows, gradient = value_and_grad(backend, cross_entropy, logits, labels, reduction="none")
        bad = np.isin(np.arange(6).reshape(2, 3), (4, 5))
        assert np.array_equal(np.isnan(rows), bad)
        assert np.isnan(gradient[bad]).all()
        assert np.isfinite(gradient[~bad]).all()

    def test_before_any_work(self) -> None:
        """The labels are looked at first: the logits' NaN and size do not matter."""
        labels = np.zeros(6, dtype=np.int64)
        labels[5] = 4
        assert "5" in str(error_of(cross_entropy, np.full((6, 4), np.nan), labels))


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint32", "int64"])
def test_ignore_index_may_be_the_largest_label(backend: Adapter, kind: str) -> None:
    """JAX takes no number beyond int32 for what its arrays hold."""
    if backend.name == "torch" and kind == "uint32":
        pytest.skip("PyTorch compares no uint32")
    labels = backend.asarray(np.array([1, 0], dtype=kind))
    largest = int(backend.xp.iinfo(labels.dtype).max)
    labels = backend.asarray(np.array([1, largest], dtype=kind))
    loss = cross_entropy(
        backend.asarray(np.zeros((2, 3), np.float32)), labels, ignore_index=largest
    )
    assert abs(float(backend.to_numpy(loss)) - np.log(3)) < 1e-6
