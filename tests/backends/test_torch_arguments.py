"""What PyTorch's losses take and refuse that other libraries do not have."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _tools import error_of

import xp_xent

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(17)
Z, Y = (
    torch.tensor(RNG.normal(size=(6, 5)), dtype=torch.float32),
    torch.tensor([0, 1, 2, -100, 4, 3]),
)
Q = torch.softmax(Z * 2, -1)

# Options that are numbers, each of which NumPy has too.
NUMBERS: list[tuple[Any, Any, dict[str, float]]] = [
    (xp_xent.cross_entropy, Y, {"label_smoothing": 0.125, "z_loss": 0.5, "softcap": 3.0}),
    (xp_xent.cross_entropy, Y, {"axis": -1, "ignore_index": -100, "normalizer": 3}),
    (xp_xent.nll_loss, Y, {"normalizer": 2.5}),
    (xp_xent.softmax_focal_loss, Y, {"alpha": 0.25, "gamma": 1.5}),
    (xp_xent.poly_cross_entropy, Y, {"epsilon": 1.5}),
    (xp_xent.next_token_cross_entropy, Y, {"ignore_index": -100}),
    (xp_xent.binary_cross_entropy_with_logits, Q, {"label_smoothing": 0.125, "normalizer": 2.0}),
    (xp_xent.sigmoid_focal_loss, Q, {"alpha": 0.25, "gamma": 1.5}),
    (xp_xent.kl_divergence, Q, {"axis": 1}),
    (xp_xent.entropy, None, {"axis": 1}),
    (xp_xent.perplexity, Y, {"axis": 1, "ignore_index": -100}),
    (xp_xent.softmax, None, {"axis": 0}),
    (xp_xent.log_softmax, None, {"axis": 0}),
    (xp_xent.logsumexp, None, {"axis": 0}),
]
IDS = [f"{function.__name__}-{'-'.join(options)}" for function, _, options in NUMBERS]


def of_numpy(options: dict[str, float], real: Any) -> dict[str, Any]:
    return {k: (real if isinstance(x, float) else np.int64)(x) for k, x in options.items()}


@pytest.mark.parametrize(("function", "targets", "options"), NUMBERS, ids=IDS)
@pytest.mark.parametrize("real", [np.float64, np.float32])
def test_numbers_of_numpy(
    function: Any, targets: Any, options: dict[str, float], real: Any
) -> None:
    """They are numbers, not arrays of another library; eager and behind a transform."""
    arrays = () if targets is None else (targets,)

    def call(z: Any, **options: Any) -> Any:
        return function(z, *arrays, **options).sum()

    z = Z.clone().requires_grad_()
    got, want = call(z, **of_numpy(options, real)), call(z, **options)
    assert torch.equal(got, want)
    slope, its = (torch.autograd.grad(loss, z)[0] for loss in (got, want))
    assert torch.equal(slope, its)
    its = torch.func.grad(lambda z: call(z, **of_numpy(options, real)))(Z)
    assert torch.allclose(slope, its, rtol=1e-4, atol=1e-6)


def test_numbers_of_numpy_compiled() -> None:
    """They break the graph, for the compiler takes them for arrays."""

    def loss(z: Any) -> Any:
        option = np.float32(0.125)
        return sum(
            xp_xent.cross_entropy(z, Y, **{name: option}) for name in ("softcap", "normalizer")
        ) + xp_xent.softmax_focal_loss(z, Y, alpha=np.float64(0.25))

    got = torch.compile(loss, backend="aot_eager")(Z)
    assert got.dtype == torch.float32
    assert torch.allclose(got, loss(Z), rtol=1e-6)
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize(("function", "targets", "options"), NUMBERS, ids=IDS)
def test_tangents_have_the_losses_dtype(
    function: Any, targets: Any, options: dict[str, float]
) -> None:
    arrays = () if targets is None else (targets,)
    for call in (function, partial(function, **options)):
        for z in (Z, Z.bfloat16()):
            value, tangent = torch.func.jvp(lambda z, f=call: f(z, *arrays), (z,), (z,))
            assert tangent.dtype == value.dtype
            assert tangent.shape == value.shape


def nested(layout: Any) -> Any:
    return torch.nested.nested_tensor([torch.ones(2, 5), torch.ones(4, 5)], layout=layout)


@pytest.mark.filterwarnings("ignore:The PyTorch API of")  # of nested and of masked tensors
@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: nested(torch.jagged), "values()"),
        (lambda: nested(torch.strided), "to_padded_tensor"),
        (lambda: torch.masked.MaskedTensor(Z, Z > 0), "get_data() and where="),
        (Z.to_sparse, "to_dense()"),
    ],
    ids=["jagged", "strided", "masked", "sparse"],
)
def test_tensors_that_are_not_dense(make: Any, hint: str) -> None:
    tensor = make()
    for function, arrays in (
        (xp_xent.cross_entropy, (tensor, Y)),
        (xp_xent.cross_entropy, (Z, tensor)),
        (xp_xent.value_and_grad(xp_xent.cross_entropy), (tensor, Y)),
        (xp_xent.softmax, (tensor,)),
        (xp_xent.diagnose, (tensor, Y)),
    ):
        error = error_of(function, *arrays)
        assert isinstance(error, TypeError)
        assert hint in str(error)


def test_the_hints_for_nested_tensors_help() -> None:
    rows = nested(torch.jagged)
    assert xp_xent.cross_entropy(rows.values(), Y) > 0
    padded = nested(torch.strided).to_padded_tensor(0.0)
    where = torch.tensor([[True, True, False, False], [True] * 4])
    assert xp_xent.cross_entropy(padded, Y[:4].repeat(2, 1), where=where) > 0


def test_refusals_speak_of_tensors() -> None:
    """Though NumPy's kernels would have run it."""
    error = error_of(xp_xent.softmax_focal_loss, Z, Y, axis=torch.tensor(0))
    assert "ensor" in str(error)
    assert "array" not in str(error)
