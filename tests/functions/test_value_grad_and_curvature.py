"""`value_grad_and_hessian_diagonal`: beside the functions of one each, and dense Hessians."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _curvature import assert_close
from _forms import ELEMENTWISE, FORMS, NOT_LOSSES, UNBOUNDED, Form
from _registry import Entry, entries, entry, fullest
from _tools import assert_array, error_of, host
from _truth import Array, row_hessians

import xp_xent
from xp_xent import (
    CrossEntropyLoss,
    cross_entropy,
    hessian_diagonal,
    softmax,
    threads,
    value_and_grad,
    value_grad_and_hessian_diagonal,
)
from xp_xent.backends import Adapter, _numpy_walk
from xp_xent.conformance.tolerance import FORMATS

FORMS_OF_LOSSES = [form for form in FORMS if form.function not in NOT_LOSSES]
BOUNDED = [form for form in FORMS_OF_LOSSES if entries(form)[0].bounded]
RNG = np.random.default_rng(7)
LOGITS, LABELS = RNG.normal(size=(6, 4)) * 3, np.array([0, 3, 1, 2, 2, 0])


def names(form: Form) -> str:
    return form.name


def thinned(form: Form, backend: Adapter) -> tuple[Entry, ...]:
    """Each option; JAX, which compiles each operation, is asked for all at once."""
    every = entries(form)
    return every if backend.name != "jax" else (every[0], fullest(form))


def bounded(form: Form, backend: Adapter) -> list[Entry]:
    """Those of these that have an upper bound."""
    return [case for case in thinned(form, backend) if case.bounded]


def asked(case: Case, backend: Adapter, curvature: str, dtype: str = "float64") -> Any:
    arrays, options = case.on(backend, dtype)
    return value_grad_and_hessian_diagonal(case.function, curvature)(*arrays, **options)


def magnitudes(case: Entry) -> Array:
    """Σ_k |H_jk| on NumPy, from the Hessian's products with unit vectors."""
    loss, (logits, *others) = case.function, case.arrays
    if case.form.function in ELEMENTWISE:
        return abs(hessian_diagonal(loss)(logits, *others, **case.options))
    axis, total = case.options.get("axis", -1), np.zeros(logits.shape)
    for k in range(logits.shape[axis]):
        unit = np.zeros(logits.shape)
        np.moveaxis(unit, axis, -1)[..., k] = 1
        total += abs(xp_xent.hvp(loss)(logits, *others, unit, **case.options))
    return total


@pytest.mark.parametrize("form", FORMS_OF_LOSSES, ids=names)
def test_is_each_function_of_one(backend: Adapter, form: Form) -> None:
    """On NumPy to the same bits: a step gives the same whichever is called."""
    slack = 0 if backend.name == "numpy" else 16 * FORMATS["float64"].eps
    for case in thinned(form, backend):
        arrays, options = case.on(backend, "float64")
        value, gradient, curvature = asked(case, backend, "diagonal")
        want = (
            *value_and_grad(case.function)(*arrays, **options),
            hessian_diagonal(case.function)(*arrays, **options),
        )
        assert_array(backend, gradient, "float64", case.arrays[0].shape)
        assert_array(backend, curvature, "float64", case.arrays[0].shape)
        for got, one in zip((value, gradient, curvature), want, strict=True):
            np.testing.assert_allclose(host(got), host(one), rtol=slack, atol=slack)


@pytest.mark.parametrize("form", BOUNDED, ids=names)
def test_upper_bound_is_the_sum_of_magnitudes(backend: Adapter, form: Form) -> None:
    for case in bounded(form, backend):
        value, gradient, bound = (host(x) for x in asked(case, backend, "upper_bound"))
        arrays, options = case.on(backend, "float64")
        one, two = value_and_grad(case.function)(*arrays, **options)
        np.testing.assert_allclose(value, host(one), rtol=1e-14)
        np.testing.assert_allclose(gradient, host(two), rtol=1e-13, atol=1e-15)
        want = magnitudes(case)
        assert_array(backend, asked(case, backend, "upper_bound")[2], "float64", want.shape)
        assert_close(bound, want, want)
        assert (bound >= 0).all()


@pytest.mark.parametrize("scale", [1.0, 25.0])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("cross_entropy", {}),
        ("cross_entropy", {"z_loss": 0.1}),
        ("cross_entropy", {"softcap": 5.0, "z_loss": 1e-3}),
        ("cross_entropy", {"label_smoothing": 0.1, "softcap": 30.0}),
        ("softmax_focal_loss", {"gamma": 0.5}),
        ("softmax_focal_loss", {"gamma": 3.5}),
        ("poly_cross_entropy", {"epsilon": -0.5}),
        ("poly_cross_entropy", {"epsilon": 2.0}),
    ],
)
def test_certified(backend: Adapter, loss: str, options: dict[str, Any], scale: float) -> None:
    """The dense Hessian is a difference of the certified gradient."""
    case = Case(loss, (LOGITS * scale, LABELS), options)
    dense = row_hessians(case)
    want = abs(dense).sum(axis=-1)
    assert_close(host(asked(case, backend, "upper_bound")[2]), want, want)
    assert_close(host(asked(case, backend, "diagonal")[2]), np.einsum("rii->ri", dense), want)


