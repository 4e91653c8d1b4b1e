"""PyTorch's storages stay what they are: what a loss was given or gave can be freed and resized."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import backends, cross_entropy, linear_cross_entropy, value_and_grad

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(11)

# Copied, in one block of PyTorch's memory, in several, and in memory that huge pages are asked for.
SHAPES = [(6, 5), (900, 7), (70_000, 9), (2000, 700)]


def tensors(shape: tuple[int, int], dtype: str = "float32") -> tuple[Any, Any, Any]:
    torch_, (rows, classes) = backends.get("torch"), shape
    z = torch_.asarray(RNG.normal(size=shape), dtype=dtype)
    y = torch_.asarray(RNG.integers(0, classes, rows))
    return z, y, torch_.asarray(RNG.uniform(0.5, 2, classes), dtype="float32")


def is_free(tensor: Any) -> bool:
    """Tell if a tensor has memory of its own, which may be resized."""
    return tensor.untyped_storage().resizable() and not tensor._is_view()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_of_cross_entropy(shape: tuple[int, int], dtype: str) -> None:
    z, y, weight = tensors(shape, dtype)
    where = torch.ones(len(y), dtype=torch.bool)
    given = {"weight": weight, "where": where, "sample_weight": torch.ones(len(y))}
    for reduction in ("mean", "none"):
        z.grad = None
        loss = cross_entropy(z.requires_grad_(), y, reduction=reduction, **given)
        loss.sum().backward()
        with torch.no_grad():
            value = cross_entropy(z, y, reduction=reduction, **given)
        closed = xp_xent.value_and_grad(cross_entropy)(z.detach(), y, reduction=reduction)
        for x in (z, y, *given.values(), loss, value, z.grad, *closed):
            assert is_free(x)


@pytest.mark.parametrize("rows", [6, 3000])
def test_of_other_losses(rows: int) -> None:
    z, y, _ = tensors((rows, 7))
    q = torch.softmax(z, -1)
    for loss, target in (
        (xp_xent.binary_cross_entropy_with_logits, q),
        (xp_xent.kl_divergence, q),
        (xp_xent.softmax_focal_loss, y),
        (xp_xent.next_token_cross_entropy, y),
    ):
        z.grad = None
        value = loss(z.requires_grad_(), target)
        value.backward()
        along = xp_xent.hvp(loss)(z.detach(), target, q)
        bend = xp_xent.hessian_diagonal(loss)(z.detach(), target)
        assert all(is_free(x) for x in (z, target, q, value, z.grad, along, bend))


def test_of_linear_cross_entropy() -> None:
    x, y, _ = tensors((300, 700))
    classifier, bias = torch.randn(5000, 700), torch.zeros(5000)
    leaves = [x, classifier, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = linear_cross_entropy(x, classifier, y, bias=bias)
    loss.backward()
    assert all(is_free(x) for x in (*leaves, y, loss, *(leaf.grad for leaf in leaves)))


def test_what_only_looks() -> None:
    """`diagnose`, an accumulator, a refusal, a backend's own conversion."""
    z, y, _ = tensors((6, 5))
    xp_xent.diagnose(z, y)
    xp_xent.LossAccumulator().update(z)
    with pytest.raises(ValueError, match="label"):
        cross_entropy(z, y + 5)
    host = backends.get("torch").to_numpy(z)
    z.zero_()
    assert host.any()  # a copy
    assert is_free(z)
    assert is_free(y)


def test_gradients_lie_as_the_logits_do() -> None:
    """Classes first in memory, and classes in the middle; many elements, so that none is copied."""
    z, y, _ = tensors((2000, 6))
    by_class = z.T.contiguous().T
    middle = torch.randn(40, 6, 50)
    for x, axis, target in ((by_class, -1, y), (middle, 1, torch.zeros(40, 50, dtype=torch.int32))):
        cross_entropy(x.requires_grad_(), target, axis=axis).backward()
        assert x.grad.stride() == x.stride()
        want = xp_xent.value_and_grad(cross_entropy)(x.detach().numpy(), target.numpy(), axis=axis)
        assert np.array_equal(x.grad.numpy(), want[1])


