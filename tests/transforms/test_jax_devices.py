"""Every loss on arrays that several devices share: explicit axes of a mesh, shard_map, pmap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES
from _programs import compiled
from _registry import Entry, closed_gradients, entry, fullest, variants
from _tools import assert_same
from _transforms import ONCE, transform

import xp_xent
from xp_xent import backends
from xp_xent.backends import _jax

jax = pytest.importorskip("jax")
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

AXIS = "devices"
OF_CLASSES = ("weight", "alpha", "pos_weight", "bias")
FEW = ("cross_entropy-labels", "linear_cross_entropy-labels", "kl_divergence-probabilities")
FEW += ("sigmoid_focal_loss-0_or_1", "log_softmax")
# Losses whose derivatives are stated in several ways
SLOPED = ("softmax_focal_loss-labels", "poly_cross_entropy-labels", "perplexity-labels")
SLOPED += ("sigmoid_focal_loss-probabilities", "kl_divergence-probabilities")


@pytest.fixture
def many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat these few classes as many: an entry is written alone, not chosen among all."""
    monkeypatch.setattr(_jax, "FEW", 1)


forms = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])


@pytest.fixture(autouse=True)
def two_devices() -> None:
    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")


def mesh_of(kind: str) -> Any:
    return jax.make_mesh((2,), (AXIS,), axis_types=(AxisType[kind],))


def even(case: Entry, option: str = "all") -> Entry:
    """The same loss on four rows, which two devices share."""
    return entry(case.form, option, 4)


def spec(case: Entry, key: int | str, along: str) -> PartitionSpec:
    """Split an array along its "rows", "classes" or "features", if it has them."""
    shape = case.everything()[key].shape
    axes = ("rows", "classes")[: len(shape)]
    if key in OF_CLASSES and len(shape) == 1:
        axes = ("classes",)
    elif case.loss == "linear_cross_entropy" and key in (0, 1):
        axes = ("rows", "features") if key == 0 else ("classes", "features")
    return PartitionSpec(*[AXIS if axis == along else None for axis in axes])


def closed(case: Entry, form: Any, *vector: str) -> Any:
    """A closed form as a function of all arrays of a call."""
    keys, count = tuple(case.everything()), len(case.arrays)
    fixed = {name: value for name, value in case.options.items() if name not in keys}

    def call(*values: Any) -> Any:
        named = dict(zip(keys[count:], values[count:], strict=True))
        more = [values[0][::-1] for _ in vector]
        return form(*values[:count], *more, **named, **fixed)

    return call


def forward(function: Any, places: tuple[int, ...]) -> Any:
    """Derivatives along each array alone, of which some are on each device alike."""

    def call(*values: Any) -> Any:
        def change(i: int, x: Any) -> Any:
            return jax.jvp(lambda x: function(*values[:i], x, *values[i + 1 :]), (x,), (x,))[1]

        return [change(i, values[i]) for i in places]

    return call


def programs(case: Entry) -> tuple[dict[str, Any], list[Any]]:
    """The weighed and summed call with its gradients, and closed forms, of all its arrays."""
    keys = tuple(case.everything())
    function, values = case.weighted(backends.get("jax"), keys)
    places = tuple(i for i, key in enumerate(keys) if key in case.floats)
    found = {"gradients": jax.value_and_grad(function, places)}
    found["forward"] = forward(function, places)
    if case.loss not in NOT_LOSSES and case.cotangent is None:
        found["closed"] = closed(case, xp_xent.value_and_grad(case.function, case.closed))
        found["product"] = closed(case, xp_xent.hvp(case.function), "vector")
        found["diagonal"] = closed(case, xp_xent.hessian_diagonal(case.function))
        together = xp_xent.value_grad_and_hessian_diagonal(case.function)
        found["together"] = closed(case, together)
    return found, values


def every(found: dict[str, Any]) -> Any:
    return lambda *values: {name: function(*values) for name, function in found.items()}


def leaves(tree: Any) -> list[Any]:
    return list(jax.tree.leaves(tree))


def placed(mesh: Any, values: list[Any], specs: list[PartitionSpec]) -> list[Any]:
    return [
        jax.device_put(value, NamedSharding(mesh, how))
        for value, how in zip(values, specs, strict=True)
    ]


def spec_of(array: Any) -> PartitionSpec:
    return jax.typeof(array).sharding.spec


@transform("jax", "arrays split over explicit axes of a mesh, along classes or rows", once=ONCE)
def test_explicit_axes(case: Entry) -> None:
    """What has classes is split along them, the rest along its rows; a gradient as its argument."""
    case, mesh = even(case), mesh_of("Explicit")
    specs = {key: spec(case, key, "classes") for key in case.everything()}
    specs = {key: how if any(how) else spec(case, key, "rows") for key, how in specs.items()}
    function, values = case.weighted(backends.get("jax"), tuple(specs))
    keys = case.closed or case.floats
    both = jax.value_and_grad(function, tuple(list(specs).index(key) for key in keys))
    with jax.set_mesh(mesh):
        value, slopes = compiled(both)(*placed(mesh, values, [*specs.values()]))
    assert spec_of(value) == PartitionSpec()
    assert [spec_of(slope) for slope in slopes] == [specs[key] for key in keys]
    host = backends.get("numpy")
    if wanted := closed_gradients(case, host):
        function, arrays = case.weighted(host, tuple(specs))
        assert_same([value, *slopes], [function(*arrays), *wanted])
    else:
        assert_same([value, *slopes], leaves(compiled(both)(*values)))


