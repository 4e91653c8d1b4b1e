"""torch.compile is given a loss as one node, and what the loss refuses it still refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from xp_xent import (
    CrossEntropyLoss,
    LossStats,
    cross_entropy,
    linear_cross_entropy,
    value_and_grad,
)
from xp_xent import binary_cross_entropy_with_logits as bce

torch = pytest.importorskip("torch")
Z = torch.from_numpy(np.random.default_rng(7).normal(size=(6, 5)))
Y = torch.tensor([0, 4, -100, 2, 1, 3])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what was compiled, before and after."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "loss", [cross_entropy, CrossEntropyLoss(label_smoothing=0.1, softcap=30.0)]
)
def test_one_node(loss: Any) -> None:
    """What Dynamo does not read, it does not guard in each call either."""
    found: list[str] = []

    def backend(module: Any, inputs: Any) -> Any:
        found.extend(node.target.__name__ for node in module.graph.nodes if node.op[:4] == "call")
        return module

    torch.compile(loss, fullgraph=True, backend=backend)(Z, Y)
    assert found == ["loss_in_graph"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"reduction": "average"}, ValueError, "wanted one of 'mean', 'sum', 'none'"),
        ({"label_smoothing": True}, TypeError, "wanted a Python number"),
        ({"targets": Y[:3]}, ValueError, r"got integer shape \(3,\)"),
        ({"targets": np.ones(Z.shape)}, TypeError, "different libraries are never converted"),
        ({"smooth": 0.1}, TypeError, "unexpected keyword"),
    ],
)
def test_refusals(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    """As without the compiler; with ``fullgraph=True``, Dynamo refuses in its own words."""
    options = {name: x for name, x in change.items() if name != "targets"}
    arrays = (Z, change.get("targets", Y))
    with pytest.raises(kind, match=message):
        torch.compile(cross_entropy, backend="eager")(*arrays, **options)
    torch.compiler.reset()
    # No such option is no question of the compiler's.
    with pytest.raises(TypeError if "smooth" in change else torch._dynamo.exc.Unsupported):
        torch.compile(cross_entropy, backend="eager", fullgraph=True)(*arrays, **options)


def test_a_refusal_can_read_values() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"label_smoothing: got 2\.0"):
        torch.compile(cross_entropy, fullgraph=True)(Z, Y, label_smoothing=2.0)


LAYER = torch.nn.Linear(5, 7, dtype=torch.float64)
LOGITS = torch.nn.Parameter(Z)


def behind_a_module(x: Any, y: Any) -> Any:
    return linear_cross_entropy(x, LAYER.weight, y, bias=LAYER.bias)


@pytest.mark.parametrize(
    ("function", "arrays", "leaves"),
    [
        (cross_entropy, (LOGITS, Y), (LOGITS,)),
        (lambda y: cross_entropy(LOGITS, y), (Y,), (LOGITS,)),
        (behind_a_module, (Z, Y), (LAYER.weight, LAYER.bias)),
    ],
    ids=["argument", "closure", "module"],
)
def test_parameters(function: Callable[..., Any], arrays: tuple[Any, ...], leaves: Any) -> None:
    """A parameter is a tensor to the compiler as well: logits, or a classifier's weight."""
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")(*arrays)
    want = torch.autograd.grad(function(*arrays), leaves)
    for one, other in zip(torch.autograd.grad(compiled, leaves), want, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("cotangent", [None, 2.0, torch.linspace(0.5, 1, 6)])
def test_statistics_and_cotangents_of_closed_forms(cotangent: Any) -> None:
    """What leaves the graph is named and nested as without a compiler."""

    def step(z: Any, y: Any) -> Any:
        more = {"reduction": "none"} if isinstance(cotangent, torch.Tensor) else {}
        return value_and_grad(cross_entropy, ("logits", "temperature"))(
            z, y, temperature=0.5, cotangent=cotangent, return_stats=True, **more
        )

    (loss, stats), slopes = torch.compile(step, fullgraph=True, backend="aot_eager")(Z, Y)
    (value, wanted), gradients = step(Z, Y)
    assert isinstance(stats, LossStats)
    pairs = zip((loss, *stats, *slopes), (value, *wanted, *gradients), strict=True)
    assert all(torch.allclose(one, other, rtol=1e-12, atol=1e-15) for one, other in pairs)


def test_closed_forms_refuse_in_the_losses_words() -> None:
    compiled = torch.compile(value_and_grad(cross_entropy), backend="eager")
    with pytest.raises(ValueError, match="axis: got 5"):
        compiled(Z, Y, axis=5)


def test_a_graph_that_is_run_as_it_is() -> None:
    """Behind ``backend="eager"`` the loss is the eager one: looks at labels, any derivative."""
    z = Z.clone().requires_grad_()
    compiled = torch.compile(cross_entropy, fullgraph=True, backend="eager")
    (slope,) = torch.autograd.grad(compiled(z, Y), z, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), z)
    (slope,) = torch.autograd.grad(cross_entropy(z, Y), z, create_graph=True)
    (want,) = torch.autograd.grad(slope.square().sum(), z)
    assert torch.allclose(bend, want, rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="label 9"):
        compiled(z, torch.full((6,), 9))


@pytest.mark.parametrize(
    ("function", "option", "values"),
    [
        (cross_entropy, "normalizer", range(3, 15)),
        (cross_entropy, "normalizer", np.linspace(3.5, 9, 12).tolist()),
        (cross_entropy, "label_smoothing", np.linspace(0.05, 0.4, 12).tolist()),
        (cross_entropy, "z_loss", np.linspace(0.01, 0.4, 12).tolist()),
        (cross_entropy, "softcap", np.linspace(3, 9, 12).tolist()),
        (bce, "label_smoothing", np.linspace(0.05, 0.4, 12).tolist()),
    ],
)
def test_a_number_that_changes(function: Any, option: str, values: Any) -> None:
    """A step's number of tokens, an annealed smoothing: two graphs, not one for each value."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    z, targets = Z.clone().requires_grad_(), (Z > 0).double() if function is bce else Y

    def loss(x: Any) -> Any:
        return function(z, targets, **{option: x})

    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for x in values:
        assert torch.allclose(compiled(x), loss(x), rtol=1e-12)
        (one,), (other,) = torch.autograd.grad(compiled(x), z), torch.autograd.grad(loss(x), z)
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-15)
    assert counter.frame_count == 2


def test_export_refuses_in_the_losses_words() -> None:
    class Module(torch.nn.Module):
        def forward(self, z: Any, y: Any) -> Any:
            return cross_entropy(z, y, reduction="average")

    with pytest.raises(ValueError, match="reduction: got 'average'"):
        torch.export.export(Module(), (Z, Y), strict=False)
