"""What a trainer logs beside a loss, ``return_stats=True``: of the same walk, and constant."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from _tools import error_of, host
from _truth import Array

import xp_xent
from xp_xent import cross_entropy, linear_cross_entropy, next_token_cross_entropy, value_and_grad
from xp_xent.backends import Adapter

RNG = np.random.default_rng(31)
LOGITS = RNG.normal(size=(6, 5)) * 3
LABELS = np.array([0, 3, -100, 4, 2, 1])
LOGITS[3, 4] = LOGITS[3].max()  # a tie counts
SOFT = RNG.dirichlet(np.ones(5), 6)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"z_loss": 0.1, "sample_weight": RNG.random(6)},
    {"label_smoothing": 0.1, "weight": RNG.random(5), "reduction": "sum"},
    {"softcap": 3.0, "temperature": 2.0, "z_loss": 0.1},
    {"reduction": "none", "where": np.array([True, False, True, True, True, True])},
]
every = pytest.mark.parametrize("options", OPTIONS, ids=["-".join(o) or "plain" for o in OPTIONS])


def expected(options: dict[str, Any]) -> tuple[Array, ...]:
    """By the definitions."""
    cap, rows = options.get("softcap"), np.arange(6)
    u = (LOGITS if cap is None else cap * np.tanh(LOGITS / cap)) / options.get("temperature", 1.0)
    valid = (LABELS >= 0) & options.get("where", True)
    lse, label = np.log(np.exp(u).sum(axis=1)), np.where(valid, LABELS, 0)
    correct = u[rows, label] == u.max(axis=1)
    weight = options.get("sample_weight", 1.0)
    z_loss = np.sum(options.get("z_loss", 0.0) * np.where(valid, weight * lse**2, 0))
    nll = np.where(valid, lse - u[rows, label], 0)
    return nll, np.where(valid, lse, 0), valid & correct, z_loss


def on(backend: Adapter, options: dict[str, Any]) -> dict[str, Any]:
    return {k: backend.asarray(v) if hasattr(v, "dtype") else v for k, v in options.items()}


def assert_stats(got: Any, want: Any) -> None:
    assert got._fields == ("nll", "logsumexp", "correct", "z_loss")
    for one, other in zip(got, want, strict=True):
        assert host(one).shape == np.shape(other)
        assert np.allclose(host(one), other, rtol=1e-12, atol=1e-15)
    assert host(got.correct).dtype == bool


@every
def test_they_are_what_they_say(backend: Adapter, options: dict[str, Any]) -> None:
    """And the loss and its gradient are what they are without, bit for bit."""
    arrays, own = (backend.asarray(LOGITS), backend.asarray(LABELS)), on(backend, options)
    loss, stats = cross_entropy(*arrays, **own, return_stats=True)
    assert_stats(stats, expected(options))
    assert np.array_equal(host(loss), host(cross_entropy(*arrays, **own)))
    (value, same), gradient = value_and_grad(cross_entropy)(*arrays, **own, return_stats=True)
    plain = value_and_grad(cross_entropy)(*arrays, **own)
    assert np.array_equal(host(value), host(plain[0]))
    assert np.array_equal(host(gradient), host(plain[1]))
    assert_stats(same, expected(options))


def test_many_rows() -> None:
    """Of several blocks, and of rows that need their maximum."""
    z = RNG.normal(size=(4000, 300)).astype(np.float32) * 30
    y = RNG.integers(0, 300, 4000)
    z[::3, 7] += 500
    _, stats = cross_entropy(z, y, return_stats=True)
    assert np.array_equal(stats.correct, z[np.arange(4000), y] == z.max(axis=1))
    assert np.allclose(stats.nll, cross_entropy(z, y, reduction="none"), rtol=1e-6)
    _, soft = cross_entropy(z, y, return_stats=True, label_smoothing=0.1)
    assert np.allclose(stats.nll, soft.nll, rtol=1e-5)
    assert np.allclose(stats.logsumexp, xp_xent.logsumexp(z), rtol=1e-6)


def test_probabilities(backend: Adapter) -> None:
    """The largest one's class is the label that is right."""
    arrays = backend.asarray(LOGITS), backend.asarray(SOFT)
    plain = cross_entropy(*arrays, reduction="none")
    _, stats = cross_entropy(*arrays, label_smoothing=0.2, return_stats=True)
    assert np.allclose(host(stats.nll), host(plain))
    best = LOGITS[np.arange(6), SOFT.argmax(axis=1)]
    assert np.array_equal(host(stats.correct), best == LOGITS.max(axis=1))


