"""z_loss, softcap, the binary losses, focal, poly, KL and entropy, each against its formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import assert_near, call, value_and_grad
from _truth import Array

import xp_xent
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent import cross_entropy, entropy, kl_divergence, sigmoid_focal_loss
from xp_xent.backends import Adapter

INF = np.inf
RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(6, 4)) * 3
LABELS = np.array([0, 3, 1, 2, 2, 1])
SOFT = RNG.random((6, 4))
HARD = (SOFT > 0.5).astype(np.int64)
LSE = np.log(np.exp(LOGITS).sum(axis=1))
P = np.exp(LOGITS - LSE[:, None])
P_Y, ELL_Y = P[np.arange(6), LABELS], (LSE[:, None] - LOGITS)[np.arange(6), LABELS]


def near(got: Array, want: Any, spread: float = 20.0) -> None:
    """In float64; the sizes that cancel here are all about one."""
    want = np.asarray(want)
    assert_near(got, want, np.maximum(abs(want), 1), dtype="float64", classes=4, spread=spread)


def f64(backend: Adapter, function: Any, *arrays: Any, **options: Any) -> Array:
    """Call in float64."""
    return call(backend, "float64", function, *arrays, **options)


class TestSoftcapAndZLoss:
    """Row "softcap=c, z_loss=λ"."""

    WEIGHT = np.array([1.0, 0.5, 2.0, 4.0])

    def test_softcap_comes_first(self, backend: Adapter) -> None:
        capped = 5 * np.tanh(LOGITS / 5)
        how: dict[str, Any] = {"z_loss": 0.1, "label_smoothing": 0.2, "reduction": "none"}
        near(
            f64(backend, cross_entropy, LOGITS, LABELS, softcap=5.0, **how),
            f64(backend, cross_entropy, capped, LABELS, **how),
        )

    def test_softcap_far_out(self, backend: Adapter) -> None:
        """Where tanh is flat the loss is that of ±c and the gradient vanishes, without NaN."""
        value, gradient = value_and_grad(
            backend, cross_entropy, np.array([[1e30, -1e30]]), np.array([1]), softcap=30.0
        )
        assert_near(value, 60.0, 60.0, dtype="float32", classes=2, spread=60.0)
        assert (gradient == 0).all()

    def test_z_loss_is_added_and_not_class_weighted(self, backend: Adapter) -> None:
        rows = f64(
            backend, cross_entropy, LOGITS, LABELS, weight=self.WEIGHT, z_loss=0.1, reduction="none"
        )
        near(rows, self.WEIGHT[LABELS] * ELL_Y + 0.1 * LSE**2)

    def test_z_loss_shares_the_denominator(self, backend: Adapter) -> None:
        own = self.WEIGHT[LABELS] * ELL_Y + 0.1 * LSE**2
        mean = f64(backend, cross_entropy, LOGITS, LABELS, weight=self.WEIGHT, z_loss=0.1)
        near(mean, own.sum() / self.WEIGHT[LABELS].sum())

    def test_z_loss_of_ignored_rows(self, backend: Adapter) -> None:
        labels = np.where(LABELS == 2, -100, LABELS)
        rows = f64(backend, cross_entropy, LOGITS, labels, z_loss=0.1, reduction="none")
        near(rows, np.where(LABELS == 2, 0, ELL_Y + 0.1 * LSE**2))


class TestBinary:
    """Row "BCE", and the limits at ±inf."""

    def test_mean_over_elements_whatever_the_weight(self, backend: Adapter) -> None:
        weight = RNG.random((6, 4))
        own = np.logaddexp(0, LOGITS) - SOFT * LOGITS
        near(f64(backend, bce, LOGITS, SOFT, weight=weight), (weight * own).mean())
        mask = SOFT > 0.3
        near(
            f64(backend, bce, LOGITS, SOFT, weight=weight, where=mask), (weight * own)[mask].mean()
        )

    def test_smoothing(self, backend: Adapter) -> None:
        smooth = HARD * 0.8 + 0.1
        near(
            f64(backend, bce, LOGITS, HARD, label_smoothing=0.2), f64(backend, bce, LOGITS, smooth)
        )

    @pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "bool", "float64"])
    def test_targets_of_any_kind(self, backend: Adapter, kind: str) -> None:
        want = np.logaddexp(0, np.where(HARD == 1, -LOGITS, LOGITS)).mean()
        near(f64(backend, bce, LOGITS, HARD.astype(kind)), want)

    @pytest.mark.parametrize("shape", [(6, 4), (4,), (1,), (6, 1), ()])
    def test_weights_broadcast(self, backend: Adapter, shape: tuple[int, ...]) -> None:
        w, pos = np.asarray(RNG.uniform(0.5, 2, shape)), np.asarray(RNG.uniform(0.5, 2, shape))
        own = w * (pos * SOFT * np.logaddexp(0, -LOGITS) + (1 - SOFT) * np.logaddexp(0, LOGITS))
        rows = f64(backend, bce, LOGITS, SOFT, weight=w, pos_weight=pos, reduction="none")
        near(rows, own)

    def test_symmetric_to_the_bit(self, backend: Adapter, dtype: str) -> None:
        x = RNG.normal(size=200) * 20
        ones, zeros = np.ones(200), np.zeros(200)
        up = value_and_grad(backend, bce, x, ones, dtype=dtype, reduction="none")
        down = value_and_grad(backend, bce, -x, zeros, dtype=dtype, reduction="none")
        assert np.array_equal(up[0], down[0])
        assert np.array_equal(up[1], -down[1])

    def test_confident_gradient(self, backend: Adapter) -> None:
        """pytorch#195529: float64 gradient 0.0 at x = 40, y = 1; −e^−40 is right."""
        _, gradient = value_and_grad(
            backend, bce, np.array([40.0]), np.array([1.0]), dtype="float64"
        )
        want = -np.exp([-40.0])
        assert_near(gradient, want, want, dtype="float64", classes=2, spread=40.0)

    def test_limits(self, backend: Adapter) -> None:
        """pytorch#135359: BCE(−inf, 0.9) is inf, not NaN; a sure and right answer costs 0."""
        x = np.array([-INF, -INF, -INF, INF, INF, INF])
        y = np.array([0.9, 0.0, 1.0, 0.9, 0.0, 1.0])
        loss, gradient = value_and_grad(backend, bce, x, y, dtype="float64", reduction="none")
        assert np.array_equal(loss, [INF, 0, INF, INF, INF, 0])
        near(gradient, [-0.9, 0, -1, 0.1, 1, 0])

    def test_pos_weight_at_the_limits(self, backend: Adapter) -> None:
        """pytorch#13773: pos_weight made NaN of large logits."""
        x, pos = np.array([1e4, -1e4, INF]), np.array([3.0, 3.0, 3.0])
        loss = f64(backend, bce, x, np.array([1.0, 1.0, 1.0]), pos_weight=pos, reduction="none")
        assert np.array_equal(loss, [0, 3e4, 0])

    def test_derivative_at_zero(self, backend: Adapter) -> None:
        y = np.array([0.0, 0.25, 1.0])
        _, gradient = value_and_grad(backend, bce, np.zeros(3), y, reduction="sum")
        assert np.array_equal(gradient, np.asarray([0.5, 0.25, -0.5], dtype=np.float32))

    def test_not_clipped(self, backend: Adapter) -> None:
        """pytorch#103316: −100 as the smallest logarithm."""
        assert f64(backend, bce, np.array([-500.0]), np.array([1.0])) == 500


