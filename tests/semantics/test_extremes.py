"""Infinities, NaN, huge offsets, confident rows and half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import COMPUTE, Case, rounded
from _tools import assert_near, assert_within, call, value_and_grad
from _truth import Array, Truth

import xp_xent
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent import cross_entropy, logsumexp
from xp_xent.backends import Adapter

INF, NAN = np.inf, np.nan
LOGITS = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 2.0, 2.0, -1.0], [4.0, 0.25, -3.0, 1.0]])
LABELS = np.array([3, 1, 0])


def both(backend: Adapter, logits: Any, targets: Any, **options: Any) -> Any:
    """Unreduced rows and their gradient, in float32 unless told otherwise."""
    options.setdefault("reduction", "none")
    return value_and_grad(
        backend, cross_entropy, np.asarray(logits), np.asarray(targets), **options
    )


def truth(logits: Array, labels: Array, dtype: str) -> Truth:
    """The certified rows of cross_entropy."""
    return Case("cross_entropy", (logits, labels), {"reduction": "none"}).truth(dtype)


def assert_right(loss: Array, gradient: Array, want: Truth, dtype: str) -> None:
    """Rows and their gradient, to the errors that the reference allows."""
    assert_within(loss, want.value, want.value_error, COMPUTE[dtype])
    assert_within(gradient, want.gradients[0], want.gradient_errors[0], dtype)


class TestConfidentRows:
    """Section 2: no cancellation, so that small losses keep their digits."""

    @pytest.mark.parametrize("label_kind", ["index", "probabilities"])
    def test_the_example(self, backend: Adapter, label_kind: str) -> None:
        targets = np.array([0]) if label_kind == "index" else np.array([[1.0, 0.0, 0.0]])
        logits = np.array([[20.0, 0.0, 0.0]])
        loss, gradient = both(backend, logits, targets)
        want = truth(logits, np.array([0]), "float32")
        assert abs(want.value[0] - 4.1223e-9) < 1e-13
        assert_right(loss, gradient, want, "float32")

    @pytest.mark.parametrize("gap", [-80.0, -20.0, -1.0, 0.0, 1.0, 20.0, 60.0, 80.0])
    def test_relative_accuracy(self, backend: Adapter, dtype: str, gap: float) -> None:
        """optax#1020: half precision quantised the losses of confident rows."""
        logits = np.array([[gap, 0.0, -0.5, 0.25, 0.0]])
        logits = rounded(backend, logits, dtype)
        loss, gradient = both(backend, logits, np.array([0]), dtype=dtype)
        want = truth(logits, np.array([0]), dtype)
        assert_right(loss, gradient, want, dtype)

    def test_no_clipping(self, backend: Adapter) -> None:
        """pytorch#103316, torchmetrics: log(softmax) underflows, −log p does not."""
        loss, gradient = both(backend, [[0.0, -200.0], [0.0, -1e30]], [1, 1])
        assert np.array_equal(loss, np.asarray([200.0, 1e30], dtype=np.float32))
        assert np.array_equal(gradient, np.asarray([[1, -1], [1, -1]], dtype=np.float32))


class TestOffset:
    """optax#1792, mlx#4188, pytorch#11752: lse − z_y is wrong for a large common offset."""

    @pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8, -1e8])
    def test_same_bits(self, backend: Adapter, offset: float) -> None:
        logits = np.array([[0.0, 0.0, 0.0], [64.0, 0.0, -64.0], [8.0, 16.0, 0.0]])
        labels = np.array([1, 1, 2])
        for got, want in zip(
            both(backend, logits + offset, labels), both(backend, logits, labels), strict=True
        ):
            assert np.array_equal(got, want)

    def test_equal_logits_give_log_of_their_number(self, backend: Adapter) -> None:
        loss, _ = both(backend, np.full((1, 7), 1e8), [3])
        assert_near(loss, np.log([7.0]), np.log([7.0]), dtype="float32", classes=7, spread=0.0)

    def test_largest_numbers(self, backend: Adapter, dtype: str) -> None:
        """±finfo.max: a difference may overflow to ∞, nothing becomes NaN."""
        top = {"float16": 65504.0, "bfloat16": 2.0**127, "float32": 2.0**127}.get(dtype, 2.0**1023)
        logits = np.array([[top, -top], [top, top], [-top, -top], [top, 0.0]])
        loss, gradient = both(backend, logits, [0, 1, 0, 1], dtype=dtype)
        assert loss[0] == 0
        assert_near(
            loss[1:3], np.log([2.0, 2.0]), np.log([2.0, 2.0]),
            dtype=COMPUTE[dtype], classes=2, spread=0.0,
        )  # fmt: skip
        assert loss[3] == top
        want = np.array([[0, 0], [0.5, -0.5], [-0.5, 0.5], [1, -1]])
        assert np.array_equal(gradient.astype(np.float64), want)


