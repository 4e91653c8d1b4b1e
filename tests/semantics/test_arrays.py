"""Your arrays, and the same bits: the last rows of the semantics table."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import COMPUTE, LOSSES
from _sample import sample
from _tools import assert_array, error_of, value_and_grad
from _truth import Array

import xp_xent
from xp_xent import cross_entropy
from xp_xent.backends import Adapter

RNG = np.random.default_rng(13)


class TestInputs:
    """Row "your arrays"."""

    @pytest.mark.parametrize("loss", LOSSES)
    def test_read_only(self, loss: str) -> None:
        """NumPy arrays that refuse to be written."""
        case = sample(loss)
        every = [*case.arrays, *case.options.values()]
        before = [a.copy() for a in every]
        for array in every:
            array.flags.writeable = False
        xp_xent.value_and_grad(case.function)(*case.arrays, **case.options)
        xp_xent.hessian_diagonal(case.function)(*case.arrays, **case.options)
        for array, old in zip(every, before, strict=True):
            assert np.array_equal(array, old)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_unchanged(self, backend: Adapter, loss: str) -> None:
        case = sample(loss)
        arrays, options = case.on(backend, "float32")
        every = [*arrays, *options.values()]
        before = [backend.to_numpy(a) for a in every]
        value, gradient = xp_xent.value_and_grad(case.function)(*arrays, **options)
        for array, old in zip(every, before, strict=True):
            assert np.array_equal(backend.to_numpy(array), old)
        assert_array(backend, value, "float32", ())
        assert_array(backend, gradient, "float32", case.arrays[0].shape)

    def test_torch_keeps_its_graph(self) -> None:
        """pytorch#170819: torch.asarray strips requires_grad, on the input itself."""
        torch = pytest.importorskip("torch")
        leaf = torch.zeros(2, 3, requires_grad=True)
        logits, labels = leaf * 2, torch.tensor([0, 1])
        loss = cross_entropy(logits, labels)
        assert leaf.requires_grad
        assert logits.requires_grad
        assert loss.requires_grad
        xp_xent.value_and_grad(cross_entropy)(logits, labels)
        assert leaf.requires_grad
        assert logits.requires_grad
        assert leaf.grad is None
        with torch.no_grad():
            assert not cross_entropy(logits, labels).requires_grad

    @pytest.mark.parametrize("order", ["C", "F", "strided", "reversed"])
    def test_any_memory_layout(self, order: str) -> None:
        logits, labels = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
        laid = {
            "C": lambda: logits,
            "F": lambda: np.asfortranarray(logits),
            "strided": lambda: np.repeat(np.repeat(logits, 2, axis=0), 3, axis=1)[::2, ::3],
            "reversed": lambda: logits[::-1, ::-1].copy()[::-1, ::-1],
        }[order]()
        want = xp_xent.value_and_grad(cross_entropy)(logits, labels)
        got = xp_xent.value_and_grad(cross_entropy)(laid, labels)
        assert np.array_equal(got[0], want[0])
        assert np.array_equal(got[1], want[1])

    def test_no_silent_change_of_dtype(self, backend: Adapter, dtype: str) -> None:
        """Weights of another floating dtype take the loss's; the loss does not take theirs."""
        kinds = backend.float_dtypes()
        for other in kinds:
            logits = backend.asarray(np.zeros((2, 3)), dtype=dtype)
            weight = backend.asarray(np.ones(3), dtype=other)
            q = backend.asarray(np.full((2, 3), 0.25), dtype=other)
            value, (gradient, by_q) = xp_xent.value_and_grad(cross_entropy, (0, 1))(
                logits, q, weight=weight
            )
            assert_array(backend, value, COMPUTE[dtype], ())
            assert_array(backend, gradient, dtype, (2, 3))
            assert_array(backend, by_q, other, (2, 3))


