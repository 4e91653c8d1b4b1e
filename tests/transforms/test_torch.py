"""PyTorch's automatic differentiation and torch.func, through every loss under every option."""

from __future__ import annotations

from typing import Any

import pytest
from _cases import send
from _forms import NOT_LOSSES
from _registry import Entry, closed_gradients, variants
from _tools import assert_same
from _transforms import transform

import xp_xent
from xp_xent import backends

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def scalar(case: Entry) -> tuple[Any, list[Any], tuple[int, ...]]:
    """The weighed and summed call as a function of its floating arrays, they, and argnums."""
    function, values = case.weighted(backends.get("torch"), case.floats)
    return function, values, tuple(range(len(values)))


def gradients(function: Any, values: list[Any], **how: Any) -> tuple[Any, ...]:
    """Reverse mode by every array."""
    import torch

    leaves = [value.detach().requires_grad_() for value in values]
    return torch.autograd.grad(function(*leaves), leaves, **how)


@transform("torch", "`backward()`, uneven cotangents")
def test_backward(case: Entry) -> None:
    """Every argument at once and alone; against the closed form where there is one."""
    function, values, places = scalar(case)
    together = [value.detach().requires_grad_() for value in values]
    function(*together).backward()
    by_key = dict(zip(case.floats, (value.grad for value in together), strict=True))
    if closed := closed_gradients(case, backends.get("numpy")):
        assert_same([by_key[key] for key in case.closed], closed)
    for place in places:
        leaf = values[place].detach().requires_grad_()
        function(*[leaf if i == place else values[i] for i in places]).backward()
        assert_same(leaf.grad, together[place].grad)


@transform("torch", "`autograd.gradcheck`, reverse and forward mode")
def test_first_order(case: Entry) -> None:
    """By finite differences; the Jacobian of unreduced losses is checked whole."""
    import torch

    function, values = case.bind(backends.get("torch"), case.floats)
    leaves = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True)


@transform("torch", "`autograd.gradgradcheck`, reverse and forward over reverse", thin=True)
def test_second_order(case: Entry) -> None:
    """By finite differences."""
    import torch

    function, values = case.bind(backends.get("torch"), case.floats)
    leaves = [value.requires_grad_() for value in values]
    assert torch.autograd.gradgradcheck(function, leaves, check_fwd_over_rev=True)


@transform("torch", "third derivatives", thin=True)
def test_third_order(case: Entry) -> None:
    """The gradient's own gradgradcheck, by the first array, along random directions."""
    import torch

    function, values, _ = scalar(case)

    def slope(first: Any) -> Any:
        return torch.autograd.grad(function(first, *values[1:]), first, create_graph=True)[0]

    leaf = values[0].requires_grad_()
    if not slope(leaf).requires_grad:
        # Linear in the log-probabilities.
        assert case.loss == "nll_loss" or case.option == "normalized"
        return
    assert torch.autograd.gradgradcheck(slope, leaf, fast_mode=True)


@transform("torch", "`func.grad`, `vjp`, `jvp`")
def test_functional(case: Entry) -> None:
    """By every array at once."""
    import torch

    function, values, places = scalar(case)
    want = gradients(function, values)
    assert_same(torch.func.grad(function, places)(*values), want)
    value, pull = torch.func.vjp(function, *values)
    assert_same(pull(torch.full_like(value, 2.0)), [2 * w for w in want])
    tangents = tuple(value.flip(-1) if value.ndim else value for value in values)
    slope = sum((w * t).sum() for w, t in zip(want, tangents, strict=True))
    assert_same(torch.func.jvp(function, tuple(values), tangents)[1], slope)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@transform("torch", "`func.linearize`", thin=True)
def test_linearize(case: Entry) -> None:
    """It traces a forward derivative once, and folds what is known."""
    import torch

    function, values, _ = scalar(case)
    tangents = tuple(value.flip(-1) if value.ndim else value for value in values)
    slope = torch.func.jvp(function, tuple(values), tangents)[1]
    assert_same(torch.func.linearize(function, *values)[1](*tangents), slope)


