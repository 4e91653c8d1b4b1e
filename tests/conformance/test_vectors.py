"""Every certified vector on the installed libraries, and the files, reference and tolerances."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import _faulty_binary
import _faulty_maps
import _faulty_others
import _faulty_values
import numpy as np
import pytest

import xp_xent
from xp_xent import backends, conformance
from xp_xent.conformance import (
    Expected,
    Host,
    Subject,
    Vector,
    _enclosure,
    generate,
    reference,
    tolerance,
)
from xp_xent.conformance._subjects import own_subjects

TOPICS = conformance.names()
VECTORS = [vector for name in TOPICS for vector in conformance.load(name)]
WAYS = {subject.name: subject for subject in own_subjects()}
ALL = tuple(tolerance.FORMATS)

# The library on each array library, and through automatic differentiation -> dtypes. Calls of
# dpnp, MLX and JAX take long, so they get one dtype or two here; the command runs all on all.
ASKED = {
    "xp_xent on numpy": ALL,
    "xp_xent on array_api_strict": ALL,
    "xp_xent on torch": ALL,
    "xp_xent on torch, autograd": ALL,
    "xp_xent on dpnp": ("float32",),
    "xp_xent on mlx": ("float32", "float64"),
    "xp_xent on mlx, grad": ("float32", "float64"),
    "xp_xent on jax": ("float32",),
    "xp_xent on jax, grad": ("float32",),
    "xp_xent through ONNX": ("float32",),
}
SLOW = (
    *("xp_xent on dpnp", "xp_xent on mlx", "xp_xent on mlx, grad"),
    *("xp_xent on jax", "xp_xent on jax, grad"),
)
LATER = ("xp_xent through ONNX",)  # a model each: some are asked in conformance/test_subjects.py
# Where automatic differentiation of the same formula differs most from the closed form
DERIVED = ("extreme_logits", "gradients", "ignored_rows", "maps", "regularisers", "smoothing")


def thinned(name: str, cases: list[Vector]) -> list[Vector]:
    """What the first tier asks of a topic.

    A call of dpnp is slow, and MLX is asked in two dtypes and ways: every fourth. JAX compiles each
    operation for each shape: every eighth, or, where a topic has more than ten, every sixteenth.
    """
    if "jax" not in name:
        return cases[::4]
    shapes = {tuple(host.array.shape for host in case.arguments.values()) for case in cases}
    return cases[:: 8 if len(shapes) <= 10 else 16]


def asked() -> Iterator[Any]:
    for name, dtypes in ASKED.items():
        topics = DERIVED if name == "xp_xent on jax, grad" else TOPICS
        if name in WAYS:
            known = WAYS[name].dtypes or backends.get(WAYS[name].backend).float_dtypes()
            for topic in topics:
                wanted = set(ALL if topic == "half_precision" else dtypes) & set(known)
                cases = [v for v in conformance.load(topic) if v.dtype in wanted]
                if not cases:
                    continue
                if name not in LATER:
                    first = thinned(name, cases) if name in SLOW else cases
                    yield pytest.param(WAYS[name], first, id=f"{name}-{topic}")
                if name in SLOW + LATER:
                    yield pytest.param(
                        WAYS[name], cases, id=f"{name}-{topic}-all", marks=pytest.mark.full
                    )


@pytest.mark.parametrize(("subject", "cases"), list(asked()))
def test_vectors(subject: Subject, cases: list[Vector]) -> None:
    report = conformance.run(subject, cases=cases)
    assert [(x.case_id, x.reason) for x in report.failed] == []
    assert [(x.case_id, x.reason) for x in report.unsupported] == []


def test_subnormal_derivatives_of_a_soft_cap() -> None:
    """MLX keeps subnormal numbers, unlike JAX: what a derivative is divided by may not be large."""
    if (subject := WAYS.get("xp_xent on mlx, grad")) is None:
        pytest.skip("could not import 'mlx.core'")
    cases = [vector for vector in VECTORS if vector.id == "softcap-1000-beyond-0-float32"]
    assert conformance.run(subject, cases=cases).passed


# The files


def test_files_are_what_the_generator_writes() -> None:
    assert generate.main(["--check"]) == 0


def plain(value: Any) -> Any:
    return (
        (value.dtype, value.array.shape, value.array.tobytes())
        if isinstance(value, Host)
        else value
    )


def inputs_of(vector: Vector) -> str:
    """What a vector asks, without options that are the function's own defaults."""
    known = inspect.signature(getattr(xp_xent, vector.function)).parameters
    options = {k: plain(x) for k, x in vector.options.items() if x != known[k].default}
    arrays = [plain(x) for x in (*vector.arguments.values(), vector.cotangent)]
    return repr((vector.function, vector.dtype, arrays, sorted(options.items())))


