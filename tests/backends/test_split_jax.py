"""Losses inside `jax.shard_map`, each device with a part of the rows and classes."""

from __future__ import annotations

from typing import Any

import pytest
from _programs import compiled
from _registry import ELEMENTWISE, FORMS, MAPS, NOT_LOSSES, Entry, entry
from _tools import assert_same

import xp_xent
from xp_xent import backends
from xp_xent.backends import _jax_sums
from xp_xent.flow import linear_steps

jax = pytest.importorskip("jax")
from jax.sharding import AxisType, PartitionSpec  # noqa: E402

jnp, lax, P = jax.numpy, jax.lax, PartitionSpec
ROWS, CLASSES = "data", "model"
FEW = ("cross_entropy-labels", "linear_cross_entropy-labels", "nll_loss-probabilities")
OF_ROWS = ("sigmoid_focal_loss-0_or_1", "perplexity-labels", "log_softmax", "logsumexp")
MESHES = {"classes": (1, 2), "rows": (2, 1)}


@pytest.fixture(autouse=True)
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices, and few classes and rows that go the way of many."""
    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")
    monkeypatch.setattr(_jax_sums, "FEW", 1)
    monkeypatch.setattr(linear_steps, "STEP", 4)


def mesh_of(along: str) -> Any:
    return jax.make_mesh(MESHES[along], (ROWS, CLASSES), axis_types=(AxisType.Auto,) * 2)


def spec(case: Entry, key: int | str) -> Any:
    """How an array of a call is split: class weights are whole on each device."""
    shape = case.everything()[key].shape
    if case.loss == "linear_cross_entropy" and key in (0, 1):
        return P(ROWS) if key == 0 else P(CLASSES)
    if len(shape) == 1:
        whole = key in ("weight", "alpha") and case.loss not in ELEMENTWISE
        of_classes = key in ("bias", "b", "pos_weight") or case.loss in ELEMENTWISE
        return P() if whole else P(CLASSES) if of_classes else P(ROWS)
    return P(*(ROWS, CLASSES)[: len(shape)])


def taken(case: Entry) -> dict[str, Any]:
    """What `split` is told: elements stand alone, wherever they are."""
    alone = case.loss in ELEMENTWISE
    return {"rows": (ROWS, CLASSES)} if alone else {"rows": ROWS, "classes": CLASSES}


class Calls:
    """A call as functions of its arrays: the loss, and what is derived of it."""

    def __init__(self, case: Entry) -> None:
        self.case, self.keys = case, tuple(case.everything())
        self.function, self.values = case.bind(backends.get("jax"), self.keys)
        self.specs = tuple(spec(case, key) for key in self.keys)
        self.places = tuple(i for i, key in enumerate(self.keys) if key in case.floats)
        self.closed_places = tuple(i for i, key in enumerate(self.keys) if key in case.closed)

    def closed(self, form: Any, *vector: Any) -> Any:
        count = len(self.case.arrays)
        options = {k: v for k, v in self.case.options.items() if k not in self.keys}

        def call(*values: Any) -> Any:
            named = dict(zip(self.keys[count:], values[count:], strict=True))
            more = [values[0] * 0.5 + 1 for _ in vector]
            return form(*values[:count], *more, **named, **options)

        return call

    def derived(self) -> dict[str, Any]:
        """The loss, and its closed forms."""
        case, found = self.case, {"value": self.function}
        if case.loss not in NOT_LOSSES:
            closed, function = self.closed, case.function
            found["closed"] = closed(xp_xent.value_and_grad(function, case.closed))
            found["product"] = closed(xp_xent.hvp(function), "vector")
            found["diagonal"] = closed(xp_xent.hessian_diagonal(function))
            if self.case.form.name in FEW:
                found["together"] = closed(xp_xent.value_grad_and_hessian_diagonal(function))
        return found

    def results(self) -> dict[str, Any]:
        """How those are split."""
        first, value = self.specs[0], P()
        if self.case.loss in MAPS:
            value = P(ROWS) if self.case.loss == "logsumexp" else first
        slopes = tuple(self.specs[i] for i in self.closed_places)
        found = {"value": value, "closed": (P(), slopes), "product": first, "diagonal": first}
        return found | {"together": (P(), first, first)}

    def weighed(self, function: Any) -> Any:
        """A scalar of it, where it is none."""
        return lambda *values: jnp.sum(function(*values) ** 2)


def every(functions: dict[str, Any]) -> Any:
    return lambda *values: {name: function(*values) for name, function in functions.items()}


def assert_split(case: Entry, along: str, *, check_vma: bool) -> None:
    """Everything of a call, as of the whole arrays; gradients outside shard_map and inside."""
    calls = Calls(case)
    derived = calls.derived()

    def parts(function: Any, out_specs: Any) -> Any:
        def local(*values: Any) -> Any:
            with xp_xent.split(**taken(case)):
                return function(*values)

        over = {"mesh": mesh_of(along), "in_specs": calls.specs, "out_specs": out_specs}
        return jax.shard_map(local, **over, check_vma=check_vma)

    results = {name: calls.results()[name] for name in derived}
    wanted = derived | {"outside": jax.grad(calls.weighed(calls.function), calls.places)}
    outside = parts(calls.function, results["value"])
    functions = {
        "all": parts(every(derived), results),
        "outside": jax.grad(calls.weighed(outside), calls.places),
    }
    if check_vma and case.loss not in MAPS:
        specs = tuple(calls.specs[i] for i in calls.places)
        inside = jax.grad(calls.weighed(calls.function), calls.places)
        functions["inside"] = parts(inside, specs)
    got, want = (compiled(every(f))(*calls.values) for f in (functions, wanted))
    for name, result in got.pop("all").items():
        assert_same(jax.tree.leaves(result), jax.tree.leaves(want[name]))
    for slopes in got.values():
        assert_same(list(slopes), list(want["outside"]))


def cases(along: str, check_vma: bool) -> list[Any]:
    found = []
    for form in FORMS:
        if along == "rows" and form.function == "next_token_cross_entropy":
            continue  # a row of one text, whose next one is on another device
        if along == "rows" and form.name not in (*FEW, *OF_ROWS):
            continue
        first = check_vma and along == "classes" and form.name in FEW
        marks = [] if first else [pytest.mark.full]
        if check_vma or form.name in FEW:
            name = f"{form.name}-{along}-{'vma' if check_vma else 'no vma'}"
            found.append(pytest.param(form, along, check_vma, id=name, marks=marks))
    return found


@pytest.mark.parametrize(
    ("form", "along", "check_vma"),
    [*cases("classes", True), *cases("classes", False), *cases("rows", True)],
)
def test_every_loss_with_all_its_options(form: Any, along: str, check_vma: bool) -> None:
    case = entry(form, "all", 4)
    case.options.pop("over", None)  # axes of what is here: they are not split
    assert_split(case, along, check_vma=check_vma)
