"""Options that are numbers, as arrays of one number: the same results, and their own gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import error_of, host
from _truth import Array

import xp_xent
from xp_xent.backends import Adapter

RNG = np.random.default_rng(29)
LOGITS = RNG.normal(size=(6, 4)) * 2
LABELS = np.array([0, 3, 1, 2, 2, 1])
SOFT = RNG.dirichlet(np.ones(4), 6)
HARD = (SOFT > 0.3).astype(np.int64)
# Loss, targets, and options that are numbers
CALLS: list[tuple[str, tuple[Array, ...], dict[str, float]]] = [
    ("cross_entropy", (LABELS,), {"label_smoothing": 0.1, "z_loss": 0.2, "softcap": 5.0}),
    ("cross_entropy", (SOFT,), {"label_smoothing": 0.1, "temperature": 0.5, "normalizer": 3.0}),
    ("nll_loss", (LABELS,), {"label_smoothing": 0.3}),
    ("softmax_focal_loss", (LABELS,), {"gamma": 1.5, "alpha": 0.25}),
    ("poly_cross_entropy", (LABELS,), {"epsilon": -0.5}),
    ("binary_cross_entropy_with_logits", (HARD,), {"label_smoothing": 0.1}),
    ("sigmoid_focal_loss", (HARD,), {"gamma": 0.5, "alpha": 0.25}),
    ("kl_divergence", (SOFT,), {"temperature": 3.0}),
    ("entropy", (), {"temperature": 3.0}),
]
IDS = [f"{loss}-{'-'.join(options)}" for loss, _, options in CALLS]
calls = pytest.mark.parametrize(("loss", "targets", "options"), CALLS, ids=IDS)


@calls
def test_an_array_is_the_number(
    backend: Adapter, loss: str, targets: Any, options: dict[str, float]
) -> None:
    function = getattr(xp_xent, loss)
    arrays = [backend.asarray(x) for x in (LOGITS, *targets)]
    given = {name: backend.asarray(np.asarray(x)) for name, x in options.items()}
    for call in (function, lambda *a, **o: xp_xent.value_and_grad(function)(*a, **o)[1]):
        got, want = host(call(*arrays, **given)), host(call(*arrays, **options))
        assert np.allclose(got, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("library", ["torch", "jax"])
@calls
def test_their_gradients(library: str, loss: str, targets: Any, options: dict[str, float]) -> None:
    """By automatic differentiation; against differences on NumPy."""
    pytest.importorskip(library)
    function, names = getattr(xp_xent, loss), list(options)
    got = _gradients(library, function, targets, options)
    for name, slope in zip(names, got, strict=True):
        step, ends = 1e-6, []
        for sign in (1, -1):
            moved = options | {name: options[name] + sign * step}
            ends.append(function(LOGITS, *targets, **moved))
        assert np.isclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def _gradients(library: str, function: Any, targets: Any, options: dict[str, float]) -> list[float]:
    if library == "jax":
        import jax

        def call(numbers: dict[str, Any]) -> Any:
            return function(jax.numpy.asarray(LOGITS), *map(jax.numpy.asarray, targets), **numbers)

        found = jax.jit(jax.grad(call))(options)
        return [float(found[name]) for name in options]
    import torch

    numbers = {
        name: torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for name, x in options.items()
    }
    function(torch.asarray(LOGITS), *map(torch.asarray, targets), **numbers).backward()
    return [float(x.grad) for x in numbers.values()]


@pytest.mark.parametrize(
    ("loss", "name", "bad"),
    [
        ("cross_entropy", "label_smoothing", 1.5),
        ("cross_entropy", "z_loss", -0.5),
        ("cross_entropy", "softcap", 0.0),
        ("cross_entropy", "temperature", 0.0),
        ("cross_entropy", "temperature", np.inf),
        ("softmax_focal_loss", "gamma", -1.0),
        ("sigmoid_focal_loss", "alpha", 2.0),
        ("poly_cross_entropy", "epsilon", -2.0),
    ],
)
def test_out_of_range(backend: Adapter, loss: str, name: str, bad: float) -> None:
    """Refused where the value can be read without waiting for a device; NaN elsewhere."""
    function = getattr(xp_xent, loss)
    arrays = [backend.asarray(x) for x in (LOGITS, HARD if "sigmoid" in loss else LABELS)]
    number = backend.asarray(np.asarray(bad))
    if backend.can_read_values(number):
        assert name in str(error_of(function, *arrays, **{name: number}))
    else:
        assert np.isnan(host(function(*arrays, **{name: number})))
    assert name in str(error_of(function, *arrays, **{name: bad}))


def test_out_of_range_under_jit() -> None:
    jax = pytest.importorskip("jax")
    rows = jax.jit(lambda z, e: xp_xent.cross_entropy(z, LABELS, label_smoothing=e))
    z = jax.numpy.asarray(LOGITS)
    assert np.isnan(rows(z, 1.5))
    assert np.isfinite(rows(z, 1.0))


@pytest.mark.parametrize(
    ("name", "bad"), [("label_smoothing", 1.5), ("z_loss", -0.1), ("temperature", 0.0)]
)
def test_the_derivative_by_a_number_out_of_range(name: str, bad: float) -> None:
    """NaN as the loss is, so that a schedule which left the range is seen in its gradient, too."""
    jax = pytest.importorskip("jax")
    z = jax.numpy.asarray(LOGITS)
    by = jax.jit(jax.grad(lambda e: xp_xent.cross_entropy(z, LABELS, **{name: e})))
    assert np.isnan(by(bad))
    assert np.isfinite(by(0.5))


@pytest.mark.parametrize(
    "wrong", [np.asarray([0.1]), np.asarray(True), np.asarray(1j), "0.1", [0.1], None]
)
def test_what_is_no_number(backend: Adapter, wrong: Any) -> None:
    if isinstance(wrong, np.ndarray) and not (wrong.dtype.kind == "c" and backend.name == "mlx"):
        wrong = backend.asarray(wrong)
    arrays = backend.asarray(LOGITS), backend.asarray(LABELS)
    assert "label_smoothing" in str(error_of(xp_xent.cross_entropy, *arrays, label_smoothing=wrong))


def test_of_another_library(backend: Adapter) -> None:
    """Refused; an array of one number of NumPy is NumPy's number."""
    arrays = backend.asarray(LOGITS), backend.asarray(LABELS)
    plain = host(xp_xent.cross_entropy(*arrays, temperature=2.0))
    assert host(xp_xent.cross_entropy(*arrays, temperature=np.asarray(2.0))) == plain
    torch = pytest.importorskip("torch")
    if backend.name != "torch":
        error = error_of(xp_xent.cross_entropy, *arrays, temperature=torch.tensor(2.0))
        assert "torch" in str(error)


