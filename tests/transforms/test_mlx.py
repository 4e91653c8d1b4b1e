"""MLX's differentiation, mapping and compiler, through every loss under every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import send
from _forms import NOT_LOSSES
from _registry import Entry, closed_gradients, variants
from _tools import assert_same
from _transforms import ONCE, also, transform

import xp_xent
from xp_xent import backends

pytestmark = pytest.mark.usefixtures("own_programs")


def scalar(case: Entry) -> tuple[Any, list[Any], list[int]]:
    """The weighed and summed call as a function of its floating arrays, they, and argnums."""
    function, values = case.weighted(backends.get("mlx"), case.floats)
    return function, values, list(range(len(values)))


def listed(slopes: Any) -> list[Any]:
    """Derivatives by a list of arrays, of which MLX gives one as it is."""
    return slopes if isinstance(slopes, (list, tuple)) else [slopes]


@transform("mlx", "`grad`, `value_and_grad`, uneven cotangents")
def test_gradients(case: Entry) -> None:
    """By every array; against the closed form on NumPy where there is one."""
    import mlx.core as mx

    function, values, places = scalar(case)
    value, slopes = mx.value_and_grad(function, places)(*values)
    assert_same([value, mx.grad(function, places)(*values)], [function(*values), slopes])
    slopes = listed(slopes)
    by_key = dict(zip(case.floats, slopes, strict=True))
    if closed := closed_gradients(case, backends.get("numpy")):
        assert_same([by_key[key] for key in case.closed], closed)


@transform("mlx", "`vjp`, `jvp`, `checkpoint`")
def test_products(case: Entry) -> None:
    """By every array at once."""
    import mlx.core as mx

    function, values, places = scalar(case)
    tangents = [mx.array(np.flip(np.array(value)).copy(), dtype=value.dtype) for value in values]
    want = listed(mx.grad(function, places)(*values))
    [value], pulled = mx.vjp(function, values, [mx.array(2.0, dtype=mx.float64)])
    assert_same(pulled, [2 * w for w in want])
    slope = sum((w * t).sum() for w, t in zip(want, tangents, strict=True))
    [same], [pushed] = mx.jvp(function, values, tangents)
    assert_same([same, pushed], [value, slope])
    assert_same(listed(mx.grad(mx.checkpoint(function), places)(*values)), want)


@transform("mlx", "`vmap` over each array alone and over all, labels and masks too")
def test_vmap(case: Entry) -> None:
    """Against a loop; an array that is not mapped over is shared."""
    import mlx.core as mx

    backend, arrays = backends.get("mlx"), case.everything()
    function, values = case.bind(backend, tuple(arrays))
    stacks = [send(backend, variants(array), "float64") for array in arrays.values()]
    places = range(len(values))
    for mapped in [*[{i} for i in places], set(places)]:
        batch = [stacks[i] if i in mapped else values[i] for i in places]
        in_axes = tuple(0 if i in mapped else None for i in places)
        rows = [
            function(*[stacks[i][n] if i in mapped else values[i] for i in places])
            for n in range(2)
        ]
        assert_same(mx.vmap(function, in_axes)(*batch), mx.stack(rows))


def programs(case: Entry) -> list[tuple[Any, list[Any]]]:
    """The call, and its `value_and_grad` by floating arrays, as functions of all of its arrays."""
    import mlx.core as mx

    function, values = case.weighted(backends.get("mlx"), tuple(case.everything()))
    places = [i for i, value in enumerate(values) if mx.issubdtype(value.dtype, mx.floating)]

    def both(*values: Any) -> list[Any]:
        value, slopes = mx.value_and_grad(function, places)(*values)
        return [value, *listed(slopes)]

    return [(function, values), (both, values)]


@transform("mlx", "`compile`, of values and of `value_and_grad`: the graph")
def test_compile(case: Entry) -> None:
    """With every array an argument; what MLX's compiler is given has the right shapes."""
    import mlx.core as mx

    for function, values in programs(case):
        got, want = listed(mx.compile(function)(*values)), listed(function(*values))
        assert [(x.shape, x.dtype) for x in got] == [(x.shape, x.dtype) for x in want]