def test_ids_are_unique_and_no_two_vectors_are_alike() -> None:
    assert len(VECTORS) >= 1500
    assert len({vector.id for vector in VECTORS}) == len(VECTORS)
    first: dict[str, str] = {}
    alike = [
        (v.id, other) for v in VECTORS if (other := first.setdefault(inputs_of(v), v.id)) != v.id
    ]
    assert alike == []


def test_ids_of_the_first_edition_are_still_there() -> None:
    first = """
    mean ten-classes image axis-0 one-class tie confident-20 hopeless subnormal offset-half
    offset-1000000 largest-right masked masked-row nan-row ignored ignore-0 where
    nothing-mean none sum normalizer sample-weight weight weight-soft smoothing-uniform
    smoothing-others-soft soft soft-one-hot z-loss softcap softcap-infinite half-many
    half-loss binary-mean binary-right binary-inf-wrong binary-weights
    binary-smoothing-confident binary-normalizer
    """.split()
    ids = {vector.id.rpartition("-")[0] for vector in VECTORS}
    assert set(first) <= ids


@pytest.mark.parametrize("name", TOPICS)
def test_file_follows_the_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the schema's validator is not installed")
    folder = files("xp_xent.conformance") / "vectors"
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(content)
    tests = [test for group in content["testGroups"] for test in group["tests"]]
    assert content["numberOfTests"] == len(tests)
    assert {flag for test in tests for flag in test["flags"]} == set(content["notes"])


def test_inputs_and_results_are_exact_in_their_dtype() -> None:
    for vector in VECTORS:
        hosts = [*vector.arguments.values(), *vector.options.values(), vector.cotangent]
        floats = [(x.dtype, x.array) for x in hosts if isinstance(x, Host)]
        floats += [(x.dtype, x.data) for x in (vector.value, vector.gradient) if x is not None]
        for dtype, array in floats:
            for x in array.ravel().tolist() if dtype in tolerance.FORMATS else []:
                assert _enclosure.nearest(x, dtype) == x or math.isnan(x)


# The reference


def test_rounding_is_to_nearest_even_with_subnormals() -> None:
    halfway = {1 + 2**-11: 1.0, 1 + 3 * 2**-11: 1 + 2**-9, 2.0**-25: 0.0, 3 * 2.0**-25: 2.0**-23}
    edges = {65519.0: 65504.0, 65520.0: math.inf, -(2.0**-24): -(2.0**-24)}
    for x, rounded in (halfway | edges).items():
        assert _enclosure.nearest(x, "float16") == rounded


def test_a_result_on_a_midpoint_is_not_certified() -> None:
    wide = _enclosure.arb(1 + 2**-24, 2.0**-200)
    stuck = _enclosure.Result([wide], [], [0.0], [])
    with pytest.raises(ArithmeticError, match="midpoint"):
        _enclosure.certified(lambda: stuck, "float32", "float32")


def test_confident_row_of_the_textbook() -> None:
    row = reference.row([20.0, 0.0, 0.0], reference.masses(0, 3))
    assert float(row.loss) == pytest.approx(4.122307236e-09, rel=1e-9)
    assert float(row.gradient[0]) == pytest.approx(-4.122307236e-09, rel=1e-8)


# The tolerances

