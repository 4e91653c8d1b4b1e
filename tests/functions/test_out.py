"""`value_and_grad(...)(..., out=)`: the same bits, in memory that is given; refused where unfit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import LOSSES
from _sample import sample

import xp_xent
from xp_xent import backends, cross_entropy, value_and_grad
from xp_xent.backends import Adapter

WRITING = [name for name in backends.installed() if name in ("numpy", "torch", "cupy")]
OTHERS = [name for name in backends.installed() if name not in WRITING]
RNG = np.random.default_rng(3)
Z, Y = RNG.normal(size=(6, 5)).astype(np.float32), np.arange(6) % 5
both = value_and_grad(cross_entropy)


def same(backend: Adapter, got: Any, want: Any) -> bool:
    one, two = backend.to_numpy(got), backend.to_numpy(want)
    return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=True)


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("loss", LOSSES)
def test_same_bits(name: str, loss: str) -> None:
    backend, function = backends.get(name), value_and_grad(getattr(xp_xent, loss))
    for dtype in backend.float_dtypes():
        arrays, options = sample(loss).on(backend, dtype)
        value, want = function(*arrays, **options)
        room = backend.xp.zeros_like(arrays[0]) + 7
        got, gradient = function(*arrays, **options, out=room)
        assert gradient is room
        assert same(backend, got, value)
        assert same(backend, room, want)


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), [((1300, 900), -1), ((5, 700, 40, 8), 1)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("apart", [False, True])
def test_many_blocks(
    name: str, dtype: str, shape: Any, axis: int, threads: int, apart: bool
) -> None:
    backend = backends.get(name)
    rows = [n for at, n in enumerate(shape) if at != axis % len(shape)]
    host = RNG.normal(size=shape)
    host.reshape(-1)[:50] += 300  # rows that are computed again
    z = backend.asarray(host, dtype)
    y = backend.asarray(RNG.integers(0, shape[axis], rows), "int64")
    buffer = backend.xp.zeros((*shape[:-1], 2 * shape[-1]), dtype=z.dtype)
    room = buffer[..., ::2] if apart else backend.xp.zeros_like(z)
    with xp_xent.threads(threads):
        value, want = both(z, y, axis=axis)
        got, gradient = both(z, y, axis=axis, out=room)
    assert gradient is room
    assert same(backend, got, value)
    assert same(backend, room, want)
    assert not backend.to_numpy(buffer[..., 1::2]).any()


@pytest.mark.parametrize("name", WRITING)
def test_several(name: str) -> None:
    backend = backends.get(name)
    z, q = (backend.asarray(x) for x in (Z, np.full_like(Z, 0.2)))
    function = value_and_grad(cross_entropy, (0, 1))
    room = backend.xp.zeros_like(z)
    _, want = function(z, q)
    _, (first, second) = function(z, q, out=(None, room))
    assert second is room
    assert same(backend, first, want[0])
    assert same(backend, second, want[1])
    for wrong in (room, (room,), (room, room)):
        with pytest.raises((TypeError, ValueError), match=r"^out: got"):
            function(z, q, out=wrong)


READ_ONLY = np.zeros_like(Z)
READ_ONLY.flags.writeable = False
UNFIT: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (np.zeros((5, 6), np.float32), ValueError, r"wanted \(6, 5\)"),
    "dtype": (np.zeros((6, 5)), TypeError, "got dtype float64, wanted float32"),
    "order": (np.zeros((6, 5), np.dtype("f4").newbyteorder()), ValueError, "byte order"),
    "no array": ([0.0], TypeError, "out: got"),
    "input": (Z, ValueError, "shares memory"),
    "reversed input": (Z[::-1], ValueError, "shares memory"),
    "read-only": (READ_ONLY, ValueError, "read-only"),
    "broadcast": (
        np.lib.stride_tricks.as_strided(np.zeros(5, np.float32), (6, 5), (0, 4)),
        ValueError, "one place of memory",
    ),
    "window": (
        np.lib.stride_tricks.as_strided(np.zeros(10, np.float32), (6, 5), (4, 4)),
        ValueError, "one place of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("unfit", UNFIT)
def test_refused(unfit: str) -> None:
    out, error, reason = UNFIT[unfit]
    before = Z.copy()
    with pytest.raises(error, match=reason):
        both(Z, Y, out=out)
    assert np.array_equal(Z, before)


def test_an_option_is_an_input() -> None:
    weight = np.ones(30, np.float32)
    with pytest.raises(ValueError, match="shares memory"):
        both(Z, Y, weight=weight[:5], out=weight.reshape(6, 5))


def test_not_touched_where_refused() -> None:
    room = np.full_like(Z, 7)
    with pytest.raises(ValueError, match="got label 5"):
        both(Z, Y + 5, out=room)
    assert (room == 7).all()


@pytest.mark.parametrize("name", OTHERS)
def test_refused_where_nothing_is_written(name: str) -> None:
    backend = backends.get(name)
    z = backend.asarray(Z)
    with pytest.raises(ValueError, match="no results are written"):
        both(z, backend.asarray(Y), out=backend.xp.zeros_like(z))


def test_refused_on_torch() -> None:
    torch = pytest.importorskip("torch")
    z, y = torch.tensor(Z), torch.tensor(Y)
    for out, reason in [
        (z, "shares memory"),
        (z[:], "shares memory"),
        (torch.zeros(5).expand(6, 5), "one place"),
        (torch.zeros(6, 5, requires_grad=True), "requires grad"),
    ]:
        with pytest.raises(ValueError, match=reason):
            both(z, y, out=out)
    with pytest.raises(ValueError, match="no_grad"):
        both(z.clone().requires_grad_(), y, out=torch.zeros(6, 5))
    with pytest.raises(ValueError, match="transform"):
        torch.func.vmap(lambda z: both(z, y[0], out=torch.zeros(5))[1])(z)
    with pytest.raises(TypeError, match="different libraries"):
        both(z, y, out=np.zeros_like(Z))
