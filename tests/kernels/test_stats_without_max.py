"""NumPy's rows whose exponentials need no shift, among rows that do: each has its own bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import backends, cross_entropy, softmax_focal_loss, value_and_grad
from xp_xent.backends import Backend

RNG = np.random.default_rng(11)
INF, NAN = np.inf, np.nan
# What is added to a row of normal logits: all in reach of plain exponentials, and none.
OFFSETS = [0.0, 30.0, -3.0, -12.0, -20.0, -30.0, 1e4, -1e4, 41.0, 42.0, -41.0, -200.0, 1e30]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"z_loss": 0.01},
    {"softcap": 30.0},
    {"ignore_index": 2},
    {"where": True, "sample_weight": True},
    {"weight": True, "reduction": "none"},
]
MASSES: list[dict[str, Any]] = [
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.1, "smoothing": "others"},
    {"probabilities": True},
]


def rows_of(classes: int, dtype: str) -> tuple[Any, Any]:
    """Rows at every offset, then hopeless, confident, masked, infinite and undefined ones."""
    z = RNG.normal(size=(len(OFFSETS) + 8, classes))
    z[: len(OFFSETS)] += np.asarray(OFFSETS)[:, None]
    y = RNG.integers(0, classes, len(z))
    special = np.arange(len(OFFSETS), len(z))
    z[special[0], y[special[0]]] = 90  # confident
    z[special[1], y[special[1]]] = -90  # hopeless
    z[special[2], (y[special[2]] + 1) % classes] = -INF
    z[special[3], y[special[3]]] = -INF
    z[special[4]] = -INF
    z[special[5], 0] = INF
    z[special[6], 1] = NAN
    z[special[7]] -= 15  # low, with a class whose exponential underflows, and its p does not
    z[special[7], (y[special[7]] + 1) % classes] = -95
    with np.errstate(over="ignore"):
        return z.astype(dtype), y


def same(one: Any, other: Any) -> bool:
    """Tell if all numbers are the same; any NaN is NaN."""
    return np.array_equal(one, other, equal_nan=True)


def filled(options: dict[str, Any], z: Any, dtype: str) -> dict[str, Any]:
    arrays = {
        "where": np.arange(len(z)) % 3 != 1,
        "sample_weight": np.linspace(0.5, 2, len(z)).astype(dtype),
        "weight": np.linspace(0.5, 2, z.shape[-1]).astype(dtype),
    }
    return {name: arrays[name] if x is True else x for name, x in options.items()}


def one(options: dict[str, Any], at: int) -> dict[str, Any]:
    """Options of one row alone."""
    by_row = {"where", "sample_weight"}
    return {name: x[at : at + 1] if name in by_row else x for name, x in options.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("classes", [2, 5, 100])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_bits_of_a_row_alone(classes: int, dtype: str, options: dict[str, Any]) -> None:
    z, y = rows_of(classes, dtype)
    options = filled(options, z, dtype) | {"reduction": "none"}
    both = value_and_grad(cross_entropy)
    losses, gradient = both(z, y, **options)
    for at in range(len(z)):
        loss, its = both(z[at : at + 1], y[at : at + 1], **one(options, at))
        assert same(loss[0], losses[at])
        assert same(its[0], gradient[at])
    values = cross_entropy(z, y, **options)
    assert same(values, losses)
    # Classes in the middle of the axes, as images have them, and rows that are not contiguous.
    moved, its = both(np.ascontiguousarray(z.T)[None], y[None], axis=1, **{
        name: x[None] if name in ("where", "sample_weight") else x for name, x in options.items()
    })  # fmt: skip
    assert same(moved[0], losses)
    assert same(np.ascontiguousarray(its[0].T), gradient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 5, 100])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_as_with_a_shift(
    classes: int, dtype: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    z, y = rows_of(classes, dtype)
    options = filled(options, z, dtype) | {"reduction": "none"}
    both = value_and_grad(cross_entropy)
    got = both(z, y, **options)
    monkeypatch.setattr(backends.get("numpy")._walk, "with_max", True)
    eps = np.finfo(dtype).eps
    # With z-loss an entry of the gradient may be a small difference of larger terms.
    least = eps if "z_loss" in options else 0.0
    for mine, want in zip(got, both(z, y, **options), strict=True):
        np.testing.assert_allclose(mine, want, rtol=64 * eps, atol=least)


@pytest.mark.parametrize("classes", [2, 9, 33, 63, 100])
@pytest.mark.parametrize("options", MASSES, ids="-".join)
def test_bits_of_a_row_alone_with_a_shift(classes: int, options: dict[str, Any]) -> None:
    """Where mass lies on several classes; their sums take one order as well."""
    z = RNG.normal(size=(50, classes)).astype(np.float32)
    y: Any = RNG.integers(0, classes, 50)
    if options == {"probabilities": True}:
        options, y = {}, RNG.dirichlet(np.ones(classes), 50).astype(np.float32)
    both = value_and_grad(cross_entropy)
    losses, gradient = both(z, y, **options, reduction="none")
    entropies = xp_xent.entropy(z, reduction="none")
    for at in range(len(z)):
        loss, its = both(z[at : at + 1], y[at : at + 1], **options, reduction="none")
        assert same(loss[0], losses[at])
        assert same(its[0], gradient[at])
        assert same(xp_xent.entropy(z[at : at + 1], reduction="none")[0], entropies[at])


@pytest.mark.parametrize("classes", [2, 9, 63, 100])
@pytest.mark.parametrize("argnums", [0, 1])
def test_bits_in_any_memory_layout(classes: int, argnums: int) -> None:
    """By the logits and by probabilities: rows together, classes together, and neither."""
    z, q = RNG.normal(size=(2, 40, classes)).astype(np.float32)
    q = np.exp(q)
    both = value_and_grad(cross_entropy, argnums)
    loss, gradient = both(z, q, label_smoothing=0.1, reduction="none")

    def every_other(x: Any) -> Any:
        return np.repeat(x, 2, axis=-1)[:, ::2]

    for laid_out in (np.asfortranarray, every_other):
        one, its = both(laid_out(z), laid_out(q), label_smoothing=0.1, reduction="none")
        assert same(one, loss)
        assert same(its, gradient)
    turned = np.ascontiguousarray(z.T), np.ascontiguousarray(q.T)
    one, its = both(*turned, axis=0, label_smoothing=0.1, reduction="none")
    assert same(one, loss)
    assert same(its.T, gradient)


def test_no_result_is_written_to_again() -> None:
    """A kernel that makes no exponentials leaves the room for them unused."""
    x, y = np.log(np.full((1 << 14, 64), 1 / 64)), np.zeros(1 << 14, int)
    with xp_xent.threads(1):
        _, gradient = value_and_grad(xp_xent.nll_loss)(x, y)
        before = gradient.copy()
        _, another = value_and_grad(cross_entropy)(x[: 1 << 13], y[: 1 << 13])
    assert np.array_equal(gradient, before)
    assert not np.shares_memory(gradient, another)


def test_focal() -> None:
    z, y = rows_of(5, "float64")
    both = value_and_grad(softmax_focal_loss)
    losses, gradient = both(z, y, reduction="none")
    for at in range(len(z)):
        loss, its = both(z[at : at + 1], y[at : at + 1], reduction="none")
        assert same(loss[0], losses[at])
        assert same(its[0], gradient[at])


def test_which_rows_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of those in reach, and no ignored one; rows that are, once."""
    seen: list[int] = []
    with_maxima = Backend.exp_sums

    def counted(backend: Any, z: Any, *rest: Any, **options: Any) -> Any:
        seen.append(len(z))
        return with_maxima(backend, z, *rest, **options)

    monkeypatch.setattr(Backend, "exp_sums", counted)
    z, y = RNG.normal(size=(50, 8)), RNG.integers(0, 8, 50)
    value_and_grad(cross_entropy)(z, y)
    assert seen == []
    z[[3, 7, 20]] += 1e4
    y[7] = -100
    z[8], y[8] = NAN, -100
    value_and_grad(cross_entropy)(z, y)
    assert seen == [2]
    with xp_xent.threads(1):
        cross_entropy(z, y, label_smoothing=0.1)  # mass on several classes: all with a shift
    assert seen == [2, 50]


def test_weights_whose_product_is_out_of_range() -> None:
    z, y = np.asarray([[30, 7]], np.float32), np.asarray([0])
    weight, by = np.asarray([1e30, 1], np.float32), np.asarray([1e10], np.float32)
    loss, gradient = value_and_grad(cross_entropy)(
        z, y, weight=weight, cotangent=by, reduction="none"
    )
    np.testing.assert_allclose(gradient, [[-1e10 * loss[0], 1e10 * loss[0]]], rtol=1e-6)