# Share of the float32 losses and gradient entries in which a relative error of 4e-6 must fail.
# The others are ill-conditioned: log-odds beyond 12, subnormal numbers, masses that cancel, logits
# that a cap has bent, and powers of 1 - p, which multiply its error. Spread over the classes, these
# are summed besides, with terms of both signs in the gradient: bounds of 50 to 340 ULP.
TIGHT = {
    "maps": (0.85, 0.55),
    "focal": (0.65, 0.40),
    "spread_focal": (0.5, 0.15),
    "other_losses": (0.6, 0.4),
    "extreme_logits": (0.75, 0.65),
    "regularisers": (0.65, 0.45),
    "options": (0.85, 0.7),
    "probability_targets": (0.8, 0.75),
    "smoothing": (0.99, 0.7),
    "spread_mass": (0.75, 0.6),
    "binary": (0.9, 0.85),
}


# The naive ways, in values and in gradients
LOSING_DIGITS: list[dict[str, Any]] = [
    {
        "cross_entropy": _faulty_values.LogSoftmaxBySubtraction(),
        "binary_cross_entropy_with_logits": _faulty_binary.LogOfSigmoid(),
        "kl_divergence": _faulty_others.DivergenceOfLogSoftmax(),
        "softmax_focal_loss": _faulty_others.FocalOfOneMinusP(),
        "sigmoid_focal_loss": _faulty_others.SigmoidFocalOfOneMinusP(),
        "log_softmax": _faulty_maps.LogSoftmaxMinusLogSum(),
    },
    {
        "cross_entropy": _faulty_values.MissBySubtraction(),
        "binary_cross_entropy_with_logits": _faulty_binary.SigmoidMinusTarget(),
        "softmax_focal_loss": _faulty_others.FocalOfOneMinusP(),
        "softmax": _faulty_maps.SoftmaxOfSquares(),
    },
]


@pytest.mark.parametrize("topic", TOPICS)
def test_relative_error_of_4e_6_is_rejected_in_float32(topic: str) -> None:
    for what, least in zip(("value", "gradient"), TIGHT.get(topic, (0.9, 0.85)), strict=True):
        results = [getattr(vector, what) for vector in conformance.load(topic)]
        rejected: list[bool] = []
        for x in (x for x in results if x is not None and x.dtype == "float32"):
            real = np.isfinite(x.data) & (x.data != 0)
            data, ulps = x.data[real], x.ulps[real]
            rejected += (~tolerance.accepts(data * (1 + 4e-6), data, ulps, x.dtype)).tolist()
        assert np.mean(rejected or [1]) >= least, f"{what}: {np.mean(rejected):.3f}"


@pytest.mark.parametrize("topic", [x for x in TOPICS if x != "bad_labels"])
def test_losing_the_digits_of_confident_rows_is_rejected(topic: str) -> None:
    for both in LOSING_DIGITS:
        calls = [
            {name: lambda *args, loss=loss, part=part, **more: loss(*args, **more)[part]
             for name, loss in both.items()}
            for part in (0, 1)
        ]  # fmt: skip
        cases = conformance.load(topic)
        assert conformance.run(Subject("naive", "numpy", *calls), cases=cases).failed


def test_correctly_rounded_results_pass_and_others_do_not() -> None:
    for vector in VECTORS:
        for expected in (vector.value, vector.gradient):
            assert expected is None or expected.accepts(expected.data)
    expected = Expected("float32", np.asarray([1.0, math.nan, math.inf]), np.full(3, 2.0))
    assert expected.accepts(np.asarray([1 + 2 * 2.0**-23, math.nan, math.inf]))
    for wrong in ([1 + 3 * 2.0**-23, math.nan, math.inf], [1.0, 0.0, math.inf], [1.0, math.nan, 9]):
        assert not expected.accepts(np.asarray(wrong))
    assert not expected.accepts(np.asarray([[1.0, math.nan, math.inf]]))


def test_only_a_flushing_library_may_lose_a_subnormal() -> None:
    assert tolerance.accepts(0.0, 2.0**-130, 8, "float32", flushes=True)
    assert not tolerance.accepts(0.0, 2.0**-130, 8, "float32")
    assert not tolerance.accepts(0.0, 2.0**-120, 8, "float32", flushes=True)
