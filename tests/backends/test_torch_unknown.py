"""What PyTorch's compilers do not know yet: lengths of the data, and what eager losses were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xp_xent

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(13)
Z, Y = torch.tensor(RNG.normal(size=(8, 5))), torch.tensor([0, 1, 2, -100, 4, 3, 1, -100])
W, WEIGHT = torch.tensor(RNG.normal(size=(7, 5))), torch.tensor(RNG.uniform(0.5, 2, 5))
CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-14}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what was compiled, and let lengths depend on the data."""
    import torch._dynamo

    torch.compiler.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        yield
    torch.compiler.reset()


def rows_left(z: Any, y: Any) -> Any:
    kept = y != -100
    options = {"weight": WEIGHT, "sample_weight": z[:, 0].exp()[kept], "where": (y != 2)[kept]}
    return (
        xp_xent.cross_entropy(z[kept], y[kept], label_smoothing=0.1, **options)
        + xp_xent.binary_cross_entropy_with_logits(z[kept], z.sigmoid()[kept], pos_weight=WEIGHT)
    )  # fmt: skip


def rows_of_labels(z: Any, y: Any) -> Any:
    kept = y != -100
    return (
        xp_xent.cross_entropy(z[kept], y[kept])
        + xp_xent.linear_cross_entropy(z[kept], W, y[kept], reduction="none").sum()
        + xp_xent.softmax_focal_loss(z[kept], y[kept])
        + xp_xent.poly_cross_entropy(z[kept], y[kept])
        + xp_xent.nll_loss(z[kept], y[kept])
        + xp_xent.perplexity(z[kept], y[kept])
    )


def rows_of_probabilities(z: Any, y: Any) -> Any:
    kept, q = y != -100, torch.softmax(z, -1)
    weight = {"weight": z.exp()[kept], "pos_weight": WEIGHT, "where": (z > -1)[kept]}
    return (
        xp_xent.cross_entropy(z[kept], q[kept], label_smoothing=0.1)
        + xp_xent.binary_cross_entropy_with_logits(z[kept], q[kept], **weight)
        + xp_xent.sigmoid_focal_loss(z[kept], q[kept])
        + xp_xent.kl_divergence(z[kept], q[kept] ** 2)
        + xp_xent.entropy(z[kept])
        + xp_xent.logsumexp(z[kept]).sum()
    )


def tokens_and_classes_left(z: Any, y: Any) -> Any:
    kept, classes = y != -100, z.detach()[0] < 9
    smoothing: dict[str, Any] = {"label_smoothing": 0.1, "smoothing": "others"}
    weights = {"sample_weight": z[:, 0].exp()[kept], "where": (y != 2)[kept]}
    return (
        xp_xent.next_token_cross_entropy(z[kept], y[kept], **weights)
        + xp_xent.next_token_cross_entropy(z[kept], y[kept], reduction="none").square().sum()
        + xp_xent.cross_entropy(z[:, classes], y, weight=WEIGHT[classes], **smoothing)
    )


@pytest.mark.parametrize(
    "function",
    [
        rows_left,
        tokens_and_classes_left,
        pytest.param(rows_of_labels, marks=pytest.mark.full),
        pytest.param(rows_of_probabilities, marks=pytest.mark.full),
    ],
)
def test_lengths_of_the_data(function: Any) -> None:
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for y in (Y, torch.where(Y < 3, Y, -100)):
        z, again = Z.clone().requires_grad_(), Z.clone().requires_grad_()
        got, want = compiled(z, y), function(again, y)
        assert torch.allclose(got, want, **CLOSE)
        got.backward()
        want.backward()
        assert torch.allclose(z.grad, again.grad, **CLOSE)


def test_lengths_that_differ() -> None:
    """The program checks what its compiler could not."""

    def loss(z: Any, y: Any) -> Any:
        return xp_xent.cross_entropy(z[z[:, 0] > -9], y[y != -100])

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(Z, Y.clamp(0)), loss(Z, Y.clamp(0)), **CLOSE)
    with pytest.raises(RuntimeError, match="Eq"):
        compiled(Z, Y)
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match="shape"):
        torch.compile(
            lambda z, y: xp_xent.cross_entropy(z[y != 9], y[y != 9][:, None]), fullgraph=True
        )(Z, Y)


def test_inputs_marked_as_unknown() -> None:
    from torch._dynamo.decorators import mark_unbacked

    z, y = Z.clone().requires_grad_(), Y.clone()
    mark_unbacked(z, 0)
    mark_unbacked(y, 0)
    compiled = torch.compile(xp_xent.cross_entropy, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(z, y), xp_xent.cross_entropy(z, y), **CLOSE)


def two_losses(z: Any) -> Any:
    """A loss that has computed its gradient, and one that waits for cotangents.

    Their options are NumPy's numbers, which the compiler would take for tensors.
    """
    smoothing, ignored = np.float32(0.1), np.int64(-100)
    rows = xp_xent.cross_entropy(z, Y, reduction="none", label_smoothing=smoothing)
    return xp_xent.cross_entropy(z * 2, Y, ignore_index=ignored) + (rows * torch.arange(8)).sum()


def four_losses(z: Any) -> Any:
    """Of several arguments and in half precision as well."""
    return (
        two_losses(z)
        + xp_xent.linear_cross_entropy(z, W + z[0], Y, sample_weight=z[:, 0].exp())
        + xp_xent.cross_entropy(z.float().bfloat16(), Y)
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize(
    ("compiler", "losses"),
    [("aot_eager", two_losses), pytest.param("inductor", four_losses, marks=pytest.mark.full)],
)
def test_compiled_autograd_over_eager_losses(compiler: str, losses: Any) -> None:
    from torch._dynamo import compiled_autograd

    z = Z.clone().requires_grad_()
    (want,) = torch.autograd.grad(losses(z), z)
    # A part in half precision is rounded once in both, but from other bits.
    off = 1e-13 if losses is two_losses else 2e-3
    with compiled_autograd._enable(torch.compile(backend=compiler, fullgraph=True)):
        for _ in range(2):
            z.grad = None
            losses(z).backward()
            assert torch.allclose(z.grad, want, rtol=1e-12, atol=off)
