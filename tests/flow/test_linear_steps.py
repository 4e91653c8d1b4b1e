"""linear_cross_entropy in several steps: as one cross-entropy of the whole logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _tools import assert_agree, error_of

import xp_xent
from xp_xent import backends, cross_entropy, linear_cross_entropy
from xp_xent.backends import Adapter
from xp_xent.flow import linear_steps as linear

RNG = np.random.default_rng(7)
FEATURES, CLASSIFIER, BIAS = RNG.normal(size=(2, 7, 3)), RNG.normal(size=(5, 3)), RNG.normal(size=5)
LABELS = RNG.integers(0, 5, (2, 7))
LABELS[0, 2] = -100
WEIGHT = RNG.uniform(0.5, 2, 5)
SHARES = RNG.uniform(size=(2, 7, 5))
SHARES /= SHARES.sum(-1, keepdims=True)
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 3.0}


@pytest.fixture(autouse=True, params=[1, 4, 100])
def rows_of_a_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row, four rows (with two left over), and all at once."""
    monkeypatch.setattr(linear, "STEP", 5 * request.param)


def whole(labels: Any, cotangent: Any = None, **options: Any) -> Any:
    """Value and gradients by NumPy, of logits as a whole."""
    logits = FEATURES @ CLASSIFIER.T + BIAS
    value, slope = xp_xent.value_and_grad(cross_entropy)(
        logits, labels, cotangent=cotangent, **options
    )
    by_classifier = np.einsum("btk,btd->kd", slope, FEATURES)
    return value, slope @ CLASSIFIER, by_classifier, slope.sum((0, 1))


def near(got: Any, want: Any) -> None:
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_labels(backend: Adapter, reduction: str) -> None:
    options = OPTIONS | {"reduction": reduction}
    cotangent = RNG.uniform(size=(2, 7)) if reduction == "none" else None
    want = whole(LABELS, cotangent, weight=WEIGHT, **options)
    x, w, b, y, per_class = (
        backend.asarray(a) for a in (FEATURES, CLASSIFIER, BIAS, LABELS, WEIGHT)
    )
    value, gradients = xp_xent.value_and_grad(linear_cross_entropy, (0, 1, "bias"))(
        x, w, y, bias=b, weight=per_class,
        cotangent=None if cotangent is None else backend.asarray(cotangent), **options,
    )  # fmt: skip
    for got, its in zip((value, *gradients), want, strict=True):
        near(backend.to_numpy(got), its)


def test_probabilities(backend: Adapter) -> None:
    x, w, q = (backend.asarray(a) for a in (FEATURES, CLASSIFIER, SHARES))
    logits = FEATURES @ CLASSIFIER.T
    value, gradients = xp_xent.value_and_grad(linear_cross_entropy, (0, 2))(x, w, q, **OPTIONS)
    want, (slope, by_target) = xp_xent.value_and_grad(cross_entropy, (0, 1))(
        logits, SHARES, **OPTIONS
    )
    for got, its in zip((value, *gradients), (want, slope @ CLASSIFIER, by_target), strict=True):
        near(backend.to_numpy(got), its)


def test_curvature(backend: Adapter) -> None:
    x, w, y, v = (backend.asarray(a) for a in (FEATURES, CLASSIFIER, LABELS, FEATURES[::-1]))
    product = xp_xent.hvp(linear_cross_entropy)(x, w, y, v)
    logits, along = FEATURES @ CLASSIFIER.T, FEATURES[::-1] @ CLASSIFIER.T
    near(backend.to_numpy(product), xp_xent.hvp(cross_entropy)(logits, LABELS, along) @ CLASSIFIER)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_autodiff(name: str) -> None:
    """Reverse mode, twice: the Hessian by the features, from steps and from the whole."""
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    x, w, y = (backend.asarray(a) for a in (FEATURES, CLASSIFIER, LABELS))
    if name == "torch":
        import torch

        x.requires_grad_()
        loss = linear_cross_entropy(x, w, y, **OPTIONS)
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        (second,) = torch.autograd.grad((first * first).sum(), x)
        first, second = first.detach(), second.detach()
    else:
        import jax

        def loss_of(z: Any) -> Any:
            return linear_cross_entropy(z, w, y, **OPTIONS)

        first = jax.jit(jax.grad(loss_of))(x)
        second = jax.grad(lambda z: (jax.grad(loss_of)(z) ** 2).sum())(x)
    _, want, _, _ = whole_without_bias()
    near(first, want)
    logits = FEATURES @ CLASSIFIER.T
    along = 2 * want @ CLASSIFIER.T
    near(second, xp_xent.hvp(cross_entropy)(logits, LABELS, along, **OPTIONS) @ CLASSIFIER)


