"""Targets of binary losses outside [0, 1]: refused where they can be read, NaN elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import send
from _tools import error_of

import xp_xent
from xp_xent import backends, diagnose, hessian_diagonal, hvp, value_and_grad
from xp_xent.backends import Adapter

LOSSES = [xp_xent.binary_cross_entropy_with_logits, xp_xent.sigmoid_focal_loss]
Z = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
COUNTED = np.array([[True, True, False], [True, True, True]])
NAN_AT_1 = np.array([[0.0, np.nan, 0.0], [0.0, 0.0, 0.0]])

# Targets, the value that is named, and where it is.
BAD: dict[str, tuple[Any, str, str]] = {
    "a mask of 0 and 255": (np.array([[0, 255, 255], [0, 0, 255]], np.uint8), "255", "(0, 1)"),
    "-1 for the negative class": (np.array([[1, 1, 7], [1, -1, 1]]), "-1", "(1, 1)"),
    "labels from one": (np.array([[1, 1, 1], [2, 1, 1]], np.int32), "2", "(1, 0)"),
    "a little too large": (np.array([[0, 1, 0], [0, 0, 1.5]]), "1.5", "(1, 2)"),
    "an infinity": (np.array([[0, -np.inf, 0], [0, 0, 1]]), "-inf", "(0, 1)"),
    "beside NaN": (np.array([[np.nan, 2.0, 0], [0, 0, 1]]), "2.0", "(0, 1)"),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", BAD)
def test_refused(backend: Adapter, name: str, loss: Any) -> None:
    targets, value, position = BAD[name]
    z, y = send(backend, Z, "float32"), send(backend, targets, "float32")
    counted = send(backend, COUNTED, "float32")
    if not backend.can_read_values(y):
        assert np.isnan(backend.to_numpy(loss(z, y, where=counted)))
        return
    for function in (loss, value_and_grad(loss), hessian_diagonal(loss)):
        error = error_of(function, z, y, where=counted)
        assert isinstance(error, ValueError)
        parts = ("targets", value, position, "0 … 1", "divide a mask of 0 and 255 by 255", "where=")
        missing = [part for part in parts if part not in str(error)]
        assert not missing, f"{error} does not say {missing}"


@pytest.mark.parametrize("loss", LOSSES)
def test_in_every_dtype(backend: Adapter, dtype: str, loss: Any) -> None:
    z, y = send(backend, Z, dtype), send(backend, np.where(Z > 1, 2.0, 0.5), dtype)
    if backend.can_read_values(y):
        assert "got 2" in str(error_of(loss, z, y))
    else:
        losses = backend.to_numpy(loss(z, y, reduction="none"))
        assert np.array_equal(np.isnan(losses), Z > 1)


@pytest.mark.parametrize("loss", LOSSES)
def test_what_does_not_count_may_hold_anything(backend: Adapter, loss: Any) -> None:
    y = np.array([[0.0, 1.0, 255.0], [1.0, 0.5, 0.0]])
    z, counted = send(backend, Z, "float32"), send(backend, COUNTED, "float32")
    clean = send(backend, np.where(COUNTED, y, 0.0), "float32")
    y = send(backend, y, "float32")
    for ask in (loss, hessian_diagonal(loss), lambda *a, **k: value_and_grad(loss, 1)(*a, **k)[1]):
        got, want = (backend.to_numpy(ask(z, t, where=counted)) for t in (y, clean))
        assert np.array_equal(got, want)


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_gives_nan(backend: Adapter, loss: Any) -> None:
    """It is a number that is not known, and not a mistake of scale."""
    z, y = send(backend, Z, "float32"), send(backend, NAN_AT_1, "float32")
    value, slope = value_and_grad(loss)(z, y, reduction="none")
    assert np.array_equal(np.isnan(backend.to_numpy(value)), np.isnan(NAN_AT_1))
    assert np.array_equal(np.isnan(backend.to_numpy(slope)), np.isnan(NAN_AT_1))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["float32", "int32"])
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_unreadable(name: str, kind: str) -> None:
    """Under tracing: NaN in loss and gradients, and 0 where the element does not count."""
    pytest.importorskip(name)
    backend = backends.get(name)
    targets = np.array([[0, 255, 255], [1, 0, 1]], dtype=kind)
    z, y, counted = (send(backend, a, "float32") for a in (Z, targets, COUNTED))
    if name == "jax":
        import jax as module

        traced = module.jit
    else:
        from torch import func as module

        traced = module.vmap  # row by row

    def everything(z: Any, y: Any, counted: Any) -> list[Any]:
        found = []
        for loss in LOSSES:
            options = {"where": counted, "reduction": "sum"}

            def total(z: Any, y: Any, loss: Any = loss, options: Any = options) -> Any:
                return loss(z, y, **options)

            slope = module.grad(total)
            found += [loss(z, y, where=counted, reduction="none"), slope(z, y)]
            found += [module.jvp(lambda z, slope=slope: slope(z, y), (z,), (z,))[1]]
            found += [value_and_grad(loss)(z, y, **options)[1], hvp(loss)(z, y, z, **options)]
            if kind == "float32":
                found += [module.grad(total, 1)(z, y), value_and_grad(loss, 1)(z, y, **options)[1]]
        return found

    found = list(traced(everything)(z, y, counted))
    if name == "jax":  # a mask that is traced beside targets that are not
        found += [traced(lambda counted: LOSSES[0](z, y, where=counted, reduction="none"))(counted)]
    for got in map(backend.to_numpy, found):
        assert np.isnan(got[0, 1])
        assert got[0, 2] == 0
        assert np.isfinite(got[1]).all()


def test_compiled() -> None:
    """NaN, without a break of the graph."""
    torch = pytest.importorskip("torch")
    torch.compiler.reset()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def losses(z: Any, y: Any, counted: Any) -> Any:
        return [loss(z, y, where=counted, reduction="none") for loss in LOSSES]

    y = torch.tensor([[0, 255, 255], [1, 0, 1]])
    z = torch.tensor(Z, requires_grad=True)
    found = losses(z, y, torch.tensor(COUNTED))
    torch.stack(found).sum().backward()
    torch.compiler.reset()
    for got in (*found, z.grad):
        assert torch.isnan(got[0, 1])
        assert got[0, 2] == 0
        assert torch.isfinite(got[1]).all()


def test_differentiated_by() -> None:
    """Eager tensors are read, whatever requires a gradient."""
    torch = pytest.importorskip("torch")
    z, y = torch.zeros(3, requires_grad=True), torch.tensor([0.0, 2.0, 1.0], requires_grad=True)
    for arrays in ((z, y), (z.detach(), y), (z, y.detach())):
        assert "got 2.0 at position (1,)" in str(error_of(LOSSES[0], *arrays))


class TestDiagnose:
    @pytest.mark.parametrize("name", BAD)
    def test_says_the_same(self, backend: Adapter, name: str) -> None:
        targets, value, position = BAD[name]
        shown = np.where(COUNTED, targets, 0).astype(targets.dtype)
        found = diagnose(send(backend, Z, "float32"), send(backend, shown, "float32"))
        (message,) = [f.message for f in found if f.code == "targets-out-of-range"]
        said = f"got {value} at position {position}, wanted 0 … 1"
        assert said in message
        assert said in str(error_of(LOSSES[0], Z, shown))

    def test_what_is_within(self) -> None:
        for y in (np.eye(3)[:2], np.eye(3, dtype=int)[:2], NAN_AT_1, np.zeros((0, 3))):
            codes = [finding.code for finding in diagnose(Z[: len(y)], y)]
            assert "targets-out-of-range" not in codes

    def test_ignore_index(self, backend: Adapter) -> None:
        z = send(backend, np.random.default_rng(0).normal(size=(4, 3)), "float32")
        y = send(backend, np.array([0, 1, 2, 255]), "float32")
        assert diagnose(z, y, ignore_index=255) == ()
        (found,) = diagnose(z, y)
        assert found.code == "labels-out-of-range"
        nothing = send(backend, np.full(4, 7), "float32")
        assert [f.code for f in diagnose(z, nothing, ignore_index=7)] == ["nothing-counted"]
        ignored = send(backend, np.array([0, 1, 2, -100]), "float32")
        assert diagnose(z, ignored) == ()
        (found,) = diagnose(z, ignored, ignore_index=None)
        assert found.code == "labels-out-of-range"
        assert "ignore_index" in str(error_of(diagnose, z, y, ignore_index=1.5))