def test_a_schedule_is_compiled_once() -> None:
    jax = pytest.importorskip("jax")
    traced = []

    @jax.jit
    def step(z: Any, y: Any, epsilon: Any) -> Any:
        traced.append(epsilon)
        return xp_xent.cross_entropy(z, y, label_smoothing=epsilon)

    for epsilon in (0.1, 0.2, 0.3):
        got = step(LOGITS, LABELS, epsilon)
        assert np.isclose(got, xp_xent.cross_entropy(LOGITS, LABELS, label_smoothing=epsilon))
    assert len(traced) == 1
    focal = jax.jit(xp_xent.sigmoid_focal_loss)(jax.numpy.asarray(LOGITS), HARD, gamma=2.0)
    assert np.isclose(focal, xp_xent.sigmoid_focal_loss(LOGITS, HARD, gamma=2.0))


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("cross_entropy", "label_smoothing"),
        ("cross_entropy", "temperature"),
        ("softmax_focal_loss", "gamma"),
        ("softmax_focal_loss", "alpha"),
        ("sigmoid_focal_loss", "gamma"),
    ],
)
def test_a_schedule_is_compiled_once_by_torch(loss: str, name: str) -> None:
    """For the first number, and for all others."""
    torch = pytest.importorskip("torch")
    from torch._dynamo.testing import CompileCounterWithBackend

    function, counter = getattr(xp_xent, loss), CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    arrays = torch.asarray(LOGITS), torch.asarray(HARD if "sigmoid" in loss else LABELS)
    for value in (0.15, 0.25, 0.35, 0.45):
        got, want = (f(*arrays, **{name: value}) for f in (compiled, function))
        assert torch.allclose(got, want, rtol=1e-13)
    assert counter.frame_count == 2


