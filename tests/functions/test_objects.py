"""Configured losses, gathered means, perplexity and class weights."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from _tools import assert_array, assert_near, call, error_of
from _truth import Array

import xp_xent
from xp_xent import BCEWithLogitsLoss, CrossEntropyLoss, LossAccumulator, cross_entropy
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent.backends import Adapter

RNG = np.random.default_rng(17)
LOGITS, LABELS = RNG.normal(size=(8, 3)) * 2, np.array([0, 2, 1, 1, 0, 2, -100, 1])
TARGETS = RNG.random((8, 3))
OBJECTS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(axis=0, ignore_index=None, label_smoothing=0.1, smoothing="others"),
    CrossEntropyLoss(z_loss=1e-4, softcap=30.0, reduction="sum"),
    BCEWithLogitsLoss(),
    BCEWithLogitsLoss(label_smoothing=0.1, reduction="none"),
]


class TestConfiguredLosses:
    """`CrossEntropyLoss` and `BCEWithLogitsLoss`."""

    @pytest.mark.parametrize("criterion", OBJECTS, ids=repr)
    def test_a_value_among_values(self, criterion: Any) -> None:
        """Frozen, hashable, and the same after a copy, a pickle, or being printed and read."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            criterion.reduction = "none"
        names = {"CrossEntropyLoss": CrossEntropyLoss, "BCEWithLogitsLoss": BCEWithLogitsLoss}
        for same in (
            copy.deepcopy(criterion),
            pickle.loads(pickle.dumps(criterion)),
            eval(repr(criterion), names),
        ):
            assert same == criterion
            assert hash(same) == hash(criterion)
        assert sum(criterion == other for other in OBJECTS) == 1

    def test_weights_take_part(self) -> None:
        one, same, other, none = (
            CrossEntropyLoss(weight=w) for w in (np.ones(3), np.ones(3), np.arange(3.0), None)
        )
        assert one == same
        assert hash(one) == hash(same)
        assert one not in (other, none)
        assert CrossEntropyLoss(weight=np.ones(3, np.float32)) != one
        assert pickle.loads(pickle.dumps(one)) == one
        assert CrossEntropyLoss() != BCEWithLogitsLoss()

    def test_is_the_function(self, backend: Adapter) -> None:
        weight = np.array([1.0, 2.0, 0.5])
        how: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 9.0}
        sent = backend.asarray(weight)
        criterion = CrossEntropyLoss(weight=sent, **how)
        want = call(backend, "float64", cross_entropy, LOGITS, LABELS, weight=weight, **how)
        assert np.array_equal(call(backend, "float64", criterion, LOGITS, LABELS), want)
        binary = BCEWithLogitsLoss(pos_weight=sent, reduction="sum")
        want = call(backend, "float64", bce, LOGITS, TARGETS, pos_weight=weight, reduction="sum")
        assert np.array_equal(call(backend, "float64", binary, LOGITS, TARGETS), want)

    def test_options_of_a_call(self, backend: Adapter) -> None:
        """What belongs to a batch is given with it, and what is given comes first."""
        how: dict[str, Any] = {"where": LABELS > 0, "sample_weight": RNG.random(8)}
        got = call(backend, "float64", CrossEntropyLoss(reduction="sum"), LOGITS, LABELS, **how)
        want = call(backend, "float64", cross_entropy, LOGITS, LABELS, reduction="sum", **how)
        assert np.array_equal(got, want)
        rows = CrossEntropyLoss()(
            backend.asarray(LOGITS), backend.asarray(LABELS), reduction="none"
        )
        assert tuple(rows.shape) == (8,)

    def test_derivatives(self, backend: Adapter) -> None:
        for criterion, function, targets in (
            (CrossEntropyLoss(label_smoothing=0.1), cross_entropy, LABELS),
            (BCEWithLogitsLoss(label_smoothing=0.1), bce, TARGETS),
        ):
            for of in (xp_xent.value_and_grad, xp_xent.hessian_diagonal):
                got = call(backend, "float64", of(criterion), LOGITS, targets)
                want = call(backend, "float64", of(function), LOGITS, targets, label_smoothing=0.1)
                for one, two in zip(np.atleast_1d(got[0]), np.atleast_1d(want[0]), strict=True):
                    assert np.array_equal(one, two)

    def test_wrong_options_are_named(self) -> None:
        assert "bogus" in str(error_of(CrossEntropyLoss, bogus=1))
        criterion = lambda: CrossEntropyLoss(reduction="avg")(LOGITS, LABELS)  # noqa: E731
        assert "reduction" in str(error_of(criterion))


