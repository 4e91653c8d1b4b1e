"""First and second derivatives by libraries, of rows in which a class is nearly certain."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from operator import mul
from typing import Any, NamedTuple

import _mlx_jacobians
import numpy as np
import pytest
from _jets import Jet, derivative, logsumexp

import xp_xent
from xp_xent import backends
from xp_xent.conformance.tolerance import FORMATS, row_tolerance

Z_LOSS, SMOOTHING, CAP = 0.1, 0.1, 30.0
LABEL = 0


class Sizes(NamedTuple):
    """What a row's derivatives add up, in absolute terms, all to full relative accuracy."""

    p: Any  # (K,)
    away: Any  # 1 − p
    label: Any  # derivative of the label's −log p
    curve: Any  # Hessian of log Σ exp, (K, K)
    nll: float
    lse: float
    below: Any  # the largest logit less each


class Case(NamedTuple):
    """A function, what it is, and Σ|terms| of its derivatives of both orders."""

    call: Callable[[Any, Any], Any]  # of logits and the label
    truth: Callable[[list[Jet]], list[Jet]]
    sizes: Callable[[Sizes], tuple[Any, Any]]


def surprisal(z: list[Jet]) -> list[Jet]:
    lse = logsumexp(z)
    return [lse - x for x in z]


def softmax(z: list[Jet]) -> list[Jet]:
    return [(-x).exp() for x in surprisal(z)]


def composed(first: float, second: float, s: Sizes) -> tuple[Any, Any]:
    """Σ|terms| of a function of the label's −log p with these derivatives."""
    return first * s.label, first * s.curve + second * np.outer(s.label, s.label)


def of_softmax(s: Sizes) -> tuple[Any, Any]:
    eye = np.eye(len(s.p), dtype=bool)
    off = np.where(eye, s.away, s.p)  # |δ_ij − p_j|
    pairs = off[:, :, None] * off[:, None, :] + (s.p[:, None] * off)[None]
    return s.p[:, None] * off, s.p[:, None, None] * pairs


def of_entropy(s: Sizes) -> tuple[Any, Any]:
    mean = (s.p * s.below).sum()
    return s.p * (s.below + mean), np.tensordot(s.below, of_softmax(s)[1], 1) + s.curve


def of_smoothing(s: Sizes) -> tuple[Any, Any]:
    q = np.full(len(s.p), SMOOTHING / len(s.p))
    q[LABEL] += 1 - SMOOTHING
    return q * s.away + (1 - q) * s.p, s.curve


def focal(s: Sizes) -> tuple[Any, Any]:
    p, u = np.exp(-s.nll), -np.expm1(-s.nll)
    return composed(u * u + 2 * u * p * s.nll, 4 * u * p + 2 * p * (p + u) * s.nll, s)


CASES = {
    "softmax": Case(lambda z, y: xp_xent.softmax(z), softmax, of_softmax),
    "log_softmax": Case(
        lambda z, y: xp_xent.log_softmax(z),
        lambda z: [-x for x in surprisal(z)],
        lambda s: (of_softmax(s)[0] / s.p[:, None], s.curve[None]),
    ),
    "logsumexp": Case(
        lambda z, y: xp_xent.logsumexp(z), lambda z: [logsumexp(z)], lambda s: (s.p, s.curve)
    ),
    "perplexity": Case(
        xp_xent.perplexity,
        lambda z: [surprisal(z)[LABEL].exp()],
        lambda s: composed(np.exp(s.nll), np.exp(s.nll), s),
    ),
    "cross_entropy": Case(
        xp_xent.cross_entropy, lambda z: [surprisal(z)[LABEL]], lambda s: composed(1, 0, s)
    ),
    "label_smoothing": Case(
        lambda z, y: xp_xent.cross_entropy(z, y, label_smoothing=SMOOTHING),
        lambda z: [
            (1 - SMOOTHING) * surprisal(z)[LABEL]
            + sum(surprisal(z), z[0].like(0)) * (SMOOTHING / len(z))
        ],
        of_smoothing,
    ),
    "z_loss": Case(
        lambda z, y: xp_xent.cross_entropy(z, y, z_loss=Z_LOSS),
        lambda z: [surprisal(z)[LABEL] + Z_LOSS * logsumexp(z) * logsumexp(z)],
        lambda s: (
            s.label + 2 * Z_LOSS * abs(s.lse) * s.p,
            s.curve * (1 + 2 * Z_LOSS * abs(s.lse)) + 2 * Z_LOSS * np.outer(s.p, s.p),
        ),
    ),
    "focal": Case(
        xp_xent.softmax_focal_loss,
        lambda z: [away * away * x for x, away in [(surprisal(z)[LABEL], 1 + -softmax(z)[LABEL])]],
        focal,
    ),
    "poly": Case(
        xp_xent.poly_cross_entropy,
        lambda z: [surprisal(z)[LABEL] + 2 * (1 + -softmax(z)[LABEL])],
        lambda s: composed(1 + 2 * np.exp(-s.nll), 2 * np.exp(-s.nll), s),
    ),
    "entropy": Case(
        lambda z, y: xp_xent.entropy(z),
        lambda z: [sum(map(mul, softmax(z), surprisal(z)), z[0].like(0))],
        of_entropy,
    ),
}


