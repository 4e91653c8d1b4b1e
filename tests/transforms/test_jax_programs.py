"""Every loss in programs that JAX compiles, splits over devices, or only traces."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from _programs import compiled
from _registry import Entry, fullest
from _tools import assert_same
from _transforms import ONCE, transform

from xp_xent import backends


def scalar(case: Entry, dtype: str = "float64") -> tuple[Any, list[Any]]:
    """The weighed and summed call as a function of all its arrays, and they."""
    return case.weighted(backends.get("jax"), tuple(case.everything()), dtype)


def float_places(case: Entry) -> tuple[int, ...]:
    """Which of all arrays can have a derivative."""
    return tuple(i for i, key in enumerate(case.everything()) if key in case.floats)


@transform("jax", "`jit` of value and gradients, labels and masks traced too", thin=True, half=1)
def test_jit(case: Entry) -> None:
    """Against the same, not compiled."""
    import jax

    function, values = scalar(case)
    both = jax.value_and_grad(function, float_places(case))
    assert_same(compiled(both)(*values), both(*values))


@transform("jax", "`eval_shape`, of value and gradients", thin=True)
def test_eval_shape(case: Entry) -> None:
    """Shapes and dtypes without data."""
    import jax

    function, values = case.bind(backends.get("jax"), tuple(case.everything()))
    found, want = jax.eval_shape(function, *values), function(*values)
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    total, values = scalar(case)
    places = float_places(case)
    for place, slope in zip(places, jax.eval_shape(jax.grad(total, places), *values), strict=True):
        assert (slope.shape, slope.dtype) == (values[place].shape, values[place].dtype)


@pytest.fixture
def few_objects() -> None:
    """Leave what there is out of garbage collection, which JAX does after each trace here."""
    gc.freeze()


@pytest.mark.usefixtures("few_objects")
@transform("jax", "no tracer leaks (`checking_leaks`)", thin=True)
def test_leaks(case: Entry) -> None:
    """Under jit, vmap and both modes of differentiation."""
    import jax

    function, values = scalar(case)
    nest = jax.vmap(jax.jacfwd(jax.grad(jax.jit(function), float_places(case))))
    with jax.checking_leaks():
        jax.make_jaxpr(nest)(*[value[None] for value in values])


@transform("jax", "64-bit types off, JAX's default", thin=True)
def test_without_64_bits(case: Entry) -> None:
    """float32 in, float32 out; asking for a 64-bit type would warn, and warnings are errors."""
    import jax

    with jax.enable_x64(False):
        function, values = scalar(case, "float32")
        places = float_places(case)
        value, slopes = jax.eval_shape(jax.value_and_grad(function, places), *values)
        assert {value.dtype, *[slope.dtype for slope in slopes]} == {jax.numpy.float32.dtype}
        assert jax.numpy.isfinite(function(*values))


@transform("jax", "`checkpoint` (rematerialisation)", once=ONCE, half=0)
def test_checkpoint(case: Entry) -> None:
    """The forward pass is run again in the backward one."""
    import jax

    function, values = scalar(case)
    places = float_places(case)
    again = jax.grad(jax.checkpoint(function), places)
    assert_same(compiled(again)(*values), jax.grad(function, places)(*values))


@transform("jax", "`lax.scan` over batches, and its gradient", once=ONCE, half=1)
def test_scan(case: Entry) -> None:
    """Against a loop."""
    import jax

    function, values = scalar(case)
    batches = jax.numpy.stack([values[0], values[0][::-1], values[0] / 2])

    def total(batches: Any) -> Any:
        step = lambda carry, z: (carry + function(z, *values[1:]), None)  # noqa: E731
        return jax.lax.scan(step, jax.numpy.zeros(()), batches)[0]

    want = jax.numpy.stack([jax.grad(function)(z, *values[1:]) for z in batches])
    assert_same(compiled(jax.grad(total))(batches), want)


@transform("jax", "a jitted training step with donated buffers", once=ONCE, half=0)
def test_donated(case: Entry) -> None:
    """The parameters' memory is given away, and nothing else refers to it."""
    import jax

    function, values = scalar(case)
    want = values[0] - jax.grad(function)(*values)
    inputs = [jax.numpy.array(value) for value in values]

    def step(first: Any, *others: Any) -> Any:
        return first - jax.grad(function)(first, *others)

    assert_same(compiled(step, donate_argnums=0)(*inputs), want)
    assert inputs[0].is_deleted()
    assert not any(value.is_deleted() for value in inputs[1:])


@transform("jax", "`shard_map` over two devices, and `jit` of sharded rows", once=ONCE, half=1)
def test_sharded(case: Entry) -> None:
    """The devices' sums are added up; without shard_map the compiler does the same."""
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
    function, values = fullest(case.form, 4).bind(backends.get("jax"), tuple(case.everything()))

    def total(*parts: Any) -> Any:
        return jax.numpy.sum(function(*parts))

    def local(*parts: Any) -> Any:
        return jax.lax.psum(total(*[part[0] for part in parts]), "rows")

    split = tuple(PartitionSpec("rows") for _ in values)
    program = jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=PartitionSpec())
    batch = [jax.numpy.stack([value, value]) for value in values]
    value, slope = compiled(jax.value_and_grad(program))(*batch)
    want = jax.value_and_grad(total)(*values)
    assert_same([value, slope[0], slope[1]], [2 * want[0], want[1], want[1]])
    rows = values[0].shape[0] == 4
    placed = [
        jax.device_put(v, NamedSharding(mesh, PartitionSpec("rows" if rows and i == 0 else None)))
        if v.ndim
        else v
        for i, v in enumerate(values)
    ]
    assert_same(compiled(total)(*placed), want[0])
