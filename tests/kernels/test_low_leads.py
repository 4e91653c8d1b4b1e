"""First and second derivatives by automatic differentiation, for labels ever less likely."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xp_xent import backends, cross_entropy, softmax_focal_loss

EPS = np.finfo(np.float32).eps
LEADS = [0.0, -1.0, -16.0, -30.0, -45.0, -59.0, -60.0, -61.0, -200.0, -np.inf]


def truth(lead: float) -> tuple[Any, Any]:
    """Gradient and Hessian of one row (lead, 0, −1) with label 0, in float64 closed form."""
    e = np.exp(np.asarray([lead, 0.0, -1.0]))
    p, away = e / e.sum(), np.asarray([[e[1:].sum() / e.sum()]])
    gradient = p.copy()
    gradient[0] = -away[0, 0]
    hessian = -np.outer(p, p)
    hessian[range(3), range(3)] = [p[i] * (e.sum() - e[i]) / e.sum() for i in range(3)]
    hessian[0, 0] = p[0] * away[0, 0]
    return gradient, hessian


def near(got: Any, want: Any, ulp: int = 64) -> None:
    """Within some float32 ULP of each entry; below the smallest normal number in absolute terms."""
    np.testing.assert_allclose(np.asarray(got), want, rtol=ulp * EPS, atol=2e-38)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_first_and_second_derivative(name: str, lead: float) -> None:
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    z = backend.asarray(np.asarray([lead, 0.0, -1.0]), dtype="float32")
    y, (gradient, hessian) = backend.asarray(np.asarray(0)), truth(lead)

    def loss(x: Any) -> Any:
        return cross_entropy(x, y)

    if name == "jax":
        import jax as module
    else:
        from torch import func as module
    near(module.grad(loss)(z), gradient)
    near(module.hessian(loss)(z), hessian)
    near(module.jacrev(module.jacrev(loss))(z), hessian)


@pytest.mark.parametrize("lead", LEADS)
def test_through_the_formula_of_eager_tensors(lead: float) -> None:
    """A weight to differentiate by, and a backward pass that is differentiated itself."""
    torch = pytest.importorskip("torch")
    z = torch.tensor([[lead, 0.0, -1.0]], requires_grad=True)
    y, weight = torch.tensor([0]), torch.ones(3, requires_grad=True)
    gradient, hessian = truth(lead)
    cross_entropy(z, y, weight=weight, reduction="sum").backward()
    near(z.grad[0], gradient)
    (first,) = torch.autograd.grad(cross_entropy(z, y), z, create_graph=True)
    (second,) = torch.autograd.grad((first * first).sum(), z)
    size = 2 * np.abs(gradient) @ np.abs(hessian)  # an entry may be a difference of larger ones
    assert (np.abs(second[0].numpy() - 2 * gradient @ hessian) <= 16 * EPS * size + 2e-38).all()


@pytest.mark.parametrize("lead", [-16.0, -45.0, -200.0])
@pytest.mark.parametrize(
    ("loss", "options"),
    [(cross_entropy, {"label_smoothing": 0.1}), (softmax_focal_loss, {})],
)
def test_other_terms(loss: Any, options: dict[str, Any], lead: float) -> None:
    """As in float64, first derivatives and a gradient penalty."""
    torch = pytest.importorskip("torch")
    found = []
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([[lead, 0.0, -1.0]], dtype=dtype, requires_grad=True)
        first = torch.func.grad(lambda x: loss(x, torch.tensor([0]), **options))(z.detach())
        (graph,) = torch.autograd.grad(loss(z, torch.tensor([0]), **options), z, create_graph=True)
        (second,) = torch.autograd.grad((graph * graph).sum(), z)
        found.append((first.double(), second.double()))
    for one, two in zip(*found, strict=True):
        near(one, two)