def rows(classes: int) -> Any:
    """Rows from certain to hopeless, at the label and elsewhere; the last are nearly uniform."""
    base, found = np.linspace(0.0, -0.7, classes), []
    for lead, place in product((60.0, 28.0, 5.0, 2.0, -3.0, -20.0, -60.0), (0, classes - 1)):
        row = base.copy()
        row[place] = lead
        found.append(row)
    return np.stack([*found, base, base / 1024])


def sizes(z: Any) -> Sizes:
    """Give what a row's derivatives add up."""
    listed = list(map(float, z))
    p = derivative(softmax, listed, ())
    away = np.asarray([float(1 - x) for x in p])
    p = np.asarray([float(x) for x in p])
    label, curve = p.copy(), np.outer(p, p)
    label[LABEL] = away[LABEL]
    np.fill_diagonal(curve, p * away)
    nll = float(derivative(surprisal, listed, ())[LABEL])
    lse = float(derivative(lambda x: [logsumexp(x)], listed, ())[0])
    return Sizes(p, away, label, curve, nll, lse, z.max() - z)


def assert_right(case: Case, z: Any, found: Any, order: int, dtype: str) -> None:
    """Each derivative of a row, (outputs, K, …), relative to the terms that it is a sum of."""
    classes, own = len(z), "float32" if dtype == "bfloat16" else dtype
    found = np.asarray(found, dtype=np.float64).reshape(-1, *(classes,) * order)
    scale = np.broadcast_to(case.sizes(sizes(z))[order - 1], found.shape)
    for along in product(range(classes), repeat=order):
        want = [float(x) for x in derivative(case.truth, list(map(float, z)), along)]
        slack = float(row_tolerance(own, classes, np.ptp(z))) * scale[(slice(None), *along)]
        slack = slack + 4 * FORMATS[own].smallest_normal
        if own != dtype:
            slack = slack + np.abs(want) * FORMATS[dtype].eps
        error = np.abs(found[(slice(None), *along)] - want)
        assert (error <= slack).all(), f"{z} by {along}: got {found[(..., *along)]}, want {want}"


def module_of(name: str) -> Any:
    """What has the library's `vmap`, `jacfwd` and `jacrev`."""
    if name == "jax":
        import jax

        return jax
    if name == "mlx":
        return _mlx_jacobians
    from torch import func

    return func


def nests(module: Any) -> list[Callable[..., Any]]:
    """Ways to a second derivative."""
    ways = product((module.jacfwd, module.jacrev), repeat=2)
    return [lambda f, one=one, two=two: one(two(f)) for one, two in ways]


def check(name: str, case: Case, dtype: str, classes: int, ways: slice) -> None:
    """Differentiate a function of one row, of all rows at once."""
    backend, module = backends.get(name), module_of(name)
    z, y = backend.asarray(rows(classes), dtype=dtype), backend.asarray(np.asarray(LABEL))
    host = backend.to_numpy(z).astype(np.float64)

    def call(x: Any) -> Any:
        return case.call(x, y)

    firsts, seconds = [module.jacrev, module.jacfwd], nests(module)[ways]
    every = module.vmap(lambda x: ([f(call)(x) for f in firsts], [f(call)(x) for f in seconds]))
    found = (module.jit(every) if name == "jax" else every)(z)
    for order, group in enumerate(found, start=1):
        for one in group:
            for row, derivatives in zip(host, backend.to_numpy(one), strict=True):
                assert_right(case, row, derivatives, order, dtype)