class TestMinusInfinity:
    """Rows "−inf logits" and "whole row −inf"."""

    def test_a_masked_class(self, backend: Adapter, dtype: str) -> None:
        """optax#896, #1762, jax#23842: p = 0 and gradient 0, not NaN."""
        masked, labels = LOGITS.copy(), np.array([3, 1, 0])
        masked[:, 2] = -INF
        loss, gradient = both(backend, masked, labels, dtype=dtype)
        kept = [0, 1, 3]
        less, its = both(backend, LOGITS[:, kept], np.array([2, 1, 0]), dtype=dtype)
        assert (gradient[:, 2] == 0).all()
        near: dict[str, Any] = {"classes": 4, "spread": 8.0}
        assert_near(loss, less.astype(float), less.astype(float), dtype=COMPUTE[dtype], **near)
        got, want = gradient[:, kept], its.astype(float)
        assert_near(got, want, want, dtype=dtype, **near)

    def test_zero_times_infinity_is_zero(self, backend: Adapter) -> None:
        q = np.array([[0.25, 0.75, 0.0]])
        (loss,), gradient = both(backend, [[0.0, 0.0, -INF]], q, dtype="float64")
        assert_near(loss, np.log(2.0), 1.0, dtype="float64", classes=3, spread=1.0)
        assert np.array_equal(gradient, [[0.25, -0.25, 0.0]])

    @pytest.mark.parametrize(
        ("targets", "options"),
        [
            (np.array([2]), {}),
            (np.array([0]), {"label_smoothing": 0.1}),
            (np.array([0]), {"label_smoothing": 0.1, "smoothing": "others"}),
            (np.array([[0.5, 0.25, 0.25]]), {}),
            (np.array([[0.5, 0.5, 0.0]]), {"label_smoothing": 0.1}),
        ],
    )
    def test_mass_on_a_masked_class(self, backend: Adapter, targets: Any, options: Any) -> None:
        loss, _ = both(backend, [[1.0, 0.0, -INF]], targets, **options)
        assert loss[0] == INF

    def test_one_class_left(self, backend: Adapter) -> None:
        """flash-attention#1930: a long stretch of −inf inside a row that is fine."""
        logits = np.full((1, 300), -INF)
        logits[0, 7] = 2.0
        loss, gradient = both(backend, logits, [7])
        assert loss[0] == 0
        assert (gradient == 0).all()

    def test_whole_row(self, backend: Adapter) -> None:
        logits = LOGITS.copy()
        logits[1] = -INF
        loss, gradient = both(backend, logits, LABELS)
        assert np.array_equal(np.isnan(loss), [False, True, False])
        assert np.isnan(gradient[1]).all()
        counted = np.array([True, False, True])
        loss, gradient = both(backend, logits, LABELS, where=counted)
        assert loss[1] == 0
        assert (gradient[1] == 0).all()

    def test_logsumexp_of_nothing(self, backend: Adapter) -> None:
        assert call(backend, "float32", logsumexp, np.full(3, -INF)) == -INF


class TestOverflowIsVisible:
    """Row "+inf or NaN logits in cross_entropy"."""

    @pytest.mark.parametrize("poison", [INF, NAN])
    @pytest.mark.parametrize("column", [0, 1])
    @pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
    def test_that_row_alone(self, backend: Adapter, poison: float, column: int, soft: bool) -> None:
        logits = LOGITS.copy()
        logits[1, column] = poison
        targets = np.eye(4)[LABELS] if soft else LABELS
        loss, gradient = both(backend, logits, targets)
        clean, its = both(backend, LOGITS, targets)
        assert np.isnan(loss[1])
        assert np.isnan(gradient[1]).all()
        assert np.array_equal(loss[[0, 2]], clean[[0, 2]])
        assert np.array_equal(gradient[[0, 2]], its[[0, 2]])

    @pytest.mark.parametrize("options", [{"z_loss": 0.1}, {"label_smoothing": 0.1}])
    def test_with_options(self, backend: Adapter, options: Any) -> None:
        loss, gradient = both(backend, [[INF, 0.0], [NAN, 0.0], [1.0, 0.0]], [1, 1, 1], **options)
        assert np.array_equal(np.isnan(loss), [True, True, False])
        assert np.isnan(gradient[:2]).all()
        assert np.isfinite(gradient[2]).all()