@pytest.mark.full
@transform(
    "mlx",
    "`compile`, of values and of `value_and_grad`: results",
    once="In the second tier, for the C++ compiler takes long; the first has the NLL of labels. "
    + ONCE,
)
def test_compiled(case: Entry) -> None:
    """Down to machine code."""
    import mlx.core as mx

    for function, values in programs(case):
        assert_same(listed(mx.compile(function)(*values)), listed(function(*values)))


@transform("mlx", "`grad` of `grad` and `jvp` of `grad` along a vector; `vmap` of `grad`")
def test_second_derivatives(case: Entry) -> None:
    """By the first array; against `hvp` on NumPy where there is one."""
    import mlx.core as mx

    function, values, _ = scalar(case)
    z, vector = values[0], values[0][::-1]
    first = mx.grad(lambda z: function(z, *values[1:]))
    [_], [product] = mx.jvp(first, [z], [vector])
    assert_same(mx.grad(lambda z: (first(z) * vector).sum())(z), product)
    assert_same(mx.vmap(first)(mx.stack([z, vector])), mx.stack([first(z), first(vector)]))
    if case.loss in NOT_LOSSES or case.cotangent is not None:
        return
    arrays, options = case.on(backends.get("numpy"), "float64")
    host = backends.get("mlx").to_numpy(vector)
    assert_same(product, xp_xent.hvp(case.function)(*arrays, host, **options))


@also("mlx", "labels out of range: refused, within `grad` too; NaN within `vmap` and `compile`")
def test_bad_labels() -> None:
    """Where one array of a call is traced, values are read of none."""
    mx = pytest.importorskip("mlx.core")
    logits, labels = mx.zeros((2, 3)), mx.array([1, 3])
    loss = lambda z, y: xp_xent.nll_loss(z, y, reduction="none")  # noqa: E731
    for function in (loss, mx.grad(lambda z, y: loss(z, y).sum())):
        with pytest.raises(ValueError, match="targets: got label 3"):
            function(logits, labels)
    rows = [mx.vmap(loss)(logits[:, None], labels[:, None])]
    rows.append(mx.vmap(lambda z: loss(z, labels))(logits[None]))
    both = mx.compile(mx.value_and_grad(lambda z, y: loss(z, y).sum()))
    rows.append(both(logits, labels)[1].sum(axis=-1))
    assert all(np.isnan(np.array(row)).ravel().tolist() == [False, True] for row in rows)