@pytest.mark.parametrize(("dtype", "reduction"), [("bfloat16", "mean"), ("float32", "none")])
def test_memory_that_is_freed_between_forward_and_backward(dtype: str, reduction: str) -> None:
    """And filled again elsewhere, as FSDP does with the parameters that it has gathered."""
    z, y, _ = tensors((50, 7), dtype)
    (want,) = torch.autograd.grad(
        cross_entropy(z.requires_grad_(), y, reduction=reduction).sum(), z
    )
    loss = cross_entropy(z, y, reduction=reduction).sum()
    with torch.no_grad():
        kept, storage = z.clone(), z.untyped_storage()
        size = storage.nbytes()
        storage.resize_(0)
        others = [torch.full((50, 7), torch.nan, dtype=z.dtype) for _ in range(8)]
        storage.resize_(size)
        with torch.autograd._unsafe_preserve_version_counter(z):
            z.copy_(kept)
    (got,) = torch.autograd.grad(loss, z)
    assert torch.equal(got, want)
    del others


def test_an_output_that_is_resized() -> None:
    z, y, _ = tensors((6, 5))
    cross_entropy(z, y)
    torch.matmul(torch.ones(8, 3), torch.ones(3, 5), out=z.resize_(0))
    assert z.shape == (8, 5)


def test_signs_that_are_a_bit_of_the_view() -> None:
    """NumPy cannot share them, but what copies to it can resolve them."""
    z, y, _ = tensors((6, 5), "float64")
    negated = torch.complex(torch.zeros_like(z), -z).conj().imag
    assert negated.is_neg()
    assert xp_xent.diagnose(negated, y) == xp_xent.diagnose(z, y)
    total = xp_xent.LossAccumulator()
    assert total.update(negated, negated) == total.update(z, z)
    assert torch.allclose(cross_entropy(negated, y), cross_entropy(z, y), rtol=1e-15, atol=0)


def test_zeros_without_memory() -> None:
    from xp_xent.backends import _torch_memory

    assert _torch_memory.on_host(torch._efficientzerotensor(3, 4)) is None
    assert _torch_memory.on_host(torch.zeros(3, 0)) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_two_ranks_of_fsdp(tmp_path: Path) -> None:
    """Both generations of it train a sharded model as one that is not."""
    program = Path(__file__).parent / "_two_ranks.py"
    done = subprocess.run(
        [sys.executable, program, f"file://{tmp_path}/ranks"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_default_device() -> None:
    """What a loss of CPU tensors returns is on the CPU, in PyTorch's own memory or not."""
    for rows in (3, 3000):
        z, y = torch.randn(rows, 4, requires_grad=True), torch.arange(rows) % 4
        with torch.device("meta"):
            loss = cross_entropy(z, y)
            loss.backward()
            value, gradient = value_and_grad(cross_entropy)(z.detach(), y)
        assert {x.device.type for x in (loss, z.grad, value, gradient)} == {"cpu"}
        assert torch.equal(z.grad, gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_of_statistics(shape: tuple[int, int]) -> None:
    z, y, _ = tensors(shape, "float32")
    for loss, stats in (
        cross_entropy(z, y, return_stats=True),
        cross_entropy(z.requires_grad_(), y, return_stats=True),
    ):
        for x in (loss, *stats):
            assert is_free(x)
        assert stats.correct.dtype == torch.bool


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "float64"])
@pytest.mark.parametrize("shape", [(), (3, 4), (90, 70)])
def test_results_of_any_dtype(shape: tuple[int, ...], dtype: str) -> None:
    """Of dtypes that losses do not give, too: each has memory of its own."""
    from xp_xent.backends import _torch_memory

    host = RNG.integers(0, 2, shape).astype(dtype)
    filled = _torch_memory.empty(shape, dtype)
    filled[...] = host
    for one in (host, filled, np.array(host, order="F")):
        found = _torch_memory.from_host(one)
        assert is_free(found)
        assert str(found.dtype) == f"torch.{dtype}"
        assert np.array_equal(found.numpy(), host)