class TestHalfPrecision:
    """Row "float16, bfloat16"."""

    def test_accumulated_in_float32_rounded_once(self, backend: Adapter, dtype: str) -> None:
        """flax#677, Liger#1419: half-precision sums, and p rounded before the subtraction."""
        rng = np.random.default_rng(3)
        logits = rounded(backend, rng.normal(size=(2, 800)), dtype)
        labels = rng.integers(0, 800, 2)
        loss, gradient = both(backend, logits, labels, dtype=dtype)
        want = truth(logits, labels, dtype)
        assert_right(loss, gradient, want, dtype)

    def test_binary(self, backend: Adapter, dtype: str) -> None:
        x = rounded(backend, np.array([-9.0, -0.1, 0.0, 3.0, 12.0]), dtype)
        y = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
        loss, gradient = value_and_grad(backend, bce, x, y, dtype=dtype, reduction="none")
        signed = np.where(y > 0, -x, x)
        near: dict[str, Any] = {"classes": 2, "spread": 12.0}
        want = np.logaddexp(0, signed)
        assert_near(loss, want, want, dtype=COMPUTE[dtype], **near)
        want = np.where(y > 0, -1, 1) / (1 + np.exp(-signed))
        assert_near(gradient, want, want, dtype=dtype, **near)
        assert (
            xp_xent.sigmoid(backend.asarray(x, dtype=dtype)).dtype
            == backend.asarray(x, dtype=dtype).dtype
        )


class TestSigmoidFocal:
    """At infinite logits the limits, as binary cross-entropy has them."""

    X, Y = np.array([INF, -INF, INF, INF, -INF]), np.array([0.0, 1.0, 0.5, 1.0, 0.0])

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
    def test_slopes_and_curvature(self, backend: Adapter, gamma: float) -> None:
        loss, options = xp_xent.sigmoid_focal_loss, {"gamma": gamma, "reduction": "none"}
        x, y = backend.asarray(self.X, dtype="float32"), backend.asarray(self.Y, dtype="float32")
        value, slope = xp_xent.value_and_grad(loss)(x, y, **options)
        assert np.array_equal(backend.to_numpy(value), [INF, INF, INF, 0, 0])
        want = [1, -1, 0.5 * 0.5**gamma, 0, 0]
        np.testing.assert_allclose(backend.to_numpy(slope), want, rtol=1e-6)
        bend = xp_xent.hessian_diagonal(loss)(x, y, **options)
        assert np.array_equal(backend.to_numpy(bend), np.zeros(5))
        _, by_target = xp_xent.value_and_grad(loss, 1)(x[3:], y[3:], **options)
        want = [-INF, INF] if gamma == 0 else [0, 0]
        assert np.array_equal(backend.to_numpy(by_target), want)

    def test_a_positive_class_without_weight(self, backend: Adapter) -> None:
        x, y = backend.asarray(np.array([-INF])), backend.asarray(np.array([1.0]))
        nothing = backend.asarray(np.array([0.0]))
        _, slope = xp_xent.value_and_grad(bce, 1)(x, y, pos_weight=nothing, reduction="sum")
        assert float(backend.to_numpy(slope)[0]) == 0


def test_weights_out_of_the_losses_range_do_not_warn() -> None:
    """Float64 weights of float32 logits; what underflows is 0, what overflows is seen."""
    z, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    with np.errstate(all="raise"):
        for weight in (np.full(3, 1e-50), np.full(3, 1e39)):
            cross_entropy(z, y, weight=weight)
            cross_entropy(z, y, sample_weight=weight[:2])
            bce(z, z, pos_weight=weight)
        xp_xent.positive_class_weight(np.eye(70000, 1, dtype=np.float16))
        xp_xent.LossAccumulator().update(np.array([INF, -INF]))
