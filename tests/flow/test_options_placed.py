"""Labels, weights and masks of NumPy or plain sequences, beside the logits of any library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import error_of, host

import xp_xent
from xp_xent import backends
from xp_xent.backends import Adapter

RNG = np.random.default_rng(23)
LOGITS = RNG.normal(size=(4, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 0])
OPTIONS: dict[str, Any] = {
    "weight": np.array([0.5, 1.0, 2.0]),
    "sample_weight": np.array([1, 2, 3, 4]),
    "where": np.array([True, True, False, True]),
    "class_where": np.array([[True, True, True]] * 3 + [[True, False, True]]),
}


def same(got: Any, want: Any, backend: Adapter) -> None:
    """Of the backend's library, dtype and device, and the same bits."""
    assert backends.backend_of(got) is backend
    assert got.dtype == want.dtype
    assert backend.device(got) == backend.device(want)
    assert np.array_equal(host(got), host(want), equal_nan=True)


def on(backend: Adapter, value: Any) -> Any:
    """An option as the library's own array."""
    return backend.asarray(value, dtype="float32" if value.dtype.kind == "f" else None)


@pytest.mark.parametrize("form", ["numpy", "list", "tuple"])
def test_they_are_placed(backend: Adapter, form: str) -> None:
    """As if they were of the logits' library: bit for bit, value and gradient."""
    z = backend.asarray(LOGITS)
    convert = {"numpy": np.asarray, "list": np.ndarray.tolist, "tuple": lambda x: tuple(x.tolist())}
    given = {name: convert[form](x) for name, x in OPTIONS.items()}
    own = {name: on(backend, x) for name, x in OPTIONS.items()}
    labels, own_labels = convert[form](LABELS), backend.asarray(LABELS)
    same(
        xp_xent.cross_entropy(z, labels, **given),
        xp_xent.cross_entropy(z, own_labels, **own),
        backend,
    )
    calls = (z, labels, given), (z, own_labels, own)
    got, want = (xp_xent.value_and_grad(xp_xent.cross_entropy)(*a, **o) for *a, o in calls)
    same(got[1], want[1], backend)


@pytest.mark.parametrize(
    ("loss", "targets", "options"),
    [
        ("nll_loss", LABELS, {"weight": OPTIONS["weight"]}),
        ("softmax_focal_loss", LABELS, {"alpha": OPTIONS["weight"]}),
        ("next_token_cross_entropy", LABELS, {"where": OPTIONS["where"]}),
        ("binary_cross_entropy_with_logits", LOGITS > 0, {"pos_weight": OPTIONS["weight"]}),
        ("sigmoid_focal_loss", (LOGITS > 0).astype(int), {"where": LOGITS > -1}),
        ("perplexity", LABELS, {"sample_weight": OPTIONS["sample_weight"]}),
    ],
)
def test_every_loss(backend: Adapter, loss: str, targets: Any, options: dict[str, Any]) -> None:
    function, z = getattr(xp_xent, loss), backend.asarray(LOGITS)
    own = {name: on(backend, x) for name, x in options.items()}
    want = function(z, backend.asarray(targets), **own)
    same(function(z, targets, **options), want, backend)
    listed = {name: x.tolist() for name, x in options.items()}
    same(function(z, targets.tolist(), **listed), want, backend)


def test_linear(backend: Adapter) -> None:
    features = backend.asarray(LOGITS)
    classifier = backend.asarray(RNG.normal(size=(3, 3)).astype(np.float32))
    want = xp_xent.linear_cross_entropy(features, classifier, backend.asarray(LABELS))
    same(xp_xent.linear_cross_entropy(features, classifier, LABELS), want, backend)


def test_the_loss_keeps_its_dtype(backend: Adapter) -> None:
    """A weight of float64 is one of the loss's dtype, not the other way round."""
    z = backend.asarray(LOGITS)
    loss = xp_xent.cross_entropy(z, LABELS, weight=np.ones(3), sample_weight=[1.0] * 4)
    assert loss.dtype == z.dtype


def test_integer_masks(backend: Adapter) -> None:
    """Zeros and ones, of NumPy or of the library."""
    z, y = backend.asarray(LOGITS), backend.asarray(LABELS)
    mask = OPTIONS["where"]
    want = xp_xent.cross_entropy(z, y, where=backend.asarray(mask))
    for given in (mask.astype(np.int64), mask.astype(np.uint8).tolist()):
        same(xp_xent.cross_entropy(z, y, where=given), want, backend)
    same(xp_xent.cross_entropy(z, y, where=backend.asarray(mask.astype(np.int32))), want, backend)
    elements, hard = LOGITS > -1, backend.asarray((LOGITS > 0).astype(np.int64))
    bce = xp_xent.binary_cross_entropy_with_logits
    want = bce(z, hard, where=backend.asarray(elements))
    same(bce(z, hard, where=backend.asarray(elements.astype(np.int64))), want, backend)


def test_integers_that_are_no_mask() -> None:
    message = str(error_of(xp_xent.cross_entropy, LOGITS, LABELS, where=np.array([0, 2, 1, 1])))
    assert "where" in message
    assert "0 and 1" in message