def placements(case: Entry, kind: str) -> dict[str, list[PartitionSpec]]:
    """Everything along an axis; where types tell, the first array alone, and all the others too."""
    keys, found = tuple(case.everything()), {}
    for along in ("rows", "classes", "features"):
        specs = [spec(case, key, along) for key in keys]
        whole = [spec(case, key, "none") for key in keys]
        found[along] = specs
        if kind == "Auto":
            continue
        found[f"the first along {along}"] = [specs[0], *whole[1:]]
        found[f"the others along {along}"] = [whole[0], *specs[1:]]
    return {name: specs for name, specs in found.items() if any(map(any, specs))}


@pytest.mark.full
@pytest.mark.usefixtures("many_classes")
@pytest.mark.parametrize(
    ("form", "kind"),
    [(form, "Explicit") for form in FORMS] + [(form, "Auto") for form in FORMS if form.name in FEW],
    ids=lambda x: getattr(x, "name", x),
)
def test_every_placement(form: Any, kind: str) -> None:
    """Values, gradients by every array, closed forms."""
    case, mesh = even(fullest(form)), mesh_of(kind)
    found, values = programs(case)
    program, keys = compiled(every(found)), tuple(case.everything())
    want = program(*values)
    for name, specs in placements(case, kind).items():
        try:
            with jax.set_mesh(mesh):
                got = program(*placed(mesh, values, specs))
            assert_same(leaves(got), leaves(want))
        except Exception as error:
            error.add_note(name)
            raise
        if kind == "Explicit":
            slopes = got["gradients"][1] + (got["closed"][1] if "closed" in got else ())
            own = case.floats + (case.closed if "closed" in got else ())
            assert [spec_of(slope) for slope in slopes] == [specs[keys.index(key)] for key in own]


def assert_mapped(case: Entry, mapped: set[int], *, check_vma: bool, names: set[str]) -> None:
    """Inside shard_map, where some arrays differ from device to device and others are shared."""
    found, values = programs(case)
    found = {name: function for name, function in found.items() if name in names}
    stacks = [jax.numpy.asarray(variants(np.asarray(value))) for value in values]
    given = [stacks[i] if i in mapped else value for i, value in enumerate(values)]
    specs = tuple(PartitionSpec(*[AXIS] * (i in mapped)) for i in range(len(given)))

    def local(*parts: Any) -> Any:
        parts = tuple(part[0] if i in mapped else part for i, part in enumerate(parts))
        return jax.tree.map(lambda x: x[None], every(found)(*parts))

    over = {"mesh": mesh_of("Auto"), "in_specs": specs, "out_specs": PartitionSpec(AXIS)}
    program = jax.shard_map(local, **over, check_vma=check_vma)
    got, alone = compiled(program)(*given), compiled(every(found))
    wants = [
        alone(*[stacks[i][n] if i in mapped else value for i, value in enumerate(values)])
        for n in range(2)
    ]
    want = jax.tree.map(lambda *of: jax.numpy.stack(of), *wants)
    if check_vma and "gradients" in names:
        # Then JAX adds up, over devices, the gradients by what they share.
        value, slopes = want["gradients"]
        places = [i for i, key in enumerate(case.everything()) if key in case.floats]
        want["gradients"] = (
            value,
            tuple(
                slope if i in mapped else jax.numpy.stack([slope.sum(axis=0)] * 2)
                for i, slope in zip(places, slopes, strict=True)
            ),
        )
    assert_same(leaves(got), leaves(want))


@pytest.mark.usefixtures("many_classes")
@pytest.mark.parametrize("form", [f for f in FORMS if f.name in FEW], ids=lambda f: f.name)
def test_shared_by_mapped_devices(form: Any) -> None:
    """An ensemble's logits, under the same labels, masks and weights."""
    assert_mapped(fullest(form), {0}, check_vma=True, names={"gradients"})


@pytest.mark.usefixtures("many_classes")
@pytest.mark.parametrize("form", [f for f in FORMS if f.name in SLOPED], ids=lambda f: f.name)
def test_forward_mode_where_logits_are_shared(form: Any) -> None:
    """Labels, masks and weights make the loss each device's own, but not its logits' tangents."""
    case = fullest(form)
    others = set(range(1, len(case.everything())))
    assert_mapped(case, others, check_vma=True, names={"forward"})


@pytest.mark.full
@pytest.mark.usefixtures("many_classes")
@pytest.mark.parametrize(
    ("form", "check_vma"),
    [(form, True) for form in FORMS] + [(form, False) for form in FORMS if form.name in FEW],
    ids=lambda x: getattr(x, "name", f"check_vma={x}"),
)
def test_every_mapping(form: Any, check_vma: bool) -> None:
    """The first array, the others, or all of them; without types of what varies, the first."""
    case = fullest(form)
    everyone = set(range(len(case.everything())))
    names = {"gradients", "forward", "closed", "product", "diagonal"}
    for mapped in ({0}, everyone - {0}, everyone)[: 3 if check_vma else 1]:
        if mapped:
            assert_mapped(case, mapped, check_vma=check_vma, names=names)