class TestFocalPolyKL:
    """Row "focal, poly, KL"."""

    def test_sigmoid_focal(self, backend: Adapter) -> None:
        own = np.logaddexp(0, np.where(HARD == 1, -LOGITS, LOGITS))
        a = np.where(HARD == 1, 0.25, 0.75)
        rows = f64(
            backend, sigmoid_focal_loss, LOGITS, HARD, alpha=0.25, gamma=3.0, reduction="none"
        )
        near(rows, a * (1 - np.exp(-own)) ** 3 * own)

    def test_gamma_zero_is_the_plain_loss(self, backend: Adapter) -> None:
        plain = f64(backend, bce, LOGITS, HARD)
        near(f64(backend, sigmoid_focal_loss, LOGITS, HARD, gamma=0.0), plain)
        plain = f64(backend, cross_entropy, LOGITS, LABELS)
        near(f64(backend, xp_xent.softmax_focal_loss, LOGITS, LABELS, gamma=0.0), plain)

    @pytest.mark.parametrize("alpha", [None, 0.25, np.array([0.1, 0.2, 0.3, 0.4])])
    def test_softmax_focal(self, backend: Adapter, alpha: Any) -> None:
        a = np.broadcast_to(1.0 if alpha is None else alpha, 4)[LABELS]
        mean = f64(backend, xp_xent.softmax_focal_loss, LOGITS, LABELS, alpha=alpha, gamma=2.0)
        near(mean, (a * (1 - P_Y) ** 2 * ELL_Y).mean())

    @pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
    def test_focal_of_a_sure_row(self, backend: Adapter, gamma: float) -> None:
        """1 − p_y = 0 exactly: its power has no derivative there, the loss has: 0."""
        value, gradient = value_and_grad(
            backend, xp_xent.softmax_focal_loss, np.array([[0.0, -INF]]), np.array([0]), gamma=gamma
        )
        assert value == 0
        assert (gradient == 0).all()

    def test_poly(self, backend: Adapter) -> None:
        near(f64(backend, xp_xent.poly_cross_entropy, LOGITS, LABELS),
             (ELL_Y + 2 * (1 - P_Y)).mean())  # fmt: skip

    def test_kl_is_a_mean_over_rows(self, backend: Adapter) -> None:
        q = SOFT / SOFT.sum(axis=1, keepdims=True)
        near(f64(backend, kl_divergence, LOGITS, q), (q * np.log(q / P)).sum() / 6)
        near(f64(backend, kl_divergence, np.log(q), q), 0.0)

    def test_kl_at_zero(self, backend: Adapter) -> None:
        """optax#1786, pytorch#89558: NaN in value or gradient where a target is 0."""
        q = np.array([[0.5, 0.5, 0.0]])
        for logits in ([[1.0, 0.0, 2.0]], [[1.0, 0.0, -INF]]):
            value, gradient = value_and_grad(
                backend, kl_divergence, np.array(logits), q, dtype="float64"
            )
            p = np.exp(logits - np.log(np.exp(logits).sum()))
            near(value, 0.5 * np.log(0.5 / p[0, :2]).sum())
            near(gradient, p - q)

    def test_entropy(self, backend: Adapter) -> None:
        near(f64(backend, entropy, LOGITS, reduction="none"), -(P * np.log(P)).sum(axis=1))
        near(f64(backend, entropy, np.zeros((2, 4))), np.log(4.0))
        assert f64(backend, entropy, np.array([[3.0, -INF, -INF]])) == 0
