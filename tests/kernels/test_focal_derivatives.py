"""Focal losses from hopeless to certain, for any focus: derivatives in every way to get them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from _sound import WIDE, sigmoid, softplus
from flint import arb, ctx

from xp_xent import (
    backends,
    hessian_diagonal,
    hvp,
    sigmoid_focal_loss,
    softmax_focal_loss,
    value_and_grad,
)
from xp_xent.backends import Adapter
from xp_xent.conformance import _other_losses
from xp_xent.conformance.tolerance import FORMATS, row_tolerance

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
# On both sides of where a power of 1 − p leaves the range of float32, and of float64.
X = [0.0, -3.0, 17.0, 30.0, 48.0, 55.0, 86.0, 100.0, -110.0, 356.0, 720.0, 760.0]
Y = [1.0, 0.0, 0.25, 2.0**-100]
ELEMENTS = [(x * s, y) for x in X for y in Y for s in ((1, -1) if y != 0.25 else (1,))]
GAMMAS = (0.1, 0.5, 2.0)
FEW = (0.1, 0.5)  # where it is compiled
# A step far below exp(−760), the smallest 1 − p, and precision enough for its differences.
STEP, BITS = -4000, 12000


def elements(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets."""
    x, y = np.asarray(ELEMENTS, dtype=dtype).T
    return x.copy(), y.copy()


@cache
def focal(x: float, y: float, gamma: float) -> dict[str, float]:
    """Give the certified loss and slope, and their differences by x and by y."""
    with ctx.workprec(BITS):
        step = arb(2) ** STEP
        ends = [(x, y), (x + step, y), (x, y + (step if y <= 0.5 else -step))]
        at = [
            _other_losses.sigmoid_focal_loss([a], [b], gamma=gamma, reduction="none")
            for a, b in ends
        ]
        (value, _, beside), (slope, further, across) = (
            [result.value[0] for result in at], [result.gradient[0][0] for result in at]
        )  # fmt: skip
        by_y = ends[2][1] - y
        found = {"value": value, "by_x": slope, "by_xx": (further - slope) / step}
        found |= {"by_y": (beside - value) / by_y, "by_xy": (across - slope) / by_y}
        return {kind: float(ball) for kind, ball in found.items()}


def sizes(x: float, y: float, gamma: float) -> dict[str, Any]:
    """Give the sums of a second derivative's terms without their signs, where they have both.

    With the loss u^γ·c: r, c_x and u_y are log-derivatives and derivatives of u and c.
    """
    z, g = WIDE(x), WIDE(gamma)
    up, down = sigmoid(z), sigmoid(-z)
    u, c = y * down + (1 - y) * up, y * softplus(-z) + (1 - y) * softplus(z)
    r, c_x = (1 - 2 * y) * up * down / u, (1 - y) * up - y * down
    q, u_y = c / u, down - up
    by_xx = (g * (g - 1) * r * r * c, g * r * u_y * c, 2 * g * r * c_x, up * down)
    q_x = c_x / u - q * r
    by_xy = (g * r * z, g * g * r * q * u_y, WIDE(1), g * q_x * u_y, 2 * g * q * up * down)
    terms = {"by_xx": by_xx, "by_xy": by_xy}
    return {kind: u**g * sum(map(abs, parts)) for kind, parts in terms.items()}


