"""Every certified vector on every library, and the tolerances that they are judged by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent import backends, conformance
from xp_xent.backends import Backend, dtype_name
from xp_xent.conformance import Expected, Host, Vector, generate, reference, tolerance

VECTORS = [vector for name in conformance.names() for vector in conformance.load(name)]
CASES = pytest.mark.parametrize("vector", VECTORS, ids=[vector.id for vector in VECTORS])


def send(backend: Backend, value: Any) -> Any:
    return backend.asarray(value.array, dtype=value.dtype) if isinstance(value, Host) else value


def flushes(backend: Backend, dtype: str) -> bool:
    """Whether the library, in the dtype it computes in, takes subnormal numbers for 0."""
    compute = tolerance.COMPUTE[dtype]
    smallest = np.asarray([tolerance.FORMATS[compute].smallest_normal])
    half = backend.asarray(smallest, dtype=compute) * 0.5
    return not backend.to_numpy(half * 2.0)[0]


def check(backend: Backend, got: Any, expected: Expected, vector: Vector) -> None:
    assert dtype_name(got.dtype) == expected.dtype
    answer = backend.to_numpy(got).astype(np.float64)
    assert expected.accepts(answer, flushes=flushes(backend, vector.dtype)), (
        f"{vector.comment}: got {answer}, expected {expected.data}, "
        f"{expected.worst(answer):.3g} ULP where {expected.ulps} are allowed"
    )


@CASES
def test_vector(backend: Backend, vector: Vector) -> None:
    if vector.dtype not in backend.float_dtypes():
        pytest.skip(f"{backend.name} has no {vector.dtype} here")
    loss = getattr(xp_xent, vector.function)
    arrays = [send(backend, x) for x in vector.arguments.values()]
    options = {name: send(backend, x) for name, x in vector.options.items()}
    check(backend, loss(*arrays, **options), vector.value, vector)
    value, gradient = xp_xent.value_and_grad(loss)(*arrays, **options)
    check(backend, value, vector.value, vector)
    if vector.gradient is not None:
        check(backend, gradient, vector.gradient, vector)


def by_autodiff(name: str, loss: Callable[[Any], Any], logits: Any) -> Any:
    """Differentiate as a user of the library would."""
    if name == "torch":
        loss(logits.requires_grad_()).sum().backward()
        return logits.grad
    import jax

    return jax.grad(lambda z: loss(z).sum())(logits)


# JAX compiles each shape anew, so one dtype has to do there.
@pytest.mark.parametrize(
    ("name", "vector"),
    [
        pytest.param(name, vector, id=f"{name}-{vector.id}")
        for name, dtypes in {"torch": tuple(tolerance.FORMATS), "jax": ("float32",)}.items()
        for vector in VECTORS
        if name in backends.installed() and vector.dtype in dtypes and vector.gradient is not None
    ],
)
def test_vector_by_autodiff(name: str, vector: Vector) -> None:
    backend = backends.get(name)
    assert vector.gradient is not None
    logits, targets = (send(backend, x) for x in vector.arguments.values())
    options = {key: send(backend, x) for key, x in vector.options.items()}
    loss = getattr(xp_xent, vector.function)
    gradient = by_autodiff(name, lambda z: loss(z, targets, **options), logits)
    check(backend, gradient, vector.gradient, vector)


# The files


def test_files_are_what_the_generator_writes() -> None:
    assert generate.main(["--check"]) == 0


def test_ids_and_inputs_are_unique() -> None:
    assert len({vector.id for vector in VECTORS}) == len(VECTORS)
    inputs = [
        repr((vector.function, vector.dtype, vector.arguments, vector.options))
        for vector in VECTORS
    ]
    assert len(set(inputs)) == len(VECTORS)


@pytest.mark.parametrize("name", conformance.names())
def test_file_follows_the_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the schema's validator is not installed")
    folder = files("xp_xent.conformance") / "vectors"
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, json.loads((folder / "schema.json").read_text(encoding="utf-8")))
    tests = [test for group in content["testGroups"] for test in group["tests"]]
    assert content["numberOfTests"] == len(tests)
    assert {flag for test in tests for flag in test["flags"]} == set(content["notes"])


def test_inputs_and_results_are_exact_in_their_dtype() -> None:
    for vector in VECTORS:
        hosts = [*vector.arguments.values(), *vector.options.values()]
        floats = [(x.dtype, x.array) for x in hosts if isinstance(x, Host)]
        floats += [(x.dtype, x.data) for x in (vector.value, vector.gradient) if x is not None]
        for dtype, array in floats:
            for x in array.ravel().tolist() if dtype in tolerance.FORMATS else []:
                assert reference.nearest(x, dtype) == x or math.isnan(x)


# The reference


def test_rounding_is_to_nearest_even_with_subnormals() -> None:
    halfway = {1 + 2**-11: 1.0, 1 + 3 * 2**-11: 1 + 2**-9, 2.0**-25: 0.0, 3 * 2.0**-25: 2.0**-23}
    edges = {65519.0: 65504.0, 65520.0: math.inf, -(2.0**-24): -(2.0**-24)}
    for x, rounded in (halfway | edges).items():
        assert reference.nearest(x, "float16") == rounded


def test_a_result_on_a_midpoint_is_not_certified() -> None:
    wide = reference.arb(1 + 2**-24, 2.0**-200)
    stuck = reference.Result([wide], [], [0.0], [])
    with pytest.raises(ArithmeticError, match="midpoint"):
        reference.certified(lambda: stuck, "float32", "float32")


def test_confident_row_of_the_textbook() -> None:
    row = reference.row([20.0, 0.0, 0.0], reference.masses(0, 3))
    assert float(row.loss) == pytest.approx(4.122307236e-09, rel=1e-9)
    assert float(row.gradient[0]) == pytest.approx(-4.122307236e-09, rel=1e-8)


# The tolerances


def ordinary(vector: Vector) -> bool:
    """A float32 row that no log-odds of more than 12 and no cancellation make sensitive."""
    data, ulps = vector.value.data, vector.value.ulps
    return vector.dtype == "float32" and bool(np.all(np.isfinite(data) & (ulps < 30)))


def test_relative_error_of_4e_6_is_rejected_in_float32() -> None:
    judged = [v.value for v in VECTORS if ordinary(v) and np.any(v.value.data != 0)]
    assert len(judged) > 30
    for expected in judged:
        for error in (4e-6, -4e-6):
            assert not expected.accepts(expected.data * (1 + error))
    gradients = [v.gradient for v in VECTORS if ordinary(v) and v.gradient is not None]
    fails = [not x.accepts(x.data * (1 + 4e-6)) for x in gradients if np.any(x.data != 0)]
    assert sum(fails) > 0.9 * len(fails)


def naive(logits: np.ndarray[Any, Any], label: int) -> tuple[Any, Any]:
    """The textbook's log-softmax and softmax minus one-hot, in the logits' dtype."""
    shifted = logits - logits.max()
    log_p = shifted - np.log(np.exp(shifted).sum())
    return -log_p[label], np.exp(log_p) - np.eye(len(logits), dtype=logits.dtype)[label]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_naive_log_softmax_is_rejected_on_confident_rows(dtype: str) -> None:
    rows = {f"confident-{odds}-{dtype}" for odds in (20, 60, 80)}
    confident = [vector for vector in VECTORS if vector.id in rows]
    assert len(confident) == len(rows)
    for vector in confident:
        (logits,), (label,) = (host.array for host in vector.arguments.values())
        loss, gradient = naive(logits, label)
        assert vector.gradient is not None
        assert not vector.value.accepts(np.asarray(loss, dtype=np.float64))
        assert not vector.gradient.accepts(np.asarray([gradient], dtype=np.float64))


def test_correctly_rounded_results_pass_and_others_do_not() -> None:
    for vector in VECTORS:
        assert vector.value.accepts(vector.value.data)
        if vector.gradient is not None:
            assert vector.gradient.accepts(vector.gradient.data)
    expected = Expected("float32", np.asarray([1.0, math.nan, math.inf]), np.full(3, 2.0))
    assert expected.accepts(np.asarray([1 + 2 * 2.0**-23, math.nan, math.inf]))
    for wrong in ([1 + 3 * 2.0**-23, math.nan, math.inf], [1.0, 0.0, math.inf], [1.0, math.nan, 9]):
        assert not expected.accepts(np.asarray(wrong))
    assert not expected.accepts(np.asarray([[1.0, math.nan, math.inf]]))


def test_only_a_flushing_library_may_lose_a_subnormal() -> None:
    assert tolerance.accepts(0.0, 2.0**-130, 8, "float32", flushes=True)
    assert not tolerance.accepts(0.0, 2.0**-130, 8, "float32")
    assert not tolerance.accepts(0.0, 2.0**-120, 8, "float32", flushes=True)
