"""Rows walked in blocks, on the libraries whose operations run one by one on a device."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from _sample import sample

import xp_xent
from xp_xent import backends, cross_entropy, hvp, value_and_grad
from xp_xent.backends import Adapter, _blocks

RNG = np.random.default_rng(3)
SHAPES = [((7, 5), -1), ((2, 3, 4, 5), -1), ((3, 5, 2, 4), 1), ((5, 6), 0), ((5,), 0)]
EAGER = [name for name in ("torch", "dpnp", "cupy") if name in backends.installed()]
ROWS = 2  # of a block


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("most", [1, 5, 11, 10**6])
def test_each_row_is_in_one_block(shape: tuple[int, ...], axis: int, most: int) -> None:
    seen, rows = np.zeros(shape, int), np.empty(shape)
    for index in _blocks.cut(shape, most, axis - len(shape) if axis >= 0 else axis):
        seen[index] += 1
        assert rows[index].shape[axis] == shape[axis]
        assert rows[index].size <= max(most, shape[axis])
    assert (seen == 1).all()


@pytest.fixture(params=EAGER)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """A library as on a device; PyTorch's tensors have no memory that NumPy could share."""
    if request.param == "torch":
        from xp_xent.backends import _torch_memory

        monkeypatch.setattr(_torch_memory, "on_host", lambda tensor: None)
    return backends.get(request.param)


def everything(backend: Adapter, case: Any, dtype: str) -> list[Any]:
    """A loss's values, gradients and curvature, on the host."""
    arrays, options = case.on(backend, dtype)
    function = case.function
    found = [
        *value_and_grad(function)(*arrays, **options),
        function(*arrays, **options, reduction="none"),
        hvp(function)(*arrays, arrays[0], **options),
        xp_xent.hessian_diagonal(function)(*arrays, **options),
    ]
    return [backend.to_numpy(one) for one in found]