def test_next_token(backend: Adapter) -> None:
    z, tokens = LOGITS.reshape(2, 3, 5), np.array([[0, 3, 2], [4, 2, 1]])
    arrays = backend.asarray(z), backend.asarray(tokens)
    loss, stats = next_token_cross_entropy(*arrays, return_stats=True)
    want = cross_entropy(z[:, :-1], tokens[:, 1:], return_stats=True)
    assert_stats(stats, want[1])
    assert np.isclose(host(loss), want[0])


def test_linear(backend: Adapter) -> None:
    features, classifier = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 4))
    labels = np.array([[0, 3, -100], [4, 2, 1]])
    how = {"z_loss": 0.1, "sample_weight": RNG.random((2, 3))}
    want = cross_entropy(features @ classifier.T, labels, **how, return_stats=True)
    arrays = [backend.asarray(x) for x in (features, classifier, labels)]
    loss, stats = linear_cross_entropy(*arrays, **on(backend, how), return_stats=True)
    assert_stats(stats, want[1])
    assert np.isclose(host(loss), want[0])
    for argnums in (0, (0, 1), (1,)):
        (_, stats), _ = value_and_grad(linear_cross_entropy, argnums)(
            *arrays, **on(backend, how), return_stats=True
        )
        assert_stats(stats, want[1])


def test_by_another_argument() -> None:
    """Statistics come beside any gradient."""
    (value, stats), _ = value_and_grad(cross_entropy, 1)(LOGITS, SOFT, return_stats=True)
    again = cross_entropy(LOGITS, SOFT, return_stats=True)
    assert np.isclose(value, again[0])
    assert_stats(stats, again[1])


def test_has_aux() -> None:
    jax = pytest.importorskip("jax")
    z, y = jax.numpy.asarray(LOGITS), jax.numpy.asarray(LABELS)

    def call(z: Any) -> Any:
        return cross_entropy(z, y, z_loss=0.1, return_stats=True)

    want = value_and_grad(cross_entropy)(LOGITS, LABELS, z_loss=0.1)
    for transform in (lambda f: f, jax.jit):
        (loss, stats), slope = transform(jax.value_and_grad(call, has_aux=True))(z)
        assert np.isclose(loss, want[0])
        assert np.allclose(slope, want[1])
        assert_stats(stats, expected({"z_loss": 0.1}))
    # No gradient comes through them.
    slopes = jax.grad(lambda z: sum(map(jax.numpy.sum, (call(z)[1].nll, call(z)[1].z_loss))))(z)
    assert (slopes == 0).all()


@pytest.mark.parametrize("compiled", [False, True])
def test_backward(compiled: bool) -> None:
    torch = pytest.importorskip("torch")
    call = torch.compile(cross_entropy, fullgraph=True, backend="aot_eager")
    z = torch.tensor(LOGITS, requires_grad=True)
    function = call if compiled else cross_entropy
    loss, stats = function(z, torch.tensor(LABELS), z_loss=0.1, return_stats=True)
    assert not any(x.requires_grad for x in stats)
    assert_stats(stats, expected({"z_loss": 0.1}))
    loss.backward()
    want = value_and_grad(cross_entropy)(LOGITS, LABELS, z_loss=0.1)
    assert np.allclose(z.grad, want[1])


