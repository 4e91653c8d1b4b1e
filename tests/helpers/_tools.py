"""What the tests share: compare an answer with the truth, and a call on one library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import Case, send
from _truth import Array

import xp_xent
from xp_xent import backends
from xp_xent.backends import Adapter
from xp_xent.conformance import tolerance
from xp_xent.conformance._formats import COMPUTE
from xp_xent.conformance.tolerance import AUTODIFF, FORMATS

# Random calls: some in the first tier, and by the second so many times as many.
times = pytest.mark.parametrize(
    "times", [pytest.param(1, id="some"), pytest.param(5, id="many", marks=pytest.mark.full)]
)


def assert_array(backend: Adapter, array: Any, dtype: str, shape: tuple[int, ...]) -> None:
    """Library, dtype, shape and device, before any value."""
    like = backend.asarray(np.zeros(1), dtype=dtype)
    assert backends.backend_of(array) is backend
    assert array.dtype == like.dtype
    assert tuple(array.shape) == tuple(shape)
    assert backend.device(array) == backend.device(like)


def assert_near(
    got: Array, want: Array, scale: Array, *, dtype: str, classes: int, spread: float
) -> None:
    """Within the row tolerance, relative to the sizes that were added up; NaN and ∞ where wanted.

    `dtype` is that of the result, `spread` the largest log-odds that take part.
    """
    got, want, compute = np.asarray(got).astype(np.float64), np.asarray(want), COMPUTE[dtype]
    assert got.shape == want.shape
    relative = tolerance.row_tolerance(compute, classes, spread)
    relative = relative + tolerance.sum_tolerance(compute, max(np.size(scale), 1))
    # A library may flush what is below the smallest normal number.
    slack = relative * np.abs(scale) + tolerance.FORMATS[compute].smallest_normal
    if dtype != compute:
        slack = slack + tolerance.ulp(np.where(np.isfinite(want), want, 0), dtype)
    with np.errstate(invalid="ignore"):
        fine = (np.abs(got - want) <= slack) | (got == want) | (np.isnan(got) & np.isnan(want))
    assert fine.all(), f"got {got[~fine]}, wanted {want[~fine]} ± {slack[~fine]}"


def assert_within(got: Any, want: Array, error: Array, dtype: str) -> None:
    """Within the absolute errors that the reference allows; NaN where wanted."""
    got, compute = np.asarray(got).astype(np.float64), COMPUTE[dtype]
    assert got.shape == want.shape
    # A library may flush what is below the smallest normal number.
    slack = error + tolerance.FORMATS[compute].smallest_normal
    if dtype != compute:
        slack = slack + tolerance.ulp(np.where(np.isfinite(want), want, 0), dtype)
    fine = (np.abs(got - want) <= slack) | (np.isnan(got) & np.isnan(want))
    assert fine.all(), f"got {got[~fine]}, wanted {want[~fine]} ± {slack[~fine]}"


def call(backend: Adapter, dtype: str, function: Any, *arrays: Any, **options: Any) -> Any:
    """Call a function with host arrays, on the library; the answer on the host again."""
    sent = [send(backend, a, dtype) for a in arrays]
    answer = function(*sent, **{k: send(backend, v, COMPUTE[dtype]) for k, v in options.items()})
    if isinstance(answer, tuple):
        return tuple(backend.to_numpy(part) for part in answer)
    return backend.to_numpy(answer)


def value_and_grad(
    backend: Adapter,
    loss: Any,
    *arrays: Any,
    dtype: str = "float32",
    argnums: Any = 0,
    **options: Any,
) -> Any:
    """`call` of value_and_grad(loss)."""
    return call(backend, dtype, xp_xent.value_and_grad(loss, argnums), *arrays, **options)


def assert_case(backend: Adapter, dtype: str, case: Case) -> None:
    """The loss alone, and its value and gradient, against the truth."""
    truth = case.rounded(backend, dtype).truth(dtype)
    arrays, options = case.on(backend, dtype)
    loss = case.function(*arrays, **options)
    assert_array(backend, loss, COMPUTE[dtype], truth.value.shape)
    value = backend.to_numpy(loss)
    assert_within(value, truth.value, truth.value_error, COMPUTE[dtype])
    if case.cotangent is not None:
        options["cotangent"] = send(backend, case.cotangent, COMPUTE[dtype])
    argnums, wanted = arguments_of(case)
    same, gradients = xp_xent.value_and_grad(case.function, argnums)(*arrays, **options)
    assert_within(backend.to_numpy(same), truth.value, truth.value_error, COMPUTE[dtype])
    assert len(gradients) == len(wanted)
    for index, gradient in zip(wanted, gradients, strict=True):
        like = options["bias"] if index == 2 else arrays[index]
        assert_array(backend, gradient, backends.dtype_name(like.dtype), like.shape)
        want, error = truth.gradients[index], truth.gradient_errors[index]
        assert_within(backend.to_numpy(gradient), want, error, dtype)


def arguments_of(case: Case) -> tuple[tuple[int | str, ...], list[int]]:
    """Every argument of a call that has a gradient: as argnums, and its place in the truth."""
    if case.loss == "linear_cross_entropy":
        return ((0, 1, "bias"), [0, 1, 2]) if "bias" in case.options else ((0, 1), [0, 1])
    soft = len(case.arrays) > 1 and case.arrays[1].dtype.kind == "f"
    return ((0, 1), [0, 1]) if soft else ((0,), [0])


def error_of(function: Any, *arguments: Any, **options: Any) -> Exception:
    """The TypeError or ValueError that a call must raise."""
    try:
        function(*arguments, **options)
    except (TypeError, ValueError) as error:
        return error
    raise AssertionError("no error was raised")


def host(value: Any) -> Array:
    """Any array on the host."""
    known = hasattr(value, "dtype") and not isinstance(value, np.generic)
    return np.asarray(backends.backend_of(value).to_numpy(value) if known else value)


def assert_agree(got: Any, want: Any, scale: Any, dtype: str = "float64") -> None:
    """To the ULP that two right programs may differ by; 1e-12 relative in float64."""
    form = FORMATS[dtype]
    got, want, scale = (host(x) for x in (got, want, scale))
    slack = AUTODIFF[dtype] * form.eps * np.abs(scale) + form.smallest_normal
    fine = (np.abs(got - want) <= slack) | (np.isnan(got) & np.isnan(want))
    assert fine.all(), f"got {got[~fine]}, wanted {want[~fine]}"


def assert_same(got: Any, want: Any) -> None:
    """Finite arrays, or tuples and lists of them: of one shape, and to 1e-12 of the largest."""
    if isinstance(want, (tuple, list)):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other)
        return
    got, want = host(got), host(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert np.isfinite(want).all(), f"wanted {want}"
    assert_agree(got, want, np.abs(want).max(initial=1.0))
