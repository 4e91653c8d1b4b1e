"""Gathered means, perplexity and bits per byte."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from _tools import assert_array, assert_near, call, error_of
from _truth import Array

import xp_xent
from xp_xent import LossAccumulator, backends, cross_entropy
from xp_xent.backends import Adapter

RNG = np.random.default_rng(17)
LOGITS, LABELS = RNG.normal(size=(8, 3)) * 2, np.array([0, 2, 1, 1, 0, 2, -100, 1])
TARGETS = RNG.random((8, 3))


class TestLossAccumulator:
    """Streaming and mergeable: sum and weight."""

    def rows(self) -> Array:
        return cross_entropy(LOGITS, LABELS, reduction="none")

    def test_empty(self) -> None:
        assert LossAccumulator().weight == 0
        assert math.isnan(LossAccumulator().mean)
        assert math.isnan(LossAccumulator().perplexity)

    @pytest.mark.parametrize("parts", [1, 2, 3, 8])
    def test_is_the_mean_of_all(self, backend: Adapter, parts: int) -> None:
        total = LossAccumulator()
        counted = (LABELS != -100).astype(np.float64)
        for part in np.array_split(np.arange(8), parts):
            rows = cross_entropy(
                backend.asarray(LOGITS[part]), backend.asarray(LABELS[part]), reduction="none"
            )
            total = total.update(rows, backend.asarray(counted[part]))
        want = call(backend, "float64", cross_entropy, LOGITS, LABELS)
        assert total.weight == 7
        near: dict[str, Any] = {"dtype": "float64", "classes": 3, "spread": 8.0}
        assert_near(total.mean, want, want, **near)
        assert_near(total.perplexity, np.exp(want), np.exp(want), **near)

    def test_does_not_change(self) -> None:
        before = LossAccumulator()
        after = before.update(self.rows())
        assert (before.sum, before.weight) == (0, 0)
        assert after.weight == 8
        assert after == LossAccumulator().update(self.rows())
        with pytest.raises(dataclasses.FrozenInstanceError):
            after.sum = 0.0

    def test_weighted_and_summed(self) -> None:
        weights = np.array([0.5, 2.0])
        total = LossAccumulator().update(np.array([1.0, 4.0]), weights).update(2.5, 3)
        assert (total.sum, total.weight) == (7.5, 5.5)

    def test_overflow_stays_visible(self) -> None:
        for loss in (np.inf, np.nan):
            total = LossAccumulator().update(np.asarray([loss])).update(np.asarray([1.0]))
            assert np.array_equal(total.mean, loss, equal_nan=True)
            assert np.array_equal(total.perplexity, loss, equal_nan=True)
        assert LossAccumulator().update(np.asarray([1e4])).perplexity == math.inf

    def test_what_it_takes(self) -> None:
        assert "losses" in str(error_of(LossAccumulator().update, "1.0"))
        assert "losses" in str(error_of(LossAccumulator().update, [1.0]))
        assert "weights" in str(error_of(LossAccumulator().update, 1.0, np.asarray([True])))
        assert isinstance(error_of(lambda: LossAccumulator() + 1.0), TypeError)

    def test_within_split(self, backend: Adapter) -> None:
        """What is here is added, of whatever library."""
        rows = backend.asarray(np.asarray([1.0, 2.5]))
        with xp_xent.split():
            total = LossAccumulator().update(rows, backend.asarray(np.asarray([2.0, 1.0])))
            assert np.array_equal(backends.to_numpy(rows), [1.0, 2.5])
        assert (total.sum, total.weight) == (3.5, 3.0)


class TestPerplexity:
    """exp of the mean cross-entropy."""

    def test_uniform(self, backend: Adapter, dtype: str) -> None:
        logits = backend.asarray(np.zeros((4, 10)), dtype=dtype)
        got = xp_xent.perplexity(logits, backend.asarray(np.arange(4)))
        kind = "float64" if dtype == "float64" else "float32"
        assert_array(backend, got, kind, ())
        assert_near(backend.to_numpy(got), 10.0, 10.0, dtype=kind, classes=10, spread=0.0)

    def test_options(self, backend: Adapter) -> None:
        how: dict[str, Any] = {"axis": 0, "sample_weight": RNG.random(8), "ignore_index": 2}
        labels = np.where(LABELS < 0, 2, LABELS)
        got = call(backend, "float64", xp_xent.perplexity, LOGITS.T, labels, **how)
        want = np.exp(call(backend, "float64", cross_entropy, LOGITS.T, labels, **how))
        assert_near(got, want, want, dtype="float64", classes=3, spread=8.0)

    @pytest.mark.parametrize("over", [-1, 0, (0, 1), (1, -2), ()])
    @pytest.mark.parametrize("axis", [-1, 1])
    def test_over(self, backend: Adapter, over: Any, axis: int) -> None:
        """Is the perplexity of each part alone."""
        rng = np.random.default_rng(3)
        z, y = rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (3, 4))
        y[1, 2:] = -100
        y[2] = -100  # no row that counts
        where = rng.random((3, 4)) < 0.8
        how: dict[str, Any] = {"sample_weight": rng.random((3, 4)), "where": where}
        rows = cross_entropy(z, y, reduction="none", **how)
        share = np.where((y != -100) & where, how["sample_weight"], 0)
        with np.errstate(invalid="ignore"):
            want = np.exp(rows.sum(axis=over) / share.sum(axis=over))
        logits = np.ascontiguousarray(np.moveaxis(z, -1, axis))
        got = call(backend, "float64", xp_xent.perplexity, logits, y, axis=axis, over=over, **how)
        assert_near(got, want, want, dtype="float64", classes=20, spread=8.0)
        if over == -1:
            assert np.isnan(got[2])
            first = {name: array[0] for name, array in how.items()}
            alone = call(backend, "float64", xp_xent.perplexity, z[0], y[0], **first)
            assert_near(got[0], alone, alone, dtype="float64", classes=20, spread=8.0)

    def test_over_of_probabilities(self, backend: Adapter) -> None:
        q = np.abs(TARGETS) / TARGETS.sum(axis=-1, keepdims=True)
        want = np.exp(cross_entropy(LOGITS, q, reduction="none").reshape(2, 4).mean(axis=-1))
        arrays = LOGITS.reshape(2, 4, 3), q.reshape(2, 4, 3)
        got = call(backend, "float64", xp_xent.perplexity, *arrays, over=1)
        assert_near(got, want, want, dtype="float64", classes=3, spread=8.0)

    @pytest.mark.parametrize("over", [1, -2, (0, 0), (0, -1), 0.5, True, "0", [0]])
    def test_wrong_axes(self, over: Any) -> None:
        for function, more in ((xp_xent.perplexity, ()), (xp_xent.bits_per_byte, (3,))):
            assert "over" in str(error_of(function, LOGITS, LABELS, *more, over=over))

    def test_transforms(self) -> None:
        """Traced, compiled and differentiated, an empty sequence beside one that counts."""
        jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
        z, y = np.random.default_rng(1).normal(size=(3, 4, 5)), np.arange(12).reshape(3, 4) % 5
        y[1] = -100
        sizes = np.array([3.0, 4.0, 5.0])

        def total(z: Any, y: Any, sizes: Any) -> Any:
            a = xp_xent.perplexity(z, y, over=-1)
            b = xp_xent.bits_per_byte(z, y, sizes, over=-1)
            return a[0] + 2 * a[2] + b[0] - b[1] + b[2]

        rows = cross_entropy(z, y, reduction="none").sum(axis=-1)
        slopes = np.exp(rows / 4) / 4 * [1, 0, 2] + [1, 0, 1] / (sizes * np.log(2))
        value_and_grad = xp_xent.value_and_grad(cross_entropy)
        _, want = value_and_grad(z, y, reduction="none")
        want = want * slopes[:, None, None]
        with jax.enable_x64(True):
            arrays = [jax.numpy.asarray(x) for x in (z, y, sizes)]
            got = jax.jit(jax.grad(total))(*arrays)
            assert np.abs(np.asarray(got) - want).max() < 1e-12
        tensor = torch.tensor(z, requires_grad=True)
        compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
        for function in (total, compiled):
            tensor.grad = None
            function(tensor, torch.tensor(y), torch.tensor(sizes)).backward()
            assert np.abs(tensor.grad.numpy() - want).max() < 1e-12

    def test_hopeless_tokens_do_not_underflow(self, backend: Adapter) -> None:
        """The log of a softmax, as torchmetrics takes it, is −inf; −log p is 200."""
        logits, labels = np.array([[0.0, -200.0]]), np.array([1])
        got = call(backend, "float64", xp_xent.perplexity, logits, labels)
        assert_near(got, np.exp(200.0), np.exp(200.0), dtype="float64", classes=2, spread=200.0)


class TestBitsPerByte:
    """Σ cross-entropy / (bytes·log 2), as lm-evaluation-harness defines it."""

    def test_uniform(self, backend: Adapter) -> None:
        """Of 256 bytes alike, each takes 8 bits; tokens of two bytes take half."""
        y = np.array([0, 1, 255, -100])
        z = np.zeros((4, 256))
        for num_bytes, want in ((3, 8.0), (6.0, 4.0), (np.array(12), 2.0)):
            got = call(backend, "float64", xp_xent.bits_per_byte, z, y, num_bytes)
            assert_near(got, np.array(want), want, dtype="float64", classes=256, spread=0.0)

    def test_over(self, backend: Adapter) -> None:
        y = np.array([[0, 2, 1, 1], [0, 2, -100, 1]])
        z, num_bytes = LOGITS.reshape(2, 4, 3), np.array([7, 5])
        where = np.array([[True] * 4, [False, True, True, True]])
        rows = cross_entropy(z, y, reduction="none", where=where)
        want = rows.sum(axis=-1) / np.log(2) / num_bytes
        for axis in (-1, 1):
            how: dict[str, Any] = {"over": -1, "where": where, "axis": axis}
            logits = np.ascontiguousarray(np.moveaxis(z, -1, axis))
            got = call(backend, "float64", xp_xent.bits_per_byte, logits, y, num_bytes, **how)
            assert_near(got, want, want, dtype="float64", classes=3, spread=8.0)

    def test_accumulated(self) -> None:
        total = LossAccumulator()
        for part in (slice(0, 4), slice(4, 8)):
            total = total.update(cross_entropy(LOGITS[part], LABELS[part], reduction="none"))
        want = xp_xent.bits_per_byte(LOGITS, LABELS, 30)
        assert_near(total.bits_per(30), want, want, dtype="float64", classes=8, spread=8.0)
        assert LossAccumulator().bits_per(3) == 0
        assert math.isnan(total.bits_per(0))
        assert "count" in str(error_of(total.bits_per, -1))

    @pytest.mark.parametrize("num_bytes", [0, -3, np.nan, np.array([3, 4]), np.array(True), "3"])
    def test_wrong_bytes(self, num_bytes: Any) -> None:
        message = str(error_of(xp_xent.bits_per_byte, LOGITS, LABELS, num_bytes))
        assert "num_bytes" in message