@pytest.mark.parametrize(
    "loss", ["cross_entropy", "softmax_focal_loss", "entropy", "kl_divergence"]
)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_blocks_change_nothing(
    device: Adapter, loss: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype not in device.float_dtypes():
        pytest.skip("this device has no half precision")
    case, sizes = sample(loss), []
    want = everything(device, case, dtype)
    cut = _blocks.cut
    monkeypatch.setattr(_blocks, "ROOM", 8 * 4 * ROWS)
    monkeypatch.setattr(_blocks, "cut", lambda *a: sizes.append(a) or cut(*a))
    got = everything(device, case, dtype)
    assert sizes
    for one, two in zip(got, want, strict=True):
        assert one.dtype == two.dtype
        assert np.allclose(one, two, rtol=1e-3 if dtype == "float16" else 1e-14, atol=0)


def test_no_block_is_larger(device: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "ROOM", 8 * 5 * ROWS)
    xp, sizes = device.xp, []

    def on_block(rows: Any, per_row: Any, per_class: Any, nothing: None) -> tuple[Any, Any]:
        assert nothing is None
        sizes.append(rows.shape)
        return per_row + xp.max(rows, axis=-1, keepdims=True), rows * per_class

    given = RNG.normal(size=(7, 5)), RNG.normal(size=(7, 1)), RNG.normal(size=(1, 5))
    arrays = [device.asarray(x, dtype="float64") for x in given]

    def walked(overwrite: bool) -> Any:
        if device.name != "torch":
            return device.map_blocks(on_block, *arrays, None, overwrite=overwrite)
        with device.torch.no_grad():
            return device.map_blocks(on_block, *arrays, None, overwrite=overwrite)

    for overwrite in (False, True):
        found = [device.to_numpy(x) for x in walked(overwrite)]
        assert np.array_equal(found[0], given[1] + given[0].max(1, keepdims=True))
        assert np.array_equal(found[1], given[0] * given[2])
    assert [size[0] for size in sizes] == [2, 2, 2, 1] * 2
    # The second wrote over the rows.
    assert np.array_equal(device.to_numpy(arrays[0]), given[0] * given[2])


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
def test_who_differentiates_sees_one_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("cut into blocks")

    monkeypatch.setattr(_blocks, "walk", refuse)
    from xp_xent.backends import _torch_memory

    monkeypatch.setattr(_torch_memory, "on_host", lambda tensor: None)

    class Module(torch.nn.Module):
        def forward(self, z: Any, y: Any) -> Any:
            return cross_entropy(z, y)

    z, y = torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    cross_entropy(z, y, weight=weight).backward()  # through the formula
    torch.func.grad(cross_entropy)(z, y)
    torch.func.jvp(lambda x: cross_entropy(x, y), (z,), (z,))
    with torch.no_grad():
        torch.func.jvp(lambda x: cross_entropy(x, y), (z,), (z,))
        torch.func.vmap(cross_entropy)(z, y)
        torch.export.export(Module(), (z, y))
    with torch.autograd.forward_ad.dual_level(), torch.no_grad():
        cross_entropy(torch.autograd.forward_ad.make_dual(z, z), y)
    with pytest.raises(AssertionError, match="cut into blocks"):
        cross_entropy(z, y)


def test_half_precision_is_not_widened_whole(
    device: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array of float32 is as large as the logits."""
    if "float16" not in device.float_dtypes():
        pytest.skip("this device has no half precision")
    monkeypatch.setattr(_blocks, "ROOM", 8 * 40 * ROWS)
    z = device.asarray(RNG.normal(size=(9, 40)), dtype="float16")
    y = device.asarray(RNG.integers(0, 40, 9))
    largest, count = [], device.xp.astype

    def astype(x: Any, dtype: Any, **options: Any) -> Any:
        found = count(x, dtype, **options)
        largest.append(int(np.prod(found.shape)) if found.dtype == device.xp.float32 else 0)
        return found

    module = sys.modules[device.xp.__name__]
    monkeypatch.setattr(module, "astype", astype)
    value_and_grad(cross_entropy)(z, y, label_smoothing=0.1)
    assert max(largest) == 40 * ROWS


@pytest.mark.parametrize("threads", [1, 2])
def test_one_class_in_many_blocks(threads: int) -> None:
    """Losses and gradient have one shape then, and neither may be made in the other's memory."""
    z = RNG.normal(size=((1 << 20) + 7, 1))
    y = np.zeros(len(z), int)
    with xp_xent.threads(threads):
        loss, gradient = value_and_grad(cross_entropy)(z, y)
        assert (loss, abs(gradient).max()) == (0, 0)
        loss, gradient = value_and_grad(cross_entropy)(z, y, z_loss=0.1, reduction="none")
    np.testing.assert_allclose(loss, 0.1 * z[:, 0] ** 2, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(gradient, 0.2 * z, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("rows", [9, 30000])
def test_subclasses_end_here(rows: int) -> None:
    """A memory-mapped file's gradient is an array, however many blocks it has."""

    class Sub(np.ndarray):
        pass

    z, y = RNG.normal(size=(rows, 33)).view(Sub), np.zeros(rows, int).view(Sub)
    loss, gradient = value_and_grad(cross_entropy)(z, y)
    assert not isinstance(loss, Sub)
    assert type(gradient) is np.ndarray


def test_means_in_any_memory_layout() -> None:
    """Elements that stand alone are summed in the order of their indices."""
    mean = xp_xent.binary_cross_entropy_with_logits
    for _ in range(40):  # in another order, a third of the sums differ
        x = RNG.normal(size=(60, 70)).astype(np.float32)
        y = (x > 0).astype(np.float32)
        assert mean(x, y) == mean(np.asfortranarray(x), np.asfortranarray(y))


def test_denominators_in_any_memory_layout() -> None:
    """Weights of a mean are summed in that order too."""
    z, y = RNG.normal(size=(60, 70, 3)), np.zeros((60, 70), int)
    for _ in range(40):  # in another order, a third of the sums differ
        weight = RNG.lognormal(size=y.shape).astype(np.float32)
        each = [
            value_and_grad(cross_entropy)(z.astype(np.float32), y, sample_weight=w)
            for w in (weight, np.asfortranarray(weight))
        ]
        assert each[0][0] == each[1][0]
        assert np.array_equal(each[0][1], each[1][1])


def test_weights_whose_product_overflows_do_not_warn() -> None:
    big = np.full(3, 1e30, np.float32)
    with np.errstate(all="raise"):
        mean = cross_entropy(
            np.zeros((3, 3), np.float32), np.zeros(3, int), weight=big, sample_weight=big
        )
    assert np.isnan(mean)  # ∞ / ∞: an overflow stays visible
