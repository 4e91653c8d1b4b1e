"""Under tracing, and without 64-bit types: what Python must not look at, and what must not grow."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from _tools import assert_near

from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent import cross_entropy, value_and_grad

LOGITS = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
LABELS = np.array([0, 4, 1, 2])
OUTSIDE = np.array([0, 5, -1, 4])
BAD = np.array([False, True, True, False])
rows_and_gradient = value_and_grad(cross_entropy)


def near(got: Any, want: Any) -> None:
    """A compiler may round in another order."""
    want = np.asarray(want, dtype=np.float64)
    assert_near(got, want, np.maximum(abs(want), 1), dtype="float32", classes=5, spread=6.0)


class TestLabelOutOfRange:
    """Row "label out of range", where values are not known: NaN, never wrapped or clamped."""

    def check(self, rows: Any, gradient: Any) -> None:
        rows, gradient = np.asarray(rows), np.asarray(gradient)
        want, its = rows_and_gradient(LOGITS[~BAD], OUTSIDE[~BAD], reduction="none")
        assert np.array_equal(np.isnan(rows), BAD)
        assert np.isnan(gradient[BAD]).all()
        near(rows[~BAD], want)
        near(gradient[~BAD], its)

    def test_jit(self) -> None:
        """optax#1185, pytorch/xla#4552."""
        jax = pytest.importorskip("jax")
        function = jax.jit(lambda z, y: rows_and_gradient(z, y, reduction="none"))
        self.check(*function(LOGITS, OUTSIDE))

    def test_vjp_of_jit(self) -> None:
        jax = pytest.importorskip("jax")
        function = jax.jit(lambda z, y: cross_entropy(z, y, reduction="none"))
        value, pull = jax.vjp(lambda z: function(z, OUTSIDE), LOGITS)
        self.check(value, pull(jax.numpy.ones_like(value))[0])

    @pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
    def test_vmap(self) -> None:
        torch = pytest.importorskip("torch")
        both = torch.func.vmap(torch.func.grad_and_value(cross_entropy))
        gradient, rows = both(torch.tensor(LOGITS), torch.tensor(OUTSIDE))
        self.check(rows, gradient)

    def test_an_ignored_label_is_fine(self) -> None:
        jax = pytest.importorskip("jax")
        labels = np.where(BAD, -100, OUTSIDE)
        near(jax.jit(cross_entropy)(LOGITS, labels), cross_entropy(LOGITS[~BAD], OUTSIDE[~BAD]))

    def test_an_ignored_label_is_fine_for_the_weights(self) -> None:
        """Its row's NaN must not meet the zero that blanks it."""
        jax = pytest.importorskip("jax")
        weight = jax.numpy.linspace(1, 2, 5, dtype="float32")

        def by_weight(logits: Any, labels: Any) -> Any:
            return jax.grad(lambda w: cross_entropy(logits, labels, weight=w))(weight)

        labels = np.where(BAD, -100, OUTSIDE)
        kept = jax.numpy.asarray(LOGITS[~BAD]), jax.numpy.asarray(OUTSIDE[~BAD])
        near(jax.jit(by_weight)(LOGITS, labels), by_weight(*kept))


class TestJit:
    """A loss under jax.jit is the loss."""

    @pytest.mark.parametrize(
        "options",
        [
            {"label_smoothing": 0.1, "z_loss": 0.01},
            {"softcap": 5.0, "smoothing": "others", "label_smoothing": 0.2, "axis": 0},
            {"reduction": "sum", "ignore_index": None},
            {"reduction": "none", "ignore_index": 2},
        ],
        ids="-".join,
    )
    def test_options(self, options: dict[str, Any]) -> None:
        jax = pytest.importorskip("jax")
        labels = np.append(LABELS, 3)[: 5 if "axis" in options else 4] % 4
        weights = np.linspace(0.5, 1, len(labels), dtype=np.float32)
        function = lambda z, y, w: cross_entropy(z, y, sample_weight=w, **options)  # noqa: E731
        got = jax.jit(function)(LOGITS, labels, weights)
        assert got.dtype == np.float32
        near(got, function(LOGITS, labels, weights))

    def test_the_normalizer_may_be_traced(self) -> None:
        jax = pytest.importorskip("jax")
        function = jax.jit(lambda z, y, n: cross_entropy(z, y, normalizer=n))
        near(function(LOGITS, LABELS, 8.0), cross_entropy(LOGITS, LABELS, normalizer=8.0))

    def test_binary(self) -> None:
        jax = pytest.importorskip("jax")
        targets = (LOGITS > 0).astype(np.int32)
        near(jax.jit(bce)(LOGITS, targets), bce(LOGITS, targets))


WITHOUT_X64 = """
import jax, numpy as np
from xp_xent import backends, cross_entropy, hvp, value_and_grad
from xp_xent import binary_cross_entropy_with_logits, softmax_focal_loss
jnp = jax.numpy
assert not jax.config.jax_enable_x64
assert "float64" not in backends.get("jax").float_dtypes()
logits, labels = jnp.asarray([[20.0, 0.0, 0.0], [0.0, 1.0, 2.0]]), jnp.asarray([0, 2])
rows, gradient = value_and_grad(cross_entropy)(logits, labels, reduction="none")
assert rows.dtype == gradient.dtype == jnp.float32
assert abs(float(rows[0]) / 4.1223e-9 - 1) < 1e-4, rows
assert abs(float(gradient[0, 0]) / -4.1223e-9 - 1) < 1e-4, gradient
own = jax.grad(cross_entropy)(logits, labels)
assert abs(float(own[0, 0]) * 2 / -4.1223e-9 - 1) < 1e-4, own
every_option = (
    {"label_smoothing": 0.1, "weight": jnp.ones(3)}, {"z_loss": 0.1, "softcap": 30.0},
    {"sample_weight": jnp.ones(2), "where": jnp.asarray([True, False]), "normalizer": 3},
)
for options in every_option:  # what looks at the labels
    assert cross_entropy(logits, labels, **options).dtype == jnp.float32

@jax.jit
def every(logits, labels):
    found = [softmax_focal_loss(logits, labels)]
    found += [binary_cross_entropy_with_logits(logits, logits > 0)]
    for options in every_option:
        found += [*value_and_grad(cross_entropy)(logits, labels, **options)]
        found += [cross_entropy(logits, labels, **options)]
        found += [hvp(cross_entropy)(logits, labels, logits, **options)]
    return found

assert all(x.dtype == jnp.float32 for x in every(logits, labels))
print("fine")
"""


# As in pyproject.toml: the cache is shared with other processes.
BUSY_CACHE = [
    f"-Wignore:Error {doing} persistent compilation cache entry:UserWarning"
    for doing in ("reading", "writing")
]


def test_jax_without_64_bits() -> None:
    """JAX's default: nothing asks for a 64-bit type, which would warn, and warnings are errors."""
    pytest.importorskip("jax")
    run = subprocess.run(
        [sys.executable, "-W", "error", *BUSY_CACHE, "-c", WITHOUT_X64],
        env=os.environ | {"JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "fine\n", run.stderr