def assert_right(
    got: Any, kind: str, gamma: float, dtype: str, pairs: list[tuple[float, float]] = ELEMENTS
) -> None:
    """To the losses' accuracy, relative to the terms that are added up."""
    want = np.asarray([focal(x, y, gamma)[kind] for x, y in pairs])
    size = np.abs(want)
    if kind in ("by_xx", "by_xy"):
        size = np.asarray([sizes(x, y, gamma)[kind] for x, y in pairs], dtype=np.float64)
    x = np.asarray([x for x, _ in pairs])
    # Beside what a row may be off, as often as its factors occur, a number below the smallest
    # normal one, times a logit.
    slack = size * 2 * (gamma + 1) * row_tolerance(dtype, 2, x)
    slack = slack + 8 * np.maximum(np.abs(x), 1) * FORMATS[dtype].smallest_normal
    got = np.asarray(got, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        off = ~((np.abs(got - want) <= slack) | (got == want))
    bad = [(*pairs[i], got[i], want[i]) for i in np.flatnonzero(off)]
    assert not bad, f"{kind} at γ = {gamma} in {dtype}: {bad}"


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_closed_forms(backend: Adapter, width: str) -> None:
    x, y = (backend.asarray(part, dtype=width) for part in elements(width))
    for gamma in GAMMAS:
        options: dict[str, Any] = {"gamma": gamma, "reduction": "none"}
        both = value_and_grad(sigmoid_focal_loss, (0, 1))(x, y, **options)
        found = {"value": both[0], "by_x": both[1][0], "by_y": both[1][1]}
        found["by_xx"] = hessian_diagonal(sigmoid_focal_loss)(x, y, **options)
        for kind, got in found.items():
            assert_right(backend.to_numpy(got), kind, gamma, width)
        along = hvp(sigmoid_focal_loss)(x, y, backend.xp.ones_like(x), gamma=gamma, reduction="sum")
        assert_right(backend.to_numpy(along), "by_xx", gamma, width)


def total(gamma: float) -> Callable[..., Any]:
    """The sum of the elements' losses, as a function of logits and targets."""
    return lambda x, y: sigmoid_focal_loss(x, y, gamma=gamma, reduction="sum")


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_torch(width: str) -> None:
    """`torch.func` in both modes and their nests, and a backward pass that is differentiated."""
    torch = pytest.importorskip("torch")
    x, y = (torch.asarray(part) for part in elements(width))
    one, grad, jvp = torch.ones_like(x), torch.func.grad, torch.func.jvp
    for gamma in GAMMAS:
        loss = total(gamma)
        slope, by_target = grad(loss), grad(loss, 1)
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(leaf, y), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
        found = [
            ("by_x", slope(x, y)),
            ("by_y", by_target(x, y)),
            ("by_x", first.detach()),
            ("by_xx", second),
            ("by_xx", jvp(lambda x, g=slope: g(x, y), (x,), (one,))[1]),
            ("by_xx", grad(lambda x, g=slope: g(x, y).sum())(x)),
            ("by_xy", grad(lambda y, g=slope: g(x, y).sum())(y)),
            ("by_xy", jvp(lambda x, g=by_target: g(x, y), (x,), (one,))[1]),
        ]
        for kind, got in found:
            assert_right(got, kind, gamma, width)
        for kind, (x_on, y_on) in {"by_x": (1.0, 0.0), "by_y": (0.0, 1.0)}.items():
            alone = lambda x, y, g=gamma: sigmoid_focal_loss(x, y, gamma=g, reduction="none")  # noqa: E731
            got = jvp(alone, (x, y), (one * x_on, one * y_on))[1]
            assert_right(got, kind, gamma, width)


@pytest.mark.parametrize("width", ["float32", pytest.param("float64", marks=pytest.mark.full)])
def test_jax(width: str) -> None:
    """Every derivative of every focus, in one compilation."""
    jax = pytest.importorskip("jax")
    x, y = (jax.numpy.asarray(part) for part in elements(width))
    one = jax.numpy.ones_like(x)

    def everything(x: Any, y: Any) -> dict[float, list[tuple[str, Any]]]:
        found = {}
        for gamma in FEW:
            loss = total(gamma)
            slope, by_target = jax.grad(loss), jax.grad(loss, 1)
            found[gamma] = {
                "by_x": slope(x, y),
                "by_y": by_target(x, y),
                "by_xx": jax.jvp(lambda x, g=slope: g(x, y), (x,), (one,))[1],
                "by_xy": jax.grad(lambda y, g=slope: g(x, y).sum())(y),
            }
        return found

    for gamma, found in jax.jit(everything)(x, y).items():
        for kind, got in found.items():
            assert_right(got, kind, gamma, width)


def test_compiled() -> None:
    """Forward and backward of several calls in one graph."""
    torch = pytest.importorskip("torch")
    torch.compiler.reset()
    x, y = (torch.asarray(part) for part in elements("float32"))
    leaves = [x.clone().requires_grad_() for _ in FEW]

    @torch.compile(fullgraph=True, backend="aot_eager")
    def losses(leaves: list[Any], y: Any) -> Any:
        calls = zip(FEW, leaves, strict=True)
        return sum(sigmoid_focal_loss(x, y, gamma=g, reduction="sum") for g, x in calls)

    losses(leaves, y).backward()
    torch.compiler.reset()
    for gamma, leaf in zip(FEW, leaves, strict=True):
        assert_right(leaf.grad, "by_x", gamma, "float32")


SURE = [(x, 1.0) for x in (1.0, 30.0, 55.0, 70.0, 86.0, 95.0, 100.0, 103.0, 110.0, -50.0, -95.0)]


@pytest.mark.parametrize("gamma", [0.01, 0.1, 2.0])
def test_softmax_closed_forms(backend: Adapter, gamma: float) -> None:
    """Two classes are one element with a target of 1; weights, so that more may overflow."""
    logits = np.asarray([[x, 0.0] for x, _ in SURE])
    z, y = backend.asarray(logits, dtype="float32"), backend.asarray(np.zeros(len(SURE), int))
    alpha = backend.asarray(np.asarray([64.0, 1.0]), dtype="float32")
    options: dict[str, Any] = {"gamma": gamma, "alpha": alpha, "reduction": "sum"}
    along = backend.asarray(np.tile([1.0, 0.0], (len(SURE), 1)), dtype="float32")
    for kind, got in (
        ("by_x", value_and_grad(softmax_focal_loss)(z, y, **options)[1]),
        ("by_xx", hessian_diagonal(softmax_focal_loss)(z, y, **options)),
        ("by_xx", hvp(softmax_focal_loss)(z, y, along, **options)),
    ):
        assert_right(backend.to_numpy(got)[:, 0] / 64, kind, gamma, "float32", SURE)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_softmax_by_automatic_differentiation(name: str) -> None:
    """Also where −log p is below the smallest normal number: its powers overflow there."""
    pytest.importorskip(name)
    backend = backends.get(name)
    x = backend.asarray(np.asarray([x for x, _ in SURE]), dtype="float32")
    y = backend.asarray(np.zeros(len(SURE), int))
    if name == "jax":
        import jax as module

        compiled = module.jit
    else:
        from torch import func as module

        compiled = lambda function: function  # noqa: E731

    def both(x: Any) -> Any:
        found = []
        for gamma in (0.1, 1.1):

            def loss(x: Any, gamma: float = gamma) -> Any:
                z = backend.xp.stack([x, backend.xp.zeros_like(x)], axis=1)
                return softmax_focal_loss(z, y, gamma=gamma, reduction="sum")

            slope = module.grad(loss)
            found.append((gamma, slope(x), module.grad(lambda x, g=slope: g(x).sum())(x)))
        return found

    for gamma, first, second in compiled(both)(x):
        assert_right(first, "by_x", float(gamma), "float32", SURE)
        assert_right(second, "by_xx", float(gamma), "float32", SURE)