def test_is_the_bound_of_xgboost(backend: Adapter) -> None:
    """2p(1 − p) of plain cross-entropy, for labels, probabilities and their divergence."""
    p = softmax(LOGITS)
    q = softmax(RNG.normal(size=LOGITS.shape))
    cases = [("cross_entropy", LABELS), ("cross_entropy", q), ("kl_divergence", q)]
    for loss, targets in cases:
        case = Case(loss, (LOGITS, targets), {"reduction": "sum"})
        bound = host(asked(case, backend, "upper_bound")[2])
        np.testing.assert_allclose(bound, 2 * p * (1 - p), rtol=1e-12)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_near_certain_classes(backend: Adapter, label: int) -> None:
    """1 − p is far below eps, whether or not the certain class is the label."""
    logits = np.array([[50.0, 0.0, -3.0]])
    for options in ({}, {"z_loss": 0.0}, {"label_smoothing": 0.1}):
        case = Case("cross_entropy", (logits, np.array([label])), options)
        want = np.diag(row_hessians(case)[0])
        assert_close(host(asked(case, backend, "diagonal")[2])[0], want, want)
        assert_close(host(asked(case, backend, "upper_bound")[2])[0], 2 * want, want)


@pytest.mark.parametrize("loss", ["softmax_focal_loss", "poly_cross_entropy"])
def test_near_certain_classes_of_bent_losses(backend: Adapter, loss: str) -> None:
    """Also where what is left of 1 is shared by the label and others."""
    logits = np.array([[40.0, 0.0, 1.0, -2.0]])
    for label in (0, 1):
        case = Case(loss, (logits, np.array([label])), {})
        want = abs(row_hessians(case)[0]).sum(axis=-1)
        assert_close(host(asked(case, backend, "upper_bound")[2])[0], want, want)


@pytest.mark.parametrize("curvature", ["diagonal", "upper_bound"])
def test_rows_of_factor_0_or_below(backend: Adapter, curvature: str) -> None:
    """A bound is of |H|, whose factor has no sign."""
    weights = np.array([1.0, 0.0, -2.0, 0.5, 0.0, 3.0])
    options = {"sample_weight": weights, "reduction": "sum"}
    got = host(asked(Case("cross_entropy", (LOGITS, LABELS), options), backend, curvature)[2])
    p = softmax(LOGITS)
    factor = weights[:, None] if curvature == "diagonal" else 2 * abs(weights[:, None])
    np.testing.assert_allclose(got, factor * p * (1 - p), rtol=1e-12)
    negative = {"reduction": "mean", "normalizer": -4.0}
    got = host(asked(Case("cross_entropy", (LOGITS, LABELS), negative), backend, curvature)[2])
    factor = -0.25 if curvature == "diagonal" else 0.5
    np.testing.assert_allclose(got, factor * p * (1 - p), rtol=1e-12)
    signed = weights if curvature == "diagonal" else abs(weights)
    for loss, more in (("cross_entropy", {"z_loss": 0.1}), ("softmax_focal_loss", {})):
        plain, whole = (
            host(asked(Case(loss, (LOGITS, LABELS), how | more), backend, curvature)[2])
            for how in ({"reduction": "sum"}, options)
        )
        np.testing.assert_allclose(whole, signed[:, None] * plain, rtol=1e-12)


def test_elements_that_are_not_convex(backend: Adapter) -> None:
    """Sigmoid focal's curvature is below 0 where it is far off; its bound is not."""
    case = Case("sigmoid_focal_loss", (np.array([-6.0, 1.0]), np.array([1, 0])), {})
    diagonal, bound = (
        host(asked(case, backend, curvature)[2]) for curvature in ("diagonal", "upper_bound")
    )
    assert diagonal[0] < 0 < diagonal[1]
    assert np.array_equal(bound, abs(diagonal))


