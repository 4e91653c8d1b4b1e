"""Mass that is not at the label: on a class that is nearly certain, its −log p is the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import call, value_and_grad

import xp_xent
from xp_xent import backends, cross_entropy, nll_loss
from xp_xent.backends import Adapter
from xp_xent.conformance.tolerance import SMOOTHED
from xp_xent.kernels.label_smoothing import others

RNG = np.random.default_rng(6)
TINY = 8.75651076269652e-27  # exp(−60), and log1p of it
ALL = {"label_smoothing": 1.0, "smoothing": "others"}
SOFT = np.asarray([[1e-20, 1.0]])  # which "others" turns about


def near(got: Any, want: Any) -> None:
    """To the last digits of float32."""
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=64 * 2.0**-23)


def both(loss: Any) -> Any:
    """Make a function of the value and the gradients by logits and targets, in a flat tuple."""

    def found(*arrays: Any, **options: Any) -> Any:
        value, gradients = xp_xent.value_and_grad(loss, (0, 1))(*arrays, **options)
        return value, *gradients

    return found


def test_closed_forms(backend: Adapter) -> None:
    """The label has no mass, or no weight; a target's own part is not in the sum of the others."""
    z, y = np.asarray([[20.0, 0.0]]), np.asarray([1])
    loss, slope = value_and_grad(backend, cross_entropy, z, y, **ALL)
    near(loss, np.log1p(np.exp(-20)))
    near(slope, [[-np.exp(-20), np.exp(-20)]])
    z, weight = np.asarray([[0.0, 0.0, 0.0, 60.0]]), np.asarray([0.0, 0.0, 0.0, 1.0])
    how: dict[str, Any] = {"weight": weight, "reduction": "sum"}
    for kind, part in (("uniform", 0.1 / 4), ("others", 0.1 / 3)):
        loss, slope = value_and_grad(
            backend, cross_entropy, z, np.asarray([0]), label_smoothing=0.1, smoothing=kind, **how
        )
        near(loss, part * 3 * TINY)
        near(slope, part * TINY * np.asarray([[1, 1, 1, -3]]))
    z = np.asarray([[60.0, 0.0]])
    loss, slope, by_target = call(backend, "float32", both(cross_entropy), z, SOFT, **ALL)
    near(loss, 6e-19)
    near(slope, [[1e-20, -1e-20]])
    near(by_target, [[60.0, TINY]])
    _, slope, by_target = call(backend, "float32", both(nll_loss), -z, SOFT, **ALL)
    near(slope, [[-1.0, -1e-20]])
    near(by_target, [[0.0, 60.0]])


@pytest.mark.parametrize("classes", [10, 50, 63, 1000])
def test_equal_masses_are_not_rounded_alike(backend: Adapter, classes: int) -> None:
    """Added up one by one beside the label's, 63 of them are 20 ULP off."""
    z = RNG.normal(size=(100, classes)).astype(np.float32)
    y, ones = RNG.integers(0, classes, 100), np.ones(classes, np.float32)
    for kind in ("uniform", "others"):
        for options in ({}, {"weight": ones}, {"class_where": ones > 0}):
            for epsilon in (0.001, 0.1):
                how = options | {"label_smoothing": epsilon, "smoothing": kind, "reduction": "none"}
                got = call(backend, "float32", cross_entropy, z, y, **how)
                want = cross_entropy(z.astype(np.float64), y, **how)
                ulps = (np.asarray(got, np.float64) - want) / np.spacing(np.float32(want))
                assert np.abs(ulps).max() <= SMOOTHED, (kind, options, epsilon)


def test_others_of_any_number_of_classes(backend: Adapter) -> None:
    """The sum without the class itself, along any axis, with no digit lost."""
    for count in (1, 2, 7):
        x = np.exp(np.random.default_rng(count).normal(size=(count, 3)) * 20)
        want = [[np.delete(x[:, j], i).sum() for j in range(3)] for i in range(count)]
        for axis, rows, expected in ((-2, x, want), (-1, x.T, np.transpose(want))):
            found = call(
                backend, "float64", lambda x, at=axis: others(backend._at_axis(at), x), rows
            )
            np.testing.assert_allclose(found, expected, rtol=1e-14)


def derivatives(module: Any, backend: Adapter) -> Any:
    """By logits, weights and targets, as a library finds them, in one function of all arrays."""

    def smoothed(z: Any, w: Any, y: Any) -> Any:
        return cross_entropy(z, y, weight=w, label_smoothing=0.1, reduction="sum")

    def soft(z: Any, q: Any) -> Any:
        return cross_entropy(z, q, **ALL)

    def found(z: Any, w: Any, y: Any, pair: Any, q: Any) -> Any:
        return (
            module.grad(smoothed, argnums)(z, w, y),
            module.grad(soft, argnums)(pair, q),
            module.jvp(lambda q: soft(pair, q), (q,), (backend.xp.ones_like(q),))[1],
        )

    argnums = (0, 1)
    return found


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # in forward mode
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_automatic_differentiation(name: str) -> None:
    if name not in backends.installed():
        pytest.skip(f"{name} is not installed")
    backend = backends.get(name)
    if name == "jax":
        import jax as module

        wrapped = module.jit(derivatives(module, backend))
    else:
        from torch import func as module

        wrapped = derivatives(module, backend)
    arrays = [[[0.0, 0.0, 0.0, 60.0]], [0.0, 0.0, 0.0, 1.0], [[60.0, 0.0]], SOFT]
    z, w, pair, q = (backend.asarray(np.asarray(x), dtype="float32") for x in arrays)
    first, second, along = wrapped(z, w, backend.asarray(np.asarray([0])), pair, q)
    near(first[0], 0.025 * TINY * np.asarray([[1, 1, 1, -3]]))
    near(first[1], [0.925 * 60, 0.025 * 60, 0.025 * 60, 0.025 * 3 * TINY])
    near(second[0], [[1e-20, -1e-20]])
    near(second[1], [[60.0, TINY]])
    near(along, 60.0)


def test_half_precision_weights_have_one_rounding() -> None:
    """A weight has a part at its labels and one in what smoothing spreads; they are added first."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    z, y = torch.tensor(rng.normal(size=(40, 30)), dtype=torch.float32), torch.arange(40) % 30
    half = torch.tensor(rng.uniform(0.5, 2, 30), dtype=torch.float16, requires_grad=True)
    whole = half.detach().float().requires_grad_()
    for weight in (half, whole):
        cross_entropy(z, y, weight=weight, label_smoothing=0.3).backward()
    assert torch.equal(half.grad, whole.grad.half())