def test_labels_out_of_range_where_they_are_not_read() -> None:
    jax = pytest.importorskip("jax")
    labels = jax.numpy.asarray([0, 3, 9, 4, 2, 1])
    _, stats = jax.jit(lambda z: cross_entropy(z, labels, return_stats=True))(LOGITS)
    assert np.isnan(stats.nll).tolist() == [False, False, True, False, False, False]
    assert not stats.correct[2]


def test_refused() -> None:
    assert "return_stats" in str(error_of(cross_entropy, LOGITS, LABELS, return_stats=1))
    newton = xp_xent.value_grad_and_hessian_diagonal(cross_entropy)
    assert "return_stats" in str(error_of(newton, LOGITS, LABELS, return_stats=True))


def test_they_can_be_pickled() -> None:
    _, stats = cross_entropy(LOGITS, LABELS, return_stats=True)
    assert_stats(pickle.loads(pickle.dumps(stats)), stats)


@pytest.mark.parametrize("classes", [2, 10, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_whose_exponentials_are_as_large(classes: int, dtype: str) -> None:
    """Neighbours are told apart, and ties are right, whichever is the label."""
    z = np.zeros((3000, classes), dtype)
    z[:, 0] = RNG.normal(size=3000) / 8
    z[:, 1:] = np.nextafter(z[:, :1], RNG.choice([-1, 0, 1], (3000, 1)).astype(dtype))
    y = RNG.integers(0, 2, 3000)
    want = z[np.arange(3000), y] == z.max(axis=1)
    exps = np.exp(z)
    assert (want != (exps[np.arange(3000), y] == exps.max(axis=1))).any()
    for given, axis in ((z, -1), (np.asfortranarray(z), -1), (np.ascontiguousarray(z.T), 0)):
        _, stats = cross_entropy(given, y, axis=axis, return_stats=True)
        assert np.array_equal(stats.correct, want)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 0}])
def test_no_label_is_largest_beside_nan(backend: Adapter, options: dict[str, Any]) -> None:
    z = np.array([[3.0, 1.0, np.nan], [3.0, np.inf, np.inf], [-np.inf] * 3, [np.nan, 3.0, 1.0]])
    arrays = backend.asarray(z), backend.asarray(np.array([0, 1, 1, 1]))
    _, stats = cross_entropy(*arrays, **options, return_stats=True)
    assert not host(stats.correct).any()


@pytest.mark.parametrize("where", [{}, {"where": np.arange(300) % 7 > 0}], ids=["all", "where"])
def test_beside_a_gradient_that_is_written_into_out(where: dict[str, Any]) -> None:
    """Of one block and of several."""
    z = RNG.normal(size=(300, 4000)).astype(np.float32)
    y = RNG.integers(0, 4000, 300)
    z[::3, 7] += 500
    both, room = value_and_grad(cross_entropy), np.empty_like(z)
    for rows in (300, 30):
        given = z[:rows], y[:rows]
        how = {name: x[:rows] for name, x in where.items()} | {"return_stats": True}
        (loss, stats), gradient = both(*given, **how)
        (same, its), out = both(*given, **how, out=room[:rows])
        assert out.base is room
        assert np.array_equal(out, gradient)
        assert (same, its.z_loss) == (loss, stats.z_loss)
        assert all(map(np.array_equal, its, stats))


def test_each_array_has_its_own_memory() -> None:
    losses, stats = cross_entropy(LOGITS, np.abs(LABELS) % 5, reduction="none", return_stats=True)
    assert not np.shares_memory(losses, stats.nll)


def test_no_penalty_is_0_whatever_it_would_be_of() -> None:
    z = np.array([[np.inf, 0.0], [0.0, 1.0]])
    assert cross_entropy(z, np.array([1, 0]), return_stats=True)[1].z_loss == 0