MAKERS = [
    xp_xent.value_and_grad,
    xp_xent.hvp,
    xp_xent.hessian_diagonal,
    xp_xent.hessian,
    xp_xent.value_grad_and_hessian_diagonal,
]
OF_LOSSES = [
    cross_entropy,
    CrossEntropyLoss(z_loss=1e-4),
    partial(cross_entropy, reduction="sum", axis=0),
    partial(partial(cross_entropy, z_loss=0.5), reduction="none"),
]


class TestDerivatives:
    """What `value_and_grad` and its relatives return."""

    @pytest.mark.parametrize("make", MAKERS)
    @pytest.mark.parametrize("loss", OF_LOSSES)
    def test_pickled_and_compared(self, make: Any, loss: Any) -> None:
        made = make(loss)
        for same in (make(loss), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
            assert made == same
            assert hash(made) == hash(same)
            assert repr(made) == repr(same)
        others = [make(other) for other in OF_LOSSES if other is not loss]
        others += [other(loss) for other in MAKERS if other is not make]
        assert made not in others
        assert made != loss
        if "hvp" not in repr(made) and loss is not OF_LOSSES[2]:
            got = pickle.loads(pickle.dumps(made))(LOGITS, LABELS)
            for one, want in zip(got, made(LOGITS, LABELS), strict=True):
                assert np.array_equal(one, want)

    def test_settings(self) -> None:
        make = xp_xent.value_and_grad
        given = (0, "logits", (0,), np.int64(0), (0, 1), (0, np.int8(1)))
        assert len({make(cross_entropy, x) for x in given}) == 4
        make = xp_xent.value_grad_and_hessian_diagonal
        assert make(cross_entropy) != make(cross_entropy, "upper_bound")
        assert repr(make(cross_entropy)).endswith("(cross_entropy, curvature='diagonal')")
        assert repr(xp_xent.hvp(CrossEntropyLoss())).startswith("hvp(CrossEntropyLoss(axis=-1")

    def test_kinds_of_one_are_different(self) -> None:
        made = [xp_xent.hvp(partial(cross_entropy, z_loss=x)) for x in (0, 0.0, False)]
        assert len(set(made)) == 3

    def test_arrays_by_identity(self) -> None:
        """As Python's own partial: a hash there is, for a compiler's cache."""
        weight = np.ones(3)
        made, same = (xp_xent.hessian(partial(cross_entropy, weight=weight)) for _ in range(2))
        assert made == same
        assert hash(made) == hash(same)
        assert made != xp_xent.hessian(partial(cross_entropy, weight=weight.copy()))

    def test_signature(self) -> None:
        loss = partial(cross_entropy, axis=0)
        found = {make: inspect.signature(make(loss)).parameters for make in MAKERS}
        for parameters in found.values():
            assert parameters["axis"].default == 0
            assert parameters["z_loss"].default == 0.0
            assert list(parameters)[:2] == ["logits", "targets"]
        assert "cotangent" in found[xp_xent.value_and_grad]
        assert list(found[xp_xent.hvp])[2] == "vector"
        bound = inspect.signature(xp_xent.hessian(partial(cross_entropy, LOGITS)))
        assert next(iter(bound.parameters)) == "targets"

    def test_static_under_jit(self) -> None:
        """Equal ones share what is compiled."""
        jax = pytest.importorskip("jax")
        traced = []

        def call(made: Any, z: Any, y: Any) -> Any:
            traced.append(made)
            return made(z, y)

        jitted = jax.jit(call, static_argnums=0)
        arrays = jax.numpy.asarray(LOGITS), jax.numpy.asarray(LABELS)
        for loss in (cross_entropy, cross_entropy, partial(cross_entropy, z_loss=0.1)):
            value, _ = jitted(xp_xent.value_and_grad(loss), *arrays)
            assert np.isfinite(value)
        assert len(traced) == 2
        weight = jax.numpy.ones(3)
        value, _ = jax.jit(xp_xent.value_and_grad(partial(cross_entropy, weight=weight)))(*arrays)
        assert np.isfinite(value)


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
        assert isinstance(error_of(lambda: LossAccumulator() + 1.0), TypeError)


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
