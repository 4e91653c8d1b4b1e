"""`value_and_grad` of every loss, on thousands of random calls, against the certified truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import LOSSES, Case, cases
from _tools import assert_case, assert_near, call, error_of, times, value_and_grad
from hypothesis import given, seed, settings

import xp_xent
from xp_xent import cross_entropy
from xp_xent.backends import Adapter

# Of each loss, in float64 and in each other dtype. Most on NumPy, where a call is cheap; fewest
# where each shape is compiled.
EXAMPLES = {
    "numpy": (80, 12),
    "torch": (30, 4),
    "array_api_strict": (10, 3),
    "dpnp": (4, 3),
    "jax": (3, 3),
}
RNG = np.random.default_rng(2)
LOGITS, LABELS = RNG.normal(size=(2, 3, 5)), RNG.integers(0, 5, (2, 3))


@times
@pytest.mark.parametrize("loss", LOSSES)
def test_random_calls(backend: Adapter, dtype: str, loss: str, times: int) -> None:
    """Value and every gradient to the row tolerance, in float64 far below 1e-12 relative."""

    @seed(0)
    @settings(max_examples=EXAMPLES.get(backend.name, (4, 3))[dtype != "float64"] * times)
    @given(cases(loss, backend.name))
    def check(case: Case) -> None:
        assert_case(backend, dtype, case)

    check()


class TestCotangent:
    """liger#678, #968: a non-uniform upstream gradient under reduction="none"."""

    def test_none_gives_each_rows_own_gradient(self, backend: Adapter) -> None:
        _, each = value_and_grad(
            backend, cross_entropy, LOGITS, LABELS, dtype="float64", reduction="none"
        )
        _, total = value_and_grad(
            backend, cross_entropy, LOGITS, LABELS, dtype="float64", reduction="sum"
        )
        assert np.array_equal(each, total)

    def test_weights_the_rows(self, backend: Adapter) -> None:
        cotangent = RNG.normal(size=(2, 3))
        how: dict[str, Any] = {"dtype": "float64", "reduction": "none"}
        _, each = value_and_grad(backend, cross_entropy, LOGITS, LABELS, **how)
        _, got = value_and_grad(backend, cross_entropy, LOGITS, LABELS, cotangent=cotangent, **how)
        want = each * cotangent[..., None]
        assert_near(got, want, want, dtype="float64", classes=5, spread=5.0)

    def test_wrong_shape(self, backend: Adapter) -> None:
        message = str(
            error_of(
                call, backend, "float64", xp_xent.value_and_grad(cross_entropy), LOGITS, LABELS,
                reduction="none", cotangent=np.ones((3, 2)),
            )
        )  # fmt: skip
        assert "cotangent" in message
        assert "(3, 2)" in message
        assert "(2, 3)" in message


class TestArgnums:
    """Which derivatives `value_and_grad` gives."""

    Q = RNG.dirichlet(np.ones(5), size=(2, 3))
    X, C, B = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=5)

    def gradient(self, argnums: Any, *arrays: Any, **options: Any) -> Any:
        loss = xp_xent.linear_cross_entropy if len(arrays) == 3 else cross_entropy
        return xp_xent.value_and_grad(loss, argnums)(*arrays, **options)[1]

    def test_one_is_an_array_several_a_tuple(self) -> None:
        both = self.gradient((1, 0), LOGITS, self.Q)
        assert isinstance(both, tuple)
        assert np.array_equal(both[0], self.gradient(1, LOGITS, self.Q))
        assert np.array_equal(both[1], self.gradient(0, LOGITS, self.Q))
        assert isinstance(self.gradient((0,), LOGITS, self.Q), tuple)

    def test_by_name(self) -> None:
        features, bias = self.gradient((0, "bias"), self.X, self.C, LABELS, bias=self.B)
        assert features.shape == self.X.shape
        assert bias.shape == self.B.shape
        assert abs(bias.sum()) < 1e-12

    @pytest.mark.parametrize("argnums", [2, -3, "weight", "nonsense", 1.5, ()])
    def test_what_has_none_is_named(self, argnums: Any) -> None:
        message = str(error_of(self.gradient, argnums, LOGITS, self.Q))
        assert "argnums" in message

    def test_labels_have_no_gradient(self) -> None:
        message = str(error_of(self.gradient, 1, LOGITS, LABELS))
        assert "argnums" in message or "targets" in message

    def test_missing_bias_has_no_gradient(self) -> None:
        assert "bias" in str(error_of(self.gradient, "bias", self.X, self.C, LABELS))

    def test_a_function_that_is_no_loss(self) -> None:
        message = str(error_of(xp_xent.value_and_grad, np.sum))
        assert "sum" in message


class TestInvariants:
    """What every answer must satisfy, whatever its digits."""

    def test_gradient_of_a_row_sums_to_zero(self, backend: Adapter) -> None:
        _, gradient = value_and_grad(
            backend, cross_entropy, LOGITS * 8, LABELS, dtype="float64", reduction="none"
        )
        zero = np.zeros((2, 3))
        scale = np.abs(gradient).sum(-1)
        assert_near(gradient.sum(-1), zero, scale, dtype="float64", classes=5, spread=40.0)

    def test_losses_are_not_negative(self, backend: Adapter, dtype: str) -> None:
        """ml-cross-entropy#52: a bug in the bias gave negative losses."""
        for gap in np.linspace(0, 150, 61):
            logits = np.array([[gap, 0.0, -gap], [-gap, 0.0, gap]])
            rows = call(backend, dtype, cross_entropy, logits, np.array([0, 0]), reduction="none")
            assert (rows >= 0).all()
