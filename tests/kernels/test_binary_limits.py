"""Derivatives of binary losses at infinite and at the largest logits, by every argument.

The loss of an element is s·(w·ỹ·ℓ₊ + (1 − ỹ)·ℓ₋), ỹ = y(1 − ε) + ε/2; at such logits ℓ₊ is
max(−x, 0) and ℓ₋ is max(x, 0), and 0·∞ is 0, in a slope as in the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xp_xent import backends, sigmoid_focal_loss, value_and_grad
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent.backends import Adapter

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
INF = np.inf
X = [INF, -INF, 3.4e38, -3.4e38]
Y = [0.0, 1.0, 0.3]
W = [1.0, 0.5, 0.0]
S = [1.0, 3.0, 0.0]
ELEMENTS = np.asarray([(x, y, w, s) for x in X for y in Y for w in W for s in S]).astype(np.float32)
EPSILONS = (0.0, 1.0, 0.9)


def times(*factors: Any) -> Any:
    """Multiply, 0 · ∞ being 0; in a range where nothing overflows that is finite."""
    factors = np.broadcast_arrays(*(np.asarray(f, np.float64) for f in factors))
    with np.errstate(invalid="ignore"):
        return np.where(np.any([f == 0 for f in factors], axis=0), 0.0, np.prod(factors, axis=0))


def slopes(epsilon: float) -> tuple[np.ndarray, ...]:
    """The derivatives by targets, `pos_weight` and `weight`, rounded to float32."""
    x, y, w, s = ELEMENTS.astype(np.float64).T
    kept, smooth = 1 - epsilon, y * (1 - epsilon) + epsilon / 2
    positive, negative = np.maximum(-x, 0), np.maximum(x, 0)
    by_target = times(s, kept, w, positive) - times(s, kept, negative)
    by_pos_weight = times(s, smooth, positive)
    by_weight = times(w, smooth, positive) + times(1 - smooth, negative)
    with np.errstate(over="ignore"):
        return tuple(g.astype(np.float32) for g in (by_target, by_pos_weight, by_weight))


def total(epsilon: float) -> Callable[..., Any]:
    """The summed loss, as a function of targets, `pos_weight` and `weight`."""

    def loss(x: Any, y: Any, w: Any, s: Any) -> Any:
        options = {"pos_weight": w, "weight": s, "label_smoothing": epsilon}
        return bce(x, y, reduction="sum", **options)

    return loss


def assert_slopes(got: Any, epsilon: float) -> None:
    """To some ULP; an infinity where it is one."""
    for found, want in zip(got, slopes(epsilon), strict=True):
        np.testing.assert_allclose(np.asarray(found), want, rtol=1e-6)


def test_closed_form(backend: Adapter) -> None:
    x, y, w, s = (backend.asarray(part.copy()) for part in ELEMENTS.T)
    for epsilon in EPSILONS:
        options = {"pos_weight": w, "weight": s, "label_smoothing": epsilon}
        _, got = value_and_grad(bce, 1)(x, y, reduction="sum", **options)
        np.testing.assert_allclose(backend.to_numpy(got), slopes(epsilon)[0], rtol=1e-6)


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    x, *others = (torch.asarray(part.copy()) for part in ELEMENTS.T)
    for epsilon in EPSILONS:
        leaves = [part.clone().requires_grad_() for part in others]
        total(epsilon)(x, *leaves).backward()
        assert_slopes([leaf.grad for leaf in leaves], epsilon)
        assert_slopes(torch.func.grad(total(epsilon), (1, 2, 3))(x, *others), epsilon)


def test_torch_forward_and_compiled() -> None:
    """One element at a time in forward mode, where a sum would be of infinities."""
    torch = pytest.importorskip("torch")
    x, *others = (torch.asarray(part.copy()) for part in ELEMENTS.T)
    found = []
    for place, own in enumerate(others):

        def alone(own: Any, place: int = place) -> Any:
            y, w, s = (*others[:place], own, *others[place + 1 :])
            return bce(x, y, pos_weight=w, weight=s, reduction="none")

        found.append(torch.func.jvp(alone, (own,), (torch.ones_like(own),))[1])
    # Forward through a weight of 0, an infinite slope is 0 · ∞.
    known = ELEMENTS[:, 3] != 0
    for got, want in zip(found, slopes(0.0), strict=True):
        np.testing.assert_allclose(got[known], want[known], rtol=1e-6)
    torch.compiler.reset()
    leaves = [[part.clone().requires_grad_() for part in others] for _ in EPSILONS]

    @torch.compile(fullgraph=True, backend="aot_eager")
    def losses(leaves: Any) -> Any:
        return sum(total(e)(x, *three) for e, three in zip(EPSILONS, leaves, strict=True))

    losses(leaves).backward()
    torch.compiler.reset()
    for epsilon, three in zip(EPSILONS, leaves, strict=True):
        assert_slopes([leaf.grad for leaf in three], epsilon)


def test_jax() -> None:
    jax = pytest.importorskip("jax")
    given = [jax.numpy.asarray(part) for part in ELEMENTS.T]

    @jax.jit
    def everything(*given: Any) -> Any:
        return [jax.grad(total(epsilon), (1, 2, 3))(*given) for epsilon in EPSILONS]

    for epsilon, got in zip(EPSILONS, everything(*given), strict=True):
        assert_slopes(got, epsilon)
    plain = lambda y: bce(given[0], y, reduction="none")  # noqa: E731
    got = jax.jvp(plain, (given[1],), (jax.numpy.ones_like(given[1]),))[1]
    assert np.array_equal(got, -ELEMENTS[:, 0])


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_mean_and_its_hessian(name: str) -> None:
    """The share of the mean leaves an infinity one; a curvature is 0, and not NaN."""
    pytest.importorskip(name)
    backend = backends.get(name)
    x, y = (backend.asarray(np.asarray(a, np.float32)) for a in ([INF, -INF], [1.0, 0.0]))
    if name == "jax":
        import jax as module
    else:
        from torch import func as module
    assert np.array_equal(backend.to_numpy(module.grad(bce, 1)(x, y)), [-INF, INF])
    assert not np.any(backend.to_numpy(module.hessian(bce)(x, y)))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_focal_by_targets(name: str) -> None:
    """As in closed form: infinite without a focus, 0 where the focus is 0."""
    pytest.importorskip(name)
    backend = backends.get(name)
    large = [1e38, -1e38]  # twice as much is a number, and the slope
    pairs = np.asarray([(x, y) for x in X[:2] + large for y in Y], np.float32).T
    x, y = (backend.asarray(part.copy()) for part in pairs)

    def gradients(x: Any, y: Any, alpha: float | None) -> Any:
        found = []
        for gamma in (0.0, 0.5, 2.0):
            options: dict[str, Any] = {"gamma": gamma, "alpha": alpha, "reduction": "sum"}
            own = module.grad(lambda y, o=options: sigmoid_focal_loss(x, y, **o))(y)
            found.append((own, value_and_grad(sigmoid_focal_loss, 1)(x, y, **options)[1]))
        return found

    if name == "jax":
        import jax as module

        found = module.jit(lambda x, y: gradients(x, y, None))(x, y)
    else:
        from torch import func as module

        found = gradients(x, y, None) + gradients(x, y, 0.25)
    for own, closed in found:
        np.testing.assert_allclose(backend.to_numpy(own), backend.to_numpy(closed), rtol=1e-5)
    # With an alpha, infinities of both signs may meet.
    assert not any(np.isnan(backend.to_numpy(own)).any() for own, _ in found[:3])