@pytest.mark.parametrize("curvature", ["diagonal", "upper_bound"])
@pytest.mark.parametrize("form", BOUNDED, ids=names)
def test_blocks(form: Form, curvature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has the same bits in a block of two as in one of all, on any number of threads."""
    case = entry(form, "all", rows=11)
    if curvature == "upper_bound" and not case.bounded:
        case = entry(form, "plain", rows=11)
    numpy = xp_xent.backends.get("numpy")
    want = asked(case, numpy, curvature)
    seen: list[Any] = []
    cut = _numpy_walk._blocks.cut
    monkeypatch.setattr(_numpy_walk, "BLOCK", 8)
    monkeypatch.setattr(_numpy_walk._blocks, "cut", lambda *a: seen.append(a) or cut(*a))
    for count in (1, 2):
        with threads(count):
            got = asked(case, numpy, curvature)
        for one, two in zip(got, want, strict=True):
            assert np.array_equal(one, two)
    assert seen


def test_sure_rows_beside_others() -> None:
    """Rows that are summed again, in any memory layout, have the bits that they have alone."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(64, 7)) * 6, rng.integers(0, 7, 64)
    for curvature in ("diagonal", "upper_bound"):
        ask = partial(value_grad_and_hessian_diagonal(cross_entropy, curvature), reduction="sum")
        _, gradient, whole = ask(logits, labels)
        _, _, across = ask(np.asfortranarray(logits), labels)
        assert np.array_equal(across, whole)
        for i in range(64):
            _, slope, alone = ask(logits[i : i + 1], labels[i : i + 1])
            assert np.array_equal(alone[0], whole[i])
            assert np.array_equal(slope[0], gradient[i])


def test_half_precision_is_rounded_once(backend: Adapter, dtype: str) -> None:
    case = Case("cross_entropy", (LOGITS, LABELS), {}).rounded(backend, dtype)
    for curvature in ("diagonal", "upper_bound"):
        _, gradient, got = asked(case, backend, curvature, dtype)
        assert_array(backend, got, dtype, LOGITS.shape)
        assert_array(backend, gradient, dtype, LOGITS.shape)
        want = asked(case, xp_xent.backends.get("numpy"), curvature)[2]
        eps = FORMATS[dtype].eps
        near = np.asarray(backend.to_numpy(got)).astype(np.float64)
        np.testing.assert_allclose(near, want, rtol=32 * eps, atol=eps)


def test_rows_that_do_not_count(backend: Adapter) -> None:
    """Exactly 0, whatever stands in them."""
    logits = LOGITS.copy()
    logits[1] = np.nan
    labels = LABELS.copy()
    labels[1] = -100
    for curvature in ("diagonal", "upper_bound"):
        case = Case("cross_entropy", (logits, labels), {})
        _, gradient, bend = (host(x) for x in asked(case, backend, curvature))
        assert (gradient[1] == 0).all()
        assert (bend[1] == 0).all()
        assert np.isfinite(bend).all()


def test_objects_and_partials(backend: Adapter) -> None:
    logits, labels = (send(backend, x, "float64") for x in (LOGITS, LABELS))
    how: dict[str, Any] = {"label_smoothing": 0.1, "reduction": "sum"}
    want = value_grad_and_hessian_diagonal(cross_entropy)(logits, labels, **how)
    for loss in (CrossEntropyLoss(**how), partial(cross_entropy, **how)):
        for one, two in zip(
            value_grad_and_hessian_diagonal(loss)(logits, labels), want, strict=True
        ):
            assert np.array_equal(host(one), host(two))


def test_tensors_that_are_differentiated() -> None:
    """As the separate functions: on the formula's path, with a graph behind the results."""
    torch = pytest.importorskip("torch")
    z, y = torch.tensor(LOGITS, requires_grad=True), torch.tensor(LABELS)
    got = value_grad_and_hessian_diagonal(cross_entropy)(z, y)
    want = *value_and_grad(cross_entropy)(z, y), hessian_diagonal(cross_entropy)(z, y)
    for one, two in zip(got, want, strict=True):
        assert one.requires_grad == two.requires_grad
        torch.testing.assert_close(one, two, rtol=1e-14, atol=1e-16)
    (slope,) = torch.autograd.grad(got[0], z)
    torch.testing.assert_close(slope, got[1].detach(), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("loss", UNBOUNDED)
def test_what_has_no_bound(backend: Adapter, loss: str) -> None:
    form = next(form for form in FORMS if form.function == loss)
    case = entry(form, "plain")
    arrays, options = case.on(backend, "float64")
    message = str(
        error_of(value_grad_and_hessian_diagonal(case.function, "upper_bound"), *arrays, **options)
    )
    for part in ("curvature", "'upper_bound'", "Hessian", "wanted 'diagonal'"):
        assert part in message


def test_wrong_curvature() -> None:
    message = str(error_of(value_grad_and_hessian_diagonal, cross_entropy, "bound"))
    for part in ("curvature", "'bound'", "'diagonal'", "'upper_bound'"):
        assert part in message
    assert "loss" in str(error_of(value_grad_and_hessian_diagonal, np.sum))