class TestDevices:
    """Rows on devices: nothing is copied from one to another."""

    def test_results_stay(self, backend: Adapter) -> None:
        for device in backend.devices():
            logits = backend.asarray(np.zeros((2, 3)), dtype="float32", device=device)
            labels = backend.asarray(np.zeros(2, np.int32), device=device)
            # On its device without int64, array-api-strict's argmax fails: smoothing needs it.
            options = {} if "no_x64" in str(device) else {"label_smoothing": 0.1}
            value, gradient = xp_xent.value_and_grad(cross_entropy)(
                logits, labels, z_loss=0.1, **options
            )
            for array in (value, gradient, cross_entropy(logits, labels, reduction="none")):
                assert backend.device(array) == backend.device(logits)

    def test_mixed_devices(self) -> None:
        strict = pytest.importorskip("array_api_strict")
        logits = strict.zeros((2, 3), device=strict.Device("device1"))
        message = str(error_of(cross_entropy, logits, strict.zeros(2, dtype=strict.int64)))
        assert "targets" in message
        assert "device1" in message
        assert "CPU_DEVICE" in message

    def test_out_of_range_on_a_device(self) -> None:
        """array-api-strict's second device mimics an accelerator: Python must not look."""
        strict = pytest.importorskip("array_api_strict")
        device = strict.Device("device1")
        logits = strict.zeros((3, 4), device=device)
        labels = strict.asarray([0, 4, -1], device=device)
        rows = cross_entropy(logits, labels, reduction="none")
        host = np.asarray([float(rows[i]) for i in range(3)])
        assert np.array_equal(np.isnan(host), [False, True, True])


class TestSameBits:
    """Row "same input"."""

    @pytest.mark.parametrize("loss", LOSSES)
    def test_run_to_run(self, backend: Adapter, loss: str) -> None:
        """pytorch#17350, #46024: sums by scatter change from run to run."""
        case = sample(loss, 400, 30)
        arrays, options = case.on(backend, "float32")
        first, second = (
            xp_xent.value_and_grad(case.function)(*arrays, **options) for _ in range(2)
        )
        for one, two in zip(first, second, strict=True):
            assert np.array_equal(backend.to_numpy(one), backend.to_numpy(two))

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("shape", [(3, 7), (700, 1000), (20000, 10), (2, 70000)])
    @pytest.mark.parametrize("axis", [0, -1])
    def test_whatever_the_batch(self, dtype: str, shape: tuple[int, int], axis: int) -> None:
        """On NumPy a row's loss and gradient have the same bits in any batch, and alone."""
        logits = RNG.normal(size=shape).astype(dtype)
        labels = RNG.integers(0, shape[1], shape[0])
        whole = logits.T.copy() if axis == 0 else logits
        grad = xp_xent.value_and_grad(cross_entropy)
        rows, gradient = grad(whole, labels, axis=axis, reduction="none")
        gradient = np.moveaxis(gradient, axis, -1)
        for part in (slice(0, 1), slice(shape[0] // 2, shape[0] // 2 + 1), slice(1, shape[0])):
            its, its_gradient = grad(logits[part], labels[part], reduction="none")
            assert np.array_equal(its, rows[part])
            assert np.array_equal(its_gradient, gradient[part])
        alone, alone_gradient = grad(logits[-1], labels[-1])
        assert alone == rows[-1]
        assert np.array_equal(alone_gradient, gradient[-1])


class TestNormalizerUnderGradient:
    """transformers#35203, #35438: accumulated micro-batches give the whole batch's gradient."""

    @pytest.mark.parametrize("parts", [2, 6])
    def test_micro_batches(self, backend: Adapter, parts: int) -> None:
        logits, labels = RNG.normal(size=(6, 5)), np.array([0, -100, 4, 2, -100, 1])
        _, want = value_and_grad(backend, cross_entropy, logits, labels, dtype="float64")
        got: list[Array] = []
        for rows in np.split(np.arange(6), parts):
            part = logits[rows], labels[rows]
            got.append(
                value_and_grad(backend, cross_entropy, *part, dtype="float64", normalizer=4)[1]
            )
        assert np.array_equal(np.concatenate(got), want)