LIBRARIES = [name for name in ("torch", "jax", "mlx") if name in backends.installed()]
quiet = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


@quiet
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("case", CASES)
def test_derivatives(name: str, case: str) -> None:
    """A Hessian loses no class, however certain, nor does a Jacobian."""
    check(name, CASES[case], "float32", 2, slice(1, 2))


@quiet
@pytest.mark.full
@pytest.mark.parametrize(("dtype", "classes"), [("bfloat16", 2), ("float32", 12), ("float64", 3)])
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("case", CASES)
def test_every_nest(name: str, case: str, dtype: str, classes: int) -> None:
    """Forward and reverse mode, in both orders."""
    if case == "perplexity":  # of more, products of small probabilities underflow beside exp(60)
        classes = min(classes, 3)
    check(name, CASES[case], dtype, classes, slice(None))


@pytest.mark.parametrize("case", ["cross_entropy", "softmax", "z_loss", "entropy", "focal"])
def test_double_backward(case: str) -> None:
    """PyTorch's tape, differentiated again."""
    torch = pytest.importorskip("torch")
    for row in rows(3)[::3].astype(np.float32):
        z = torch.tensor(row, requires_grad=True)
        value = CASES[case].call(z, torch.tensor(LABEL)).reshape(-1)
        first = [torch.autograd.grad(v, z, create_graph=True)[0] for v in value]
        second = [[torch.autograd.grad(g, z, retain_graph=True)[0] for g in f] for f in first]
        assert_right(CASES[case], row, torch.stack(first).detach(), 1, "float32")
        assert_right(CASES[case], row, torch.stack([torch.stack(x) for x in second]), 2, "float32")


@quiet
@pytest.mark.parametrize("name", LIBRARIES)
def test_soft_cap_near_zero(name: str) -> None:
    """The cap's own curvature is 0 at 0, where it meets a tiny one of the loss."""
    backend, module = backends.get(name), module_of(name)
    z = backend.asarray(np.asarray([-22.5, 0.0]), dtype="float32")
    y = backend.asarray(np.asarray(0))

    def loss(x: Any) -> Any:
        return xp_xent.cross_entropy(x, y, softcap=CAP)

    for outer in (module.jacfwd, module.jacrev):
        second = outer(module.jacrev(loss))
        found = backend.to_numpy((module.jit(second) if name == "jax" else second)(z))
        np.testing.assert_allclose(found[1, 1], 5.305782453157451e-09, rtol=2e-5)


def test_mixed_derivatives_on_jax() -> None:
    """By probabilities or weights, then by the logits: −log p of a nearly certain class."""
    jax = pytest.importorskip("jax")
    z, one = jax.numpy.asarray([[0.0, 28.0]], dtype="float32"), jax.numpy.ones((1, 2), "float32")
    small = 6.914400106940203e-13

    def loss(q: Any, z: Any) -> Any:
        return xp_xent.cross_entropy(z, q, reduction="sum")

    mixed = np.asarray(jax.jit(jax.jacrev(jax.grad(loss), 1))(one / 2, z))[0, 1, 0]
    np.testing.assert_allclose(mixed, [small, -small], rtol=1e-5)


def test_entropy_of_the_largest_numbers() -> None:
    jax = pytest.importorskip("jax")
    z = jax.numpy.asarray([1e308, -1e308, 0.0])
    assert np.array_equal(jax.jit(jax.hessian(xp_xent.entropy))(z), np.zeros((3, 3)))


def test_a_linear_layer_on_jax() -> None:
    """Its first derivative is stated, as a closed form: the second is that one's."""
    jax = pytest.importorskip("jax")
    x, classifier = np.float32([[28.0, 0.0]]), jax.numpy.eye(2, dtype="float32")
    y = jax.numpy.asarray([1])
    hessian = jax.hessian(lambda x: xp_xent.linear_cross_entropy(x, classifier, y))
    second = jax.jit(hessian)(jax.numpy.asarray(x))
    small = 6.914400106940203e-13
    want = [[small, -small], [-small, small]]
    np.testing.assert_allclose(np.reshape(second, (2, 2)), want, rtol=1e-5)