# The gradient by the temperature, in closed form


TEMPERED = [
    ("cross_entropy", (LABELS,), {}),
    ("cross_entropy", (SOFT,), {"label_smoothing": 0.1}),
    ("cross_entropy", (LABELS,), {"softcap": 3.0, "z_loss": 0.1, "where": LABELS > 0}),
    ("kl_divergence", (SOFT,), {}),
    ("entropy", (), {}),
    ("next_token_cross_entropy", (LABELS,), {}),
]


@pytest.mark.parametrize(("loss", "targets", "options"), TEMPERED)
def test_by_the_temperature(
    backend: Adapter, loss: str, targets: Any, options: dict[str, Any]
) -> None:
    function = getattr(xp_xent, loss)
    arrays = [backend.asarray(x) for x in (LOGITS, *targets)]
    own = {k: backend.asarray(v) if hasattr(v, "dtype") else v for k, v in options.items()}
    ends = [function(LOGITS, *targets, **options, temperature=0.7 + d) for d in (1e-6, -1e-6)]
    by_temperature = xp_xent.value_and_grad(function, "temperature")
    value, slope = by_temperature(*arrays, **own, temperature=0.7)
    assert tuple(slope.shape) == ()
    assert np.isclose(host(slope), (ends[0] - ends[1]) / 2e-6, rtol=1e-7)
    assert np.isclose(host(value), function(LOGITS, *targets, **options, temperature=0.7))
    _, (both, same) = xp_xent.value_and_grad(function, (0, "temperature"))(
        *arrays, **own, temperature=0.7
    )
    assert np.array_equal(host(same), host(slope))
    assert tuple(both.shape) == LOGITS.shape
    # A row's own, where each row has its loss.
    rows = by_temperature(*arrays, **own, temperature=0.7, reduction="sum")[1]
    _, each = by_temperature(*arrays, **own, temperature=0.7, reduction="none")
    assert np.isclose(host(each).sum(), host(rows))


def test_by_the_temperature_of_a_linear_layer(backend: Adapter) -> None:
    features, classifier = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 3))
    arrays = [backend.asarray(x) for x in (features, classifier, LABELS)]
    _, got = xp_xent.value_and_grad(xp_xent.linear_cross_entropy, "temperature")(
        *arrays, temperature=2.0
    )
    _, want = xp_xent.value_and_grad(xp_xent.cross_entropy, "temperature")(
        features @ classifier.T, LABELS, temperature=2.0
    )
    assert np.isclose(host(got), want, rtol=1e-12)


def test_a_loss_without_one() -> None:
    with pytest.raises(ValueError, match="'temperature'"):
        xp_xent.value_and_grad(xp_xent.nll_loss, "temperature")(LOGITS, LABELS)


def test_a_temperature_divides_differences() -> None:
    """Logits with a large offset keep the digits of their differences."""
    z = np.array([[1e6, 1e6 + 1, 1e6 - 2]], dtype=np.float32)
    got = xp_xent.cross_entropy(z, np.array([1]), temperature=3.0)
    want = xp_xent.cross_entropy(z.astype(np.float64) - 1e6, np.array([1]), temperature=3.0)
    assert abs(got - want) <= 4 * np.spacing(np.float32(want))