@transform(
    "torch", "`func.vmap` over each array alone and over all, labels and masks too", thin=True
)
def test_vmap(case: Entry) -> None:
    """Against a loop; an array that is not mapped over is shared."""
    import torch

    backend, arrays = backends.get("torch"), case.everything()
    function, values = case.bind(backend, tuple(arrays))
    stacks = [send(backend, variants(array), "float64") for array in arrays.values()]
    places = range(len(values))
    for mapped in [*[{i} for i in places], set(places)]:
        batch = [stacks[i] if i in mapped else values[i] for i in places]
        in_dims = tuple(0 if i in mapped else None for i in places)
        rows = [
            function(*[stacks[i][n] if i in mapped else values[i] for i in places])
            for n in range(2)
        ]
        assert_same(torch.func.vmap(function, in_dims)(*batch), torch.stack(rows))


@transform("torch", "`func.jacrev`, `jacfwd`", thin=True)
def test_jacobians(case: Entry) -> None:
    """Of unreduced losses too, by every array, against one backward pass an entry."""
    import torch

    function, values = case.bind(backends.get("torch"), case.floats)
    places, size = tuple(range(len(values))), function(*values).numel()
    rows = [gradients(lambda *v, i=i: function(*v).reshape(-1)[i], values) for i in range(size)]
    shape = tuple(function(*values).shape)
    want = [torch.stack([r[p] for r in rows]).reshape((*shape, *values[p].shape)) for p in places]
    assert_same(torch.func.jacrev(function, places)(*values), want)
    assert_same(torch.func.jacfwd(function, places)(*values), want)


@transform("torch", "`func.hessian`, and the four nests of `jacfwd` and `jacrev`", thin=True)
def test_hessians(case: Entry) -> None:
    """By every pair of arrays; and by the first, against `hvp` on NumPy."""
    from torch.func import grad, hessian, jacfwd, jacrev, jvp

    function, values, places = scalar(case)
    want = hessian(function, places)(*values)
    for outer in (jacfwd, jacrev):
        for inner in (jacfwd, jacrev):
            assert_same(outer(inner(function, places), places)(*values), want)
    if case.loss in NOT_LOSSES or case.cotangent is not None:
        return
    vector = values[0].flip(0)
    slope = grad(lambda first: function(first, *values[1:]))
    product = jvp(slope, (values[0],), (vector,))[1]
    arrays, options = case.on(backends.get("numpy"), "float64")
    assert_same(product, xp_xent.hvp(case.function)(*arrays, vector.numpy(), **options))


@transform(
    "torch",
    "compositions: `vmap(grad)`, `vmap(hessian)`, `jacrev(vmap)`, `grad` of `grad·v`",
    thin=True,
)
def test_compositions(case: Entry) -> None:
    """By the first array, over a batch of it."""
    import torch
    from torch.func import grad, hessian, jacrev, vmap

    function, values, _ = scalar(case)
    first = lambda z: function(z, *values[1:])  # noqa: E731
    batch = torch.stack([values[0], values[0].flip(0)])
    slopes = torch.stack([grad(first)(z) for z in batch])
    bends = torch.stack([hessian(first)(z) for z in batch])
    assert_same(vmap(grad(first))(batch), slopes)
    assert_same(vmap(hessian(first))(batch), bends)
    jacobian = jacrev(vmap(first))(batch)
    assert_same(torch.stack([jacobian[n, n] for n in range(2)]), slopes)
    vector = torch.ones_like(values[0]).cumsum(0)
    along = vmap(grad(lambda z: (grad(first)(z) * vector).sum()))(batch)
    assert_same(along, torch.stack([torch.tensordot(h, vector, vector.ndim) for h in bends]))