@also("mlx", "another default device: no value is read, and there is no float64")
def test_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels wait on it: their row is NaN."""
    mx, backend = pytest.importorskip("mlx.core"), backends.get("mlx")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    loss = xp_xent.cross_entropy(mx.zeros((2, 3)), mx.array([1, 3]), reduction="none")
    assert np.isnan(np.array(loss)).tolist() == [False, True]
    assert backend.float_dtypes() == ("float16", "bfloat16", "float32")


def test_no_operand_is_mapped_over_alone() -> None:
    """Why `Mlx.evaluate` maps over all arrays or over none; fails once MLX does it well."""
    mx = pytest.importorskip("mlx.core")
    rows, row = mx.array([[1, 2, 3], [0, 2, 4]]), mx.array([1, 2, 4])
    for function in (lambda x: (x > 1) & (row > 1), lambda x: row != x):
        got, want = mx.vmap(function)(rows), mx.stack([function(x) for x in rows])
        assert got.shape != want.shape or not np.array_equal(np.array(got), np.array(want))


def test_a_library_that_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """`installed` does not list it: its adapter is not imported."""
    mx = pytest.importorskip("mlx.core")
    from xp_xent.backends._mlx_functions import namespace

    def refuse(*arrays: Any) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(mx, "eval", refuse)
    with pytest.raises(ImportError, match="no such device"):
        namespace()


def test_what_is_blanked_has_no_derivative() -> None:
    """Not that of an infinite cotangent either, which MLX's own multiplies by 0: in every mode."""
    mx, xp = pytest.importorskip("mlx.core"), backends.get("mlx").xp
    x, chosen = mx.array([[1.0, 2.0], [3.0, 4.0]]), mx.array([True, False])

    def total(x: Any) -> Any:
        return xp.where(chosen, x * x * x, 0.0).sum()

    slope = mx.grad(lambda x: total(x) / mx.array(0.0))
    assert np.array(slope(x)).tolist() == [[np.inf, 0], [np.inf, 0]]
    assert np.array(mx.grad(total)(x)).tolist() == [[3, 0], [27, 0]]
    assert np.array(mx.vmap(mx.grad(total))(x)).tolist() == [[3, 0], [27, 0]]
    assert np.array(mx.jvp(mx.grad(total), [x], [mx.ones_like(x)])[1][0]).tolist() == [
        [6, 0],
        [18, 0],
    ]
    assert np.array(mx.grad(lambda x: mx.grad(total)(x).sum())(x)).tolist() == [[6, 0], [18, 0]]
    [by_row] = mx.jvp(mx.vmap(lambda x: xp.where(chosen, x, 0.0), 1), [x[:, :1]], [x[:, :1]])[1]
    assert np.array(by_row).tolist() == [[1, 0]]
    masks = mx.vmap(lambda mask: xp.where(mask, x, 0.0))(x > 2)
    assert np.array(masks).tolist() == [[[0, 0], [0, 0]], [[1, 2], [3, 4]]]


@pytest.mark.parametrize(("kind", "low", "high"), [("float32", -87, 88), ("float64", -708, 709)])
def test_exponentials(kind: str, low: float, high: float) -> None:
    """To 1.1 ULP, MLX's own being 60 off in float32; so their derivatives, in every transform."""
    mx, backend = pytest.importorskip("mlx.core"), backends.get("mlx")
    host = np.linspace(low, high, 20001, dtype=kind)
    x, wide = backend.asarray(host), host.astype(np.longdouble)
    ends = backend.asarray(np.asarray([-np.inf, -1e30, 1e30, np.inf, np.nan], dtype=kind))
    for function, value, low_end in (
        (backend.xp.exp, np.exp, 0.0),
        (backend.xp.expm1, np.expm1, -1.0),
    ):
        slopes = [
            mx.grad(lambda x, f=function: f(x).sum())(x),
            mx.vmap(mx.grad(function))(x),
            mx.grad(lambda x, f=function: mx.vmap(f)(x).sum())(x),
            mx.jvp(mx.vmap(function), [x], [mx.ones_like(x)])[1][0],
        ]
        for got, true in ((function(x), value(wide)), *((s, np.exp(wide)) for s in slopes)):
            ulp = np.spacing(np.abs(true).astype(kind))
            assert (np.abs(np.array(got) - true) <= 1.1 * ulp).all()
        wanted = [low_end, low_end, np.inf, np.inf, np.nan]
        assert np.array_equal(np.array(function(ends)), wanted, equal_nan=True)


def test_sums() -> None:
    """To 8 ULP, where MLX's own is 1000 off; along any axis, of no numbers too."""
    mx, backend = pytest.importorskip("mlx.core"), backends.get("mlx")
    for size in (0, 1, 63, 64, 65, 1000, 100_003):
        want = size * float(np.float32(0.1))
        got = backend.xp.sum(mx.full((size,), 0.1)).item()
        assert abs(got - want) <= 8 * np.spacing(np.float32(want))
    x = np.arange(3 * 130 * 2, dtype=np.float32).reshape(3, 130, 2)
    for axis in (0, 1, 2, -1, -2):
        got = backend.xp.sum(mx.array(x), axis=axis, keepdims=True)
        assert np.array_equal(np.array(got), x.sum(axis=axis, keepdims=True))
