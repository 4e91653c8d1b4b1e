"""Errors name the argument, what it got, what was wanted, and the likely mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _tools import error_of

import xp_xent
from xp_xent import backends, cross_entropy, kl_divergence
from xp_xent import binary_cross_entropy_with_logits as bce
from xp_xent.backends import Adapter

LOGITS = np.zeros((4, 3, 5), dtype=np.float32)
LABELS = np.zeros((4, 3), dtype=np.int64)
HOT = np.zeros((4, 3, 5), dtype=np.float32)

# Each: the options or replaced arrays, the kind of error, and what its message must say.
CALLS: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "integer logits": (
        {"logits": LOGITS.astype(np.int64)},
        TypeError,
        ["logits", "int64", "float"],
    ),
    "complex logits": (
        {"logits": LOGITS.astype(np.complex64)},
        TypeError,
        ["logits", "complex64", "float"],
    ),
    "boolean logits": ({"logits": LOGITS.astype(bool)}, TypeError, ["logits", "bool", "float"]),
    "boolean labels": ({"targets": LABELS.astype(bool)}, TypeError, ["targets", "bool", "integer"]),
    "complex targets": ({"targets": HOT.astype(np.complex64)}, TypeError, ["targets", "complex64"]),
    "floating labels": (
        {"targets": LABELS.astype(np.float32)},
        TypeError,
        ["targets", "float32", "(4, 3)", "integer"],
    ),
    "one-hot integers": (
        {"targets": HOT.astype(np.int64)},
        ValueError,
        ["targets", "(4, 3, 5)", "(4, 3)", "one-hot", "floating"],
    ),
    "class axis in the wrong place": (
        {"targets": np.zeros((4, 5), np.int64)},
        ValueError,
        ["targets", "(4, 5)", "(4, 3)", "targets fit axis=1"],
    ),
    "kept axis": (
        {"targets": LABELS[..., None]},
        ValueError,
        ["targets", "(4, 3, 1)", "(4, 3)", "squeeze"],
    ),
    "too few labels": ({"targets": LABELS[:2]}, ValueError, ["targets", "(2, 3)", "(4, 3)"]),
    "no broadcasting": ({"targets": LABELS[:1]}, ValueError, ["targets", "(1, 3)", "(4, 3)"]),
    "probabilities of a wrong shape": (
        {"targets": HOT[:1]},
        ValueError,
        ["targets", "(1, 3, 5)", "(4, 3, 5)"],
    ),
    "axis too large": ({"axis": 3}, ValueError, ["axis", "3", "(4, 3, 5)"]),
    "axis too small": ({"axis": -4}, ValueError, ["axis", "4", "(4, 3, 5)"]),
    "axis as a tuple": ({"axis": (1,)}, TypeError, ["axis", "(1,)", "integer"]),
    "axis as a float": ({"axis": 1.0}, TypeError, ["axis", "1.0", "integer"]),
    "no class axis": (
        {"logits": np.zeros((), np.float32), "targets": np.zeros((), np.int64)},
        ValueError,
        ["axis", "class axis"],
    ),
    "weight of another length": ({"weight": np.ones(4)}, ValueError, ["weight", "(4,)", "(5,)"]),
    "weight a row": ({"weight": np.ones((4, 3))}, ValueError, ["weight", "(4, 3)", "(5,)"]),
    "complex weight": ({"weight": np.ones(5, "complex64")}, TypeError, ["weight", "complex64"]),
    "sample weight a class": (
        {"sample_weight": np.ones(5)},
        ValueError,
        ["sample_weight", "(5,)", "(4, 3)"],
    ),
    "sample weight that would broadcast": (
        {"sample_weight": np.ones((4, 1))},
        ValueError,
        ["sample_weight", "(4, 1)", "(4, 3)"],
    ),
    "mask as sample weight": (
        {"sample_weight": np.ones((4, 3), bool)},
        TypeError,
        ["sample_weight", "bool", "where"],
    ),
    "floating where": (
        {"where": np.ones((4, 3), np.float32)},
        TypeError,
        ["where", "float32", "bool", "sample_weight"],
    ),
    "where of the logits' shape": (
        {"where": np.ones((4, 3, 5), bool)},
        ValueError,
        ["where", "(4, 3, 5)", "(4, 3)"],
    ),
    "ignore_index as a float": (
        {"ignore_index": 0.5},
        TypeError,
        ["ignore_index", "0.5", "integer"],
    ),
    "ignore_index as a boolean": ({"ignore_index": True}, TypeError, ["ignore_index", "True"]),
    "smoothing above one": ({"label_smoothing": 1.5}, ValueError, ["label_smoothing", "1.5", "1"]),
    "smoothing below zero": ({"label_smoothing": -0.1}, ValueError, ["label_smoothing", "-0.1"]),
    "smoothing not a number": ({"label_smoothing": np.nan}, ValueError, ["label_smoothing", "nan"]),
    "smoothing as text": ({"label_smoothing": "0.1"}, TypeError, ["label_smoothing", "str"]),
    "kind of smoothing": (
        {"smoothing": "label", "label_smoothing": 0.1},
        ValueError,
        ["smoothing", "'label'", "'uniform'", "'others'"],
    ),
    "negative z_loss": ({"z_loss": -1.0}, ValueError, ["z_loss", "-1.0"]),
    "softcap of zero": ({"softcap": 0.0}, ValueError, ["softcap", "0", "None"]),
    "negative softcap": ({"softcap": -30.0}, ValueError, ["softcap", "-30"]),
    "reduction": ({"reduction": "batchmean"}, ValueError, ["reduction", "'batchmean'", "'mean'"]),
    "reduction None": ({"reduction": None}, ValueError, ["reduction", "None", "'none'"]),
    "normalizer of a sum": (
        {"reduction": "sum", "normalizer": 3},
        ValueError,
        ["normalizer", "'sum'", "mean"],
    ),
    "normalizer of rows": (
        {"normalizer": np.ones(3, np.float32)},
        ValueError,
        ["normalizer", "(3,)"],
    ),
    "normalizer of zero": ({"normalizer": 0}, ValueError, ["normalizer", "0", "divide"]),
    "normalizer not a number": ({"normalizer": np.nan}, ValueError, ["normalizer", "nan"]),
    "normalizer as a boolean": ({"normalizer": True}, TypeError, ["normalizer", "bool"]),
    "normalizer as a list": ({"normalizer": [2.0]}, TypeError, ["normalizer", "list"]),
}


@pytest.mark.parametrize("name", CALLS)
def test_cross_entropy(backend: Adapter, name: str) -> None:
    changed, kind, parts = CALLS[name]
    arguments = {"logits": LOGITS, "targets": LABELS} | changed
    sent = {k: backend.asarray(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    error = error_of(cross_entropy, sent.pop("logits"), sent.pop("targets"), **sent)
    assert isinstance(error, kind)
    missing = [part for part in parts if part not in str(error)]
    assert not missing, f"{error} does not say {missing}"


BINARY: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "targets of another shape": (
        {"targets": np.zeros((4, 1))},
        ValueError,
        ["targets", "(4, 1)", "(4, 3)"],
    ),
    "targets without the last axis": (
        {"targets": np.zeros(4)},
        ValueError,
        ["targets", "(4,)", "(4, 3)"],
    ),
    "complex targets": (
        {"targets": np.zeros((4, 3), "complex64")},
        TypeError,
        ["targets", "complex"],
    ),
    "integer logits": ({"logits": np.zeros((4, 3), int)}, TypeError, ["logits", "int64"]),
    "weight that widens": (
        {"weight": np.ones((2, 4, 3))},
        ValueError,
        ["weight", "(2, 4, 3)", "(4, 3)"],
    ),
    "pos_weight": ({"pos_weight": np.ones(4)}, ValueError, ["pos_weight", "(4,)", "(4, 3)"]),
    "where that would broadcast": (
        {"where": np.ones(3, bool)},
        ValueError,
        ["where", "(3,)", "(4, 3)"],
    ),
    "floating where": ({"where": np.ones((4, 3))}, TypeError, ["where", "float64", "bool"]),
    "smoothing": ({"label_smoothing": 2.0}, ValueError, ["label_smoothing", "2.0"]),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary(backend: Adapter, name: str) -> None:
    changed, kind, parts = BINARY[name]
    arguments = {"logits": np.zeros((4, 3)), "targets": np.zeros((4, 3))} | changed
    sent = {k: backend.asarray(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    error = error_of(bce, sent.pop("logits"), sent.pop("targets"), **sent)
    assert isinstance(error, kind)
    missing = [part for part in parts if part not in str(error)]
    assert not missing, f"{error} does not say {missing}"


def test_other_losses() -> None:
    """What is particular to one loss."""
    z, y = np.zeros((4, 3)), np.zeros(4, int)
    x, c = np.zeros((4, 2)), np.zeros((3, 2))
    linear, tokens = xp_xent.linear_cross_entropy, xp_xent.next_token_cross_entropy
    for error, parts in (
        (
            error_of(xp_xent.softmax_focal_loss, z, np.zeros((4, 3)), ignore_index=0),
            ["ignore_index", "targets", "probabilities"],
        ),
        (error_of(xp_xent.softmax_focal_loss, z, y, gamma=-1.0), ["gamma", "-1.0"]),
        (error_of(xp_xent.softmax_focal_loss, z, y, alpha=np.ones(4)), ["alpha", "(4,)", "(3,)"]),
        (error_of(xp_xent.sigmoid_focal_loss, z, z, alpha=1.5), ["alpha", "1.5"]),
        (error_of(xp_xent.sigmoid_focal_loss, z, z, alpha=np.full(3, 2.0)), ["alpha", "[0, 1]"]),
        (error_of(xp_xent.poly_cross_entropy, z, np.zeros(4)), ["targets", "floating"]),
        (error_of(kl_divergence, z, y), ["targets", "int64"]),
        (error_of(kl_divergence, z, np.zeros((4, 2))), ["targets", "(4, 2)", "(4, 3)"]),
        (
            error_of(kl_divergence, z, z, normalized=True, temperature=2.0),
            ["temperature", "2.0", "normalized=True"],
        ),
        (error_of(kl_divergence, z, z, log_targets=1), ["log_targets", "True or False"]),
        (error_of(xp_xent.jensen_shannon_divergence, z, y), ["target_logits", "int64"]),
        (error_of(xp_xent.jensen_shannon_divergence, z, z, beta=1.5), ["beta", "1.5", "[0, 1]"]),
        (error_of(linear, x, c.T, y), ["classifier", "(2, 3)", "transposed"]),
        (error_of(linear, x, c, y, bias=np.zeros(2)), ["bias", "(2,)", "(3,)"]),
        (error_of(linear, x, c.astype(np.float32), y), ["classifier", "float32", "float64"]),
        (error_of(tokens, z, np.zeros(3, int)), ["tokens", "(3,)", "(4,)"]),
        (error_of(tokens, z, np.zeros(4)), ["tokens", "float64", "integer"]),
        (error_of(tokens, np.zeros(4), y), ["logits", "(4,)"]),
    ):
        missing = [part for part in parts if part not in str(error)]
        assert not missing, f"{error} does not say {missing}"


def test_derivatives(backend: Adapter) -> None:
    z, y = backend.asarray(LOGITS), backend.asarray(LABELS)
    gradient, product = xp_xent.value_and_grad(cross_entropy), xp_xent.hvp(cross_entropy)
    assert "cotangent: got builtins.list" in str(error_of(gradient, z, y, cotangent=[1.0]))
    assert "cotangent" in str(error_of(gradient, z, y, cotangent=z))
    assert "vector" in str(error_of(product, z, y, y))
    assert "argnums: got True" in str(error_of(xp_xent.value_and_grad, cross_entropy, argnums=True))


def test_numpy_integers_are_integers(backend: Adapter) -> None:
    z, y = backend.asarray(LOGITS), backend.asarray(LABELS)
    loss = cross_entropy(z, y, axis=np.int64(-1), ignore_index=np.int32(-100))
    assert backend.to_numpy(loss) == backend.to_numpy(cross_entropy(z, y))


@pytest.mark.parametrize("wrong", [[[1.0, 2.0]], 3.0, None, "logits"], ids=type)
def test_no_array(wrong: Any) -> None:
    message = str(error_of(cross_entropy, wrong, np.zeros(1, int)))
    assert "logits" in message
    assert type(wrong).__name__ in message or "None" in message


def test_mixed_libraries(backend: Adapter) -> None:
    if backend.name == "numpy":
        other = next((n for n in backends.installed() if n != "numpy"), None)
        if other is None:
            pytest.skip("there is one library only")
        backend = backends.get(other)
    z = backend.asarray(np.zeros((2, 3)), dtype="float32")
    soft = np.zeros((2, 3), np.float32)
    for error in (
        error_of(cross_entropy, z, soft),  # what may be differentiated is never converted
        error_of(xp_xent.kl_divergence, z, soft),
        error_of(xp_xent.value_and_grad(cross_entropy), z, np.zeros(2, int), cotangent=soft[0, 0:]),
    ):
        assert isinstance(error, TypeError)
        assert {"numpy", backend.name} <= set(
            str(error).replace(",", " ").replace(";", " ").split()
        )


def test_numpy_subclasses_that_would_lose_something() -> None:
    masked = np.ma.masked_array(np.zeros((2, 3)), mask=True)
    assert "where" in str(error_of(cross_entropy, masked, np.zeros(2, int)))