def whole_without_bias() -> Any:
    logits = FEATURES @ CLASSIFIER.T
    value, slope = xp_xent.value_and_grad(cross_entropy)(logits, LABELS, **OPTIONS)
    return value, slope @ CLASSIFIER, None, None


def test_no_row() -> None:
    x, y = np.zeros((0, 3)), np.zeros(0, np.int64)
    value, gradients = xp_xent.value_and_grad(linear_cross_entropy, (0, 1))(
        x, CLASSIFIER, y, reduction="sum"
    )
    assert value == 0
    assert gradients[0].shape == (0, 3)
    assert not gradients[1].any()


@pytest.mark.parametrize(("rows", "classes"), [(9, 1), (1300, 700)])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_gradients_written_over_the_logits_of_a_step(
    rows: int, classes: int, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class, where a loss has the gradient's shape; and many blocks in one step."""
    monkeypatch.setattr(linear, "STEP", 1 << 20)
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(rows, 3)), rng.normal(size=(classes, 3))
    y = rng.integers(0, classes, rows)
    both = xp_xent.value_and_grad(linear_cross_entropy, (0, 1))
    value, (by_features, by_classifier) = both(x, w, y, softcap=softcap, label_smoothing=0.1)
    want, slope = xp_xent.value_and_grad(cross_entropy)(
        x @ w.T, y, softcap=softcap, label_smoothing=0.1
    )
    near(value, want)
    near(by_features, slope @ w)
    near(by_classifier, slope.T @ x)


def test_no_feature(backend: Adapter) -> None:
    """Logits are the bias, or 0."""
    features, classifier = backend.asarray(np.zeros((2, 7, 0))), backend.asarray(np.zeros((5, 0)))
    labels, bias = backend.asarray(LABELS), backend.asarray(BIAS)
    near(backend.to_numpy(linear_cross_entropy(features, classifier, labels)), np.log(5))
    want = cross_entropy(np.broadcast_to(BIAS, (2, 7, 5)), LABELS)
    ask = xp_xent.value_and_grad(linear_cross_entropy, (0, "bias"))
    value, (by_features, by_bias) = ask(features, classifier, labels, bias=bias)
    near(backend.to_numpy(value), want)
    assert tuple(by_features.shape) == (2, 7, 0)
    assert tuple(by_bias.shape) == (5,)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "none"},
        {"sample_weight": np.linspace(0.0, 2.0, 10).reshape(2, 5), "z_loss": 0.1},
        {"where": np.arange(10).reshape(2, 5) % 3 > 0, "label_smoothing": 0.1},
    ],
)
def test_shift(backend: Adapter, options: dict[str, Any]) -> None:
    """The token after each position, as next_token_cross_entropy has it."""
    rng = np.random.default_rng(3)
    features, classifier = rng.normal(size=(2, 5, 3)), rng.normal(size=(7, 3))
    tokens = np.array([[0, 5, -100, 6, 2], [1, 1, 3, -100, 4]])
    arrays = [backend.asarray(x) for x in (features, classifier, tokens)]
    own = {k: backend.asarray(v) if hasattr(v, "dtype") else v for k, v in options.items()}
    value, slopes = xp_xent.value_and_grad(xp_xent.linear_cross_entropy, (0, 1))(
        *arrays, shift=True, **own
    )
    want, slope = xp_xent.value_and_grad(xp_xent.next_token_cross_entropy)(
        features @ classifier.T, tokens, **options
    )
    assert_agree(value, want, np.abs(want) + 1)
    assert_agree(slopes[0], slope @ classifier, 1.0)
    assert_agree(slopes[1], np.einsum("btk,btd->kd", slope, features), 1.0)
    assert (backend.to_numpy(slopes[0])[:, -1] == 0).all()


def test_shift_refuses() -> None:
    features, classifier = np.zeros((2, 5, 3)), np.zeros((7, 3))
    tokens = np.zeros((2, 5), int)
    call = partial(error_of, xp_xent.linear_cross_entropy)
    assert "(2, 5)" in str(call(features, classifier, tokens[:, :4], shift=True))
    assert "shift" in str(call(features, classifier, tokens, shift=1))
    assert "targets" in str(call(features, classifier, np.zeros((2, 5, 7)), shift=True))
    assert "(..., T, D)" in str(call(features[0, 0], classifier, tokens[0, 0], shift=True))
    tokens[1, 3] = 8
    assert "position (1, 3)" in str(call(features, classifier, tokens, shift=True))
