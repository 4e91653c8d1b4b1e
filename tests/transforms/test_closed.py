"""The closed forms on every library, against PyTorch's automatic differentiation.

JAX's is held against the closed forms of NumPy in test_transforms_jax.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from _cases import send
from _forms import ELEMENTWISE, NOT_LOSSES
from _registry import Entry, closed_gradients
from _tools import assert_same, host
from _transforms import column, transform

import xp_xent
from xp_xent import backends

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
NOT_A_LOSS = {
    column(name): "A number to report or a map, not a loss to minimise: `value_and_grad`, `hvp` "
    "and `hessian_diagonal` take losses. PyTorch and JAX differentiate it, see below."
    for name in NOT_LOSSES
}
INTEGERS = "Its targets are integer labels, and integers have no derivative."
LABELS_ONLY = ("next_token_cross_entropy",)
NO_ROWS = "Its Hessian is no matrix for each row of logits."
ELEMENTWISE_COLUMNS = tuple(column(name) for name in ELEMENTWISE)
NOT_LINEAR = (
    "cross_entropy nll_loss next_token_cross_entropy softmax_focal_loss poly_cross_entropy "
    "kl_divergence entropy"
).split()


@cache
def gradients(case: Entry) -> dict[int | str, Any]:
    """Reverse mode, on the host."""
    torch = pytest.importorskip("torch")
    function, values = case.weighted(backends.get("torch"), case.closed)
    leaves = [value.requires_grad_() for value in values]
    slopes = torch.autograd.grad(function(*leaves), leaves)
    return dict(zip(case.closed, (slope.numpy() for slope in slopes), strict=True))


@cache
def hessian(case: Entry) -> Any:
    """Second derivatives of the loss, or of the sum of the losses, by the first array."""
    torch = pytest.importorskip("torch")
    function, values = case.bind(backends.get("torch"), (0,))
    return torch.func.hessian(lambda first: function(first).sum())(*values).numpy()


def assert_gradients(case: Entry, keys: tuple[int | str, ...]) -> None:
    """Those of `keys` that the call has, on every library."""
    for name in backends.installed():
        closed = closed_gradients(case, backends.get(name))
        for key, got in zip(case.closed, closed, strict=True):
            if key in keys:
                assert_same(got, gradients(case)[key])


@transform(
    "closed", "`value_and_grad` by the logits (log-probabilities, features)", without=NOT_A_LOSS
)
def test_by_first(case: Entry) -> None:
    """Uneven cotangents where the loss is not reduced."""
    assert_gradients(case, (0,))


@transform(
    "closed",
    "`value_and_grad` by the targets, where they are probabilities",
    without=dict.fromkeys(LABELS_ONLY, INTEGERS) | {"entropy": "It has no targets."} | NOT_A_LOSS,
)
def test_by_targets(case: Entry) -> None:
    """Smoothed, weighted and masked as in the loss."""
    if case.arrays[-1].dtype.kind == "f":
        assert_gradients(case, (len(case.arrays) - 1,))
        return
    with pytest.raises(TypeError, match="only floating targets"):
        xp_xent.value_and_grad(case.function, len(case.arrays) - 1)(*case.arrays, **case.options)


@transform(
    "closed",
    "`value_and_grad` by the classifier and the bias",
    without=dict.fromkeys((*NOT_LINEAR, *ELEMENTWISE), "It has neither.") | NOT_A_LOSS,
)
def test_by_layer(case: Entry) -> None:
    """The loss carries the derivative back through its matrix product."""
    assert_gradients(case, (1, "bias"))


@transform("closed", "`hvp`", thin=True, without=NOT_A_LOSS)
def test_hvp(case: Entry) -> None:
    """By the first array."""
    vector = np.cos(np.arange(case.arrays[0].size)).reshape(case.arrays[0].shape)
    for name in backends.installed():
        backend = backends.get(name)
        arrays, options = case.on(backend, "float64")
        sent = send(backend, vector, "float64")
        got = xp_xent.hvp(case.function)(*arrays, sent, **options)
        assert_same(got, np.tensordot(hessian(case), vector, vector.ndim))


@transform("closed", "`hessian_diagonal`", thin=True, without=NOT_A_LOSS)
def test_hessian_diagonal(case: Entry) -> None:
    """By the first array."""
    shape, size = case.arrays[0].shape, case.arrays[0].size
    for name in backends.installed():
        backend = backends.get(name)
        arrays, options = case.on(backend, "float64")
        got = xp_xent.hessian_diagonal(case.function)(*arrays, **options)
        assert_same(got, np.diag(hessian(case).reshape(size, size)).reshape(shape))


@transform(
    "closed",
    "`hessian`",
    thin=True,
    without=dict.fromkeys((*ELEMENTWISE_COLUMNS, "linear_cross_entropy"), NO_ROWS) | NOT_A_LOSS,
)
def test_hessian(case: Entry) -> None:
    """A matrix of each row: all that the dense one has."""
    logits, axis = case.arrays[0], case.options.get("axis", -1)
    places = np.moveaxis(np.arange(logits.size).reshape(logits.shape), axis, -1)
    dense = hessian(case).reshape(logits.size, logits.size)
    want = dense[places[..., :, None], places[..., None, :]]
    for name in backends.installed():
        arrays, options = case.on(backends.get(name), "float64")
        assert_same(xp_xent.hessian(case.function)(*arrays, **options), want)


@transform("closed", "`value_grad_and_hessian_diagonal`", thin=True, without=NOT_A_LOSS)
def test_value_grad_and_hessian_diagonal(case: Entry) -> None:
    """By the first array, both kinds of curvature where the loss has both."""
    shape, size = case.arrays[0].shape, case.arrays[0].size
    dense = hessian(case).reshape(size, size)
    wanted = {"diagonal": np.diag(dense), "upper_bound": abs(dense).sum(axis=1)}
    if not case.bounded:
        del wanted["upper_bound"]
    for name in backends.installed():
        arrays, options = case.on(backends.get(name), "float64")
        slopes = xp_xent.value_and_grad(case.function)(*arrays, **options)
        for kind, want in wanted.items():
            newton = xp_xent.value_grad_and_hessian_diagonal(case.function, kind)
            *both, got = newton(*arrays, **options)
            assert_same(got, want.reshape(shape))
            for one, other in zip(both, slopes, strict=True):
                assert_same(one, host(other))
