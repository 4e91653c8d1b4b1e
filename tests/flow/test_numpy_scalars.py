"""NumPy's scalars are numbers on every library: what a configuration or a reduction gives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from _forms import FORMS, NOT_LOSSES, Form
from _registry import Entry, entries

import xp_xent
from xp_xent import backends
from xp_xent.backends import Adapter

KINDS = {int: (np.int64, np.int8), float: (np.float64, np.float32)}
SLOW = ("jax", "dpnp")
# What has a number of its own, where a library is slow.
FEW = (
    "nll_loss-labels",
    "softmax_focal_loss-labels",
    "sigmoid_focal_loss-0_or_1",
    "logsumexp",
)


def numbers(case: Entry) -> dict[str, Any]:
    """The options that are numbers."""
    given = case.options
    if "ignore_index" in case.form.options:
        given = {"ignore_index": -100} | given
    if "axis" in case.form.options:
        given = {"axis": -1} | given
    return {name: value for name, value in given.items() if type(value) in KINDS}


def calls(form: Form, few: bool) -> Iterator[tuple[Any, Entry, dict[str, Any]]]:
    """Functions with calls that have numbers among their options, and these as NumPy's."""
    for case in entries(form):
        given = numbers(case)
        if not given or (few and case.option not in ("all", "alpha", "axis")):
            continue
        functions = [case.function]
        if case.loss not in NOT_LOSSES and not few:
            functions.append(xp_xent.value_and_grad(case.function))
        for function, at in product(functions, range(1 if few else 2)):
            yield function, case, {name: KINDS[type(x)][at](x) for name, x in given.items()}


def asked() -> Iterator[Any]:
    """Give the libraries with the forms that have a number, on slow ones the few."""
    for name, form in product(backends.installed(), FORMS):
        slow = name in SLOW
        if any(calls(form, slow)) and (not slow or form.name in FEW):
            yield pytest.param(name, form, id=f"{name}-{form.name}")


@pytest.mark.parametrize(("library", "form"), list(asked()))
def test_numpy_scalars(library: str, form: Form) -> None:
    backend = backends.get(library)
    for function, case, scalars in calls(form, library in SLOW):
        arrays, options = case.on(backend, "float32")
        given = options | {name: x.item() for name, x in scalars.items()}
        if backend.name == "jax":  # the same program, so that nothing needs to be compiled
            got, want = (
                backend.jax.make_jaxpr(partial(function, **x))(*arrays)
                for x in (options | scalars, given)
            )
            assert str(got) == str(want)
            continue
        got, want = function(*arrays, **options | scalars), function(*arrays, **given)
        pairs = zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]
        for one, two in pairs:
            assert one.dtype == two.dtype
            assert np.allclose(backend.to_numpy(one), backend.to_numpy(two), rtol=1e-5, atol=1e-6)


def test_numbers_of_other_functions(backend: Adapter) -> None:
    labels = backend.asarray(np.asarray([0, 1, 1, 2]))
    call = xp_xent.effective_number_weights
    want = call(labels, 3, beta=0.5, ignore_index=2)
    got = call(labels, np.int64(3), beta=np.float32(0.5), ignore_index=np.int8(2))
    assert np.array_equal(backend.to_numpy(got), backend.to_numpy(want))
    got = xp_xent.positive_class_weight(backend.asarray(np.eye(3)), axis=np.int64(0))
    assert np.array_equal(backend.to_numpy(got), np.full(3, 2.0))


def test_a_cotangent_and_a_position() -> None:
    gradient = xp_xent.value_and_grad(xp_xent.cross_entropy, np.int64(0))
    options = {"reduction": "sum", "cotangent": np.float64(3)}
    _, found = gradient(np.zeros((4, 3)), np.asarray([0, 1, 1, 2]), **options)
    assert np.allclose(found.sum(axis=0), [1, -2, 1])