@pytest.mark.parametrize(
    ("targets", "options", "kind"),
    [
        (LABELS.astype(np.float64), {}, TypeError),
        ([[0], [1, 2], [0], [1]], {}, TypeError),
        (["a"] * 4, {}, TypeError),
        (LABELS, {"where": [0.5] * 4}, TypeError),
        (LABELS, {"weight": ["a"] * 3}, TypeError),
        (LABELS, {"weight": [1.0] * 4}, ValueError),
        ([0, 1, 2], {}, ValueError),
    ],
)
def test_refused(backend: Adapter, targets: Any, options: dict[str, Any], kind: type) -> None:
    """Labels that are no integers, and what is no array at all."""
    error = error_of(xp_xent.cross_entropy, backend.asarray(LOGITS), targets, **options)
    assert type(error) is kind
    assert str(error).startswith("weight" if "weight" in options else next(iter(options), "target"))


@pytest.mark.parametrize("name", [name for name in backends.installed() if name != "numpy"])
def test_probabilities_are_refused(name: str) -> None:
    """Nothing differentiable is converted."""
    error = error_of(xp_xent.cross_entropy, backends.get(name).asarray(LOGITS), LOGITS)
    assert type(error) is TypeError
    assert str(error).startswith("target")


def test_a_third_library_is_refused() -> None:
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    labels = strict.asarray(LABELS)
    error = error_of(xp_xent.cross_entropy, torch.asarray(LOGITS), labels)
    assert "array_api_strict" in str(error)


def test_labels_that_do_not_fit_are_not_wrapped() -> None:
    """JAX without 64 bits would make 2³² a label 0."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        z = jax.numpy.asarray(LOGITS)
        message = str(error_of(xp_xent.cross_entropy, z, np.array([0, 1, 2**32, 0])))
        assert "4294967296 at position (2,)" in message
        assert np.isfinite(xp_xent.cross_entropy(z, LABELS))


def test_under_jit() -> None:
    """Constants of what is traced: out of range, they make their row NaN."""
    jax = pytest.importorskip("jax")
    z = jax.numpy.asarray(LOGITS)
    got = jax.jit(lambda z: xp_xent.cross_entropy(z, LABELS, where=[1, 1, 0, 1]))(z)
    assert abs(float(got) - float(xp_xent.cross_entropy(LOGITS, LABELS, where=[1, 1, 0, 1]))) < 1e-6
    rows = jax.jit(lambda z: xp_xent.cross_entropy(z, [0, 7, 1, 0], reduction="none"))(z)
    assert np.isnan(np.asarray(rows)).tolist() == [False, True, False, False]


def test_under_dynamo() -> None:
    """A graph is broken at NumPy's arrays; the result is the same."""
    torch = pytest.importorskip("torch")
    z = torch.asarray(LOGITS)
    compiled = torch.compile(lambda z, y: 2 * xp_xent.cross_entropy(z, y), backend="eager")
    assert torch.equal(compiled(z, LABELS), 2 * xp_xent.cross_entropy(z, LABELS))


@pytest.mark.parametrize("form", ["numpy", "list"])
def test_perplexities(backend: Adapter, form: str) -> None:
    """Over axes, and bits per byte, with labels and masks of NumPy or lists."""
    z, y = RNG.normal(size=(2, 3, 5)), np.array([[0, 1, 2], [3, 4, -100]])
    mask, weight = np.array([[1, 0, 1], [1, 1, 1]]), np.ones((2, 3))
    convert = np.asarray if form == "numpy" else np.ndarray.tolist
    logits = backend.asarray(z)
    got = xp_xent.perplexity(
        logits, convert(y), over=-1, where=convert(mask), sample_weight=convert(weight)
    )
    want = xp_xent.perplexity(z, y, over=-1, where=mask != 0, sample_weight=weight)
    assert np.allclose(host(got), want, rtol=1e-12)
    got = xp_xent.bits_per_byte(logits, convert(y), 10.0)
    assert np.allclose(host(got), xp_xent.bits_per_byte(z, y, 10.0), rtol=1e-12)


def test_other_byte_orders(backend: Adapter) -> None:
    z = backend.asarray(LOGITS)
    given = LABELS.astype(">i4"), OPTIONS["weight"].astype(">f8")
    got = xp_xent.cross_entropy(z, given[0], weight=given[1])
    want = xp_xent.cross_entropy(z, LABELS, weight=OPTIONS["weight"])
    assert np.array_equal(host(got), host(want))


def test_one_class_that_takes_part() -> None:
    """A label on another is infinite with either smoothing; no other class is given mass."""
    part = np.zeros((3, 4), bool)
    part[:, 0] = True
    for kind in ("uniform", "others"):
        rows = xp_xent.cross_entropy(
            np.zeros((3, 4)), np.array([0, 1, 2]), class_where=part, reduction="none",
            label_smoothing=0.1, smoothing=kind,
        )  # fmt: skip
        assert rows.tolist() == [0.0, np.inf, np.inf]
    part[1] = False
    matrices = xp_xent.hessian(xp_xent.cross_entropy)(
        np.zeros((3, 4)), np.array([0, 1, 0]), class_where=part, reduction="none"
    )
    assert (matrices == 0).all()
