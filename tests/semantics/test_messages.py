"""What an error says to whoever made a common mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import error_of

import xp_xent
from xp_xent import CrossEntropyLoss, LossAccumulator, cross_entropy, value_and_grad
from xp_xent.backends import Adapter, get

BINARY = "is for binary_cross_entropy_with_logits"
LABELLED = ("cross_entropy", "nll_loss", "linear_cross_entropy", "perplexity")


def said(function: Any, *arguments: Any, **options: Any) -> str:
    """The message of the TypeError or ValueError."""
    return str(error_of(function, *arguments, **options))


def test_a_scalar_has_no_class_axis(backend: Adapter) -> None:
    z, y = backend.asarray(np.zeros(())), backend.asarray(np.zeros((), int))
    want = "axis: got -1 for logits of shape (), wanted an array with a class axis"
    assert said(cross_entropy, z, y) == want
    assert said(xp_xent.entropy, z) == want
    assert said(xp_xent.softmax, z) == want.replace("logits", "x") + ", or None"
    assert said(xp_xent.positive_class_weight, z) == (
        "axis: got 0 for targets of shape (), wanted an array with a sample axis"
    )
    assert "wanted −2 … 1 for x of shape (2, 3)" in said(
        xp_xent.softmax, backend.asarray(np.zeros((2, 3))), axis=2
    )


def test_no_samples(backend: Adapter) -> None:
    targets = backend.asarray(np.zeros((0, 3)))
    assert said(xp_xent.positive_class_weight, targets) == (
        "targets: got no samples (shape (0, 3), axis=0), wanted at least one"
    )


def test_floating_labels_are_to_be_cast(backend: Adapter) -> None:
    z, labels = backend.asarray(np.zeros((4, 3))), backend.asarray(np.zeros(4))
    hint = "convert labels that are whole numbers to an integer dtype, int64 for example"
    for message in (
        said(cross_entropy, z, labels),
        said(xp_xent.softmax_focal_loss, z, labels),
        said(xp_xent.next_token_cross_entropy, z, labels),
        said(xp_xent.balanced_class_weights, labels, 3),
        said(xp_xent.effective_number_weights, labels, 3),
    ):
        assert message.endswith(hint), message
    assert hint not in said(cross_entropy, z, backend.asarray(np.zeros(3)))


@pytest.mark.parametrize(
    "targets",
    [np.asarray([0, 1, 1]), np.asarray([0.0, 1.0, 1.0]), np.asarray([[0], [1], [1]]),
     np.asarray([False, True, True])],
    ids=["labels", "floats", "logits' shape", "booleans"],
)  # fmt: skip
def test_one_logit_is_binary(backend: Adapter, targets: Any) -> None:
    z, y = backend.asarray(np.zeros((3, 1))), backend.asarray(targets)
    labels = targets.dtype == int and targets.ndim == 1
    if labels and backend.name == "dask":
        assert BINARY in said(cross_entropy(z, y).compute)  # looked at when it is computed
        return
    if labels and not backend.can_read_values(y):
        assert np.isnan(backend.to_numpy(cross_entropy(z, y)))  # not looked at
        return
    assert BINARY in said(cross_entropy, z, y)
    other = backend.asarray(np.zeros((3, 2))), backend.asarray(np.full(targets.shape, 1.5))
    assert BINARY not in said(cross_entropy, *other)


def test_a_mask_for_the_accumulator(backend: Adapter) -> None:
    losses, mask = backend.asarray(np.ones(3)), backend.asarray(np.asarray([True, False, True]))
    message = said(LossAccumulator().update, losses, mask)
    assert message.startswith("weights: got dtype bool")
    assert message.endswith("pass the number of rows that counted, the mask's sum")
    assert "where" not in message
    counted = int(backend.to_numpy(mask).sum())
    assert LossAccumulator().update(losses, counted).weight == 2


def test_infinity_is_outside_open_intervals() -> None:
    z, y = np.zeros((2, 3)), np.zeros(2, int)
    assert "wanted a number in (-inf, inf)" in said(cross_entropy, z, y, normalizer=np.inf)
    assert "wanted a number in [0, inf)" in said(cross_entropy, z, y, z_loss=np.inf)
    assert "wanted a number in [0, 1]" in said(cross_entropy, z, y, label_smoothing=np.inf)


def soft(backend: Adapter, name: str) -> tuple[Any, ...]:
    """Arguments of a loss with probabilities."""
    z, q = np.full((2, 3), -np.log(3)), np.full((2, 3), 1 / 3)
    arrays = (z, np.eye(3), q) if name == "linear_cross_entropy" else (z, q)
    return tuple(backend.asarray(x) for x in arrays)


@pytest.mark.parametrize("name", LABELLED)
def test_probabilities_have_no_label_to_ignore(backend: Adapter, name: str) -> None:
    """It would be without effect; where= has one."""
    function, arrays = getattr(xp_xent, name), soft(backend, name)
    for index in (0, 2, -1, np.int64(7)):
        message = said(function, *arrays, ignore_index=index)
        assert message.startswith(f"ignore_index: got {index}, but targets are probabilities")
        assert message.endswith("where=")
    if name != "perplexity":
        for derivative in (value_and_grad(function), xp_xent.hessian_diagonal(function)):
            assert "ignore_index: got 0" in said(derivative, *arrays, ignore_index=0)


@pytest.mark.parametrize("name", LABELLED)
def test_the_default_says_the_same_as_none(name: str) -> None:
    function, arrays = getattr(xp_xent, name), soft(get("numpy"), name)
    want = function(*arrays)
    for index in (-100, None, np.int64(-100)):
        assert function(*arrays, ignore_index=index) == want


def test_nor_has_a_configured_loss() -> None:
    z, q = np.zeros((2, 3)), np.full((2, 3), 1 / 3)
    assert "ignore_index: got 0" in said(CrossEntropyLoss(ignore_index=0), z, q)
    assert CrossEntropyLoss(ignore_index=None)(z, q) == CrossEntropyLoss()(z, q)


def test_nor_where_it_is_traced() -> None:
    jax = pytest.importorskip("jax")
    arrays = tuple(jax.numpy.asarray(x) for x in (np.zeros((2, 3)), np.full((2, 3), 1 / 3)))

    def loss(z: Any, q: Any) -> Any:
        return cross_entropy(z, q, ignore_index=0)

    assert "ignore_index: got 0" in said(jax.jit(loss), *arrays)
    assert "ignore_index: got 0" in said(jax.grad(loss), *arrays)


def test_nor_where_it_is_compiled() -> None:
    torch = pytest.importorskip("torch")
    arrays = torch.zeros(2, 3), torch.full((2, 3), 1 / 3)

    def loss(z: Any, q: Any) -> Any:
        return cross_entropy(z, q, ignore_index=0)

    assert "ignore_index: got 0" in said(torch.compile(loss, backend="eager"), *arrays)
    assert "ignore_index: got 0" in said(torch.func.grad(loss), *arrays)
