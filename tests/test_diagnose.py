"""`diagnose`: each common mistake by its code, and silence where nothing is wrong."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from _cases import send
from _tools import error_of

import xp_xent
from xp_xent import cross_entropy, diagnose
from xp_xent.backends import Backend

RNG = np.random.default_rng(23)
LOGITS = RNG.normal(size=(20, 5)) * 2
LABELS = np.arange(20) % 5
SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)

# Each: logits, targets, axis, and the code that must be found.
MISTAKES: dict[str, tuple[Any, Any, int, str]] = {
    "softmax before the loss": (SOFT, LABELS, -1, "probabilities"),
    "log_softmax before the loss": (np.log(SOFT), LABELS, -1, "log-probabilities"),
    "an overflow": (np.where(LOGITS > 3, np.inf, LOGITS), LABELS, -1, "non-finite"),
    "a NaN": (np.where(LOGITS > 3, np.nan, LOGITS), LABELS, -1, "non-finite"),
    "a learning rate too large": (LOGITS * 1e5, LABELS, -1, "saturated"),
    "a model that says nothing": (np.zeros((20, 5)), LABELS, -1, "constant"),
    "channels last": (
        RNG.normal(size=(2, 5, 5, 3)), np.arange(30).reshape(2, 5, 3) % 3, 1, "class-axis",
    ),
    "labels from one": (LOGITS, LABELS + 1, -1, "labels-from-one"),
    "too many classes": (LOGITS, LABELS * 3, -1, "labels-out-of-range"),
    "one label": (LOGITS, np.full(20, 2), -1, "one-label"),
    "everything ignored": (LOGITS, np.full(20, -100), -1, "nothing-counted"),
    "a mask on the label": (
        np.where(np.arange(5) == 1, -np.inf, LOGITS), LABELS, -1, "masked-label",
    ),
    "one-hot integers": (LOGITS, np.eye(5, dtype=int)[LABELS], -1, "one-hot-integers"),
    "one-hot that does not sum to one": (
        LOGITS, np.eye(5)[LABELS] + np.eye(5)[(LABELS + 1) % 5], -1, "unnormalized-targets",
    ),
    "a mask of 0 and 255": (LOGITS, np.eye(5)[LABELS] * 255, -1, "targets-out-of-range"),
    "negative probabilities": (LOGITS, np.eye(5)[LABELS] * 3 - 0.4, -1, "negative-targets"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(backend: Backend, mistake: str) -> None:
    logits, targets, axis, code = MISTAKES[mistake]
    sent = send(backend, logits, "float32"), send(backend, targets, "float32")
    found = diagnose(*sent, axis=axis)
    assert code in [finding.code for finding in found]
    assert all(len(finding.message) > 20 for finding in found)


@pytest.mark.parametrize(
    ("logits", "targets", "axis"),
    [
        (LOGITS, LABELS, -1),
        (LOGITS, SOFT, -1),
        (LOGITS.T, LABELS, 0),
        (LOGITS, np.where(LABELS == 2, -100, LABELS), -1),
        (np.where((np.arange(5) == 1) & (LABELS != 1)[:, None], -np.inf, LOGITS), LABELS, -1),
        (LOGITS[:0], LABELS[:0], -1),
    ],
    ids=["labels", "probabilities", "axis 0", "some ignored", "some masked", "no rows"],
)
def test_nothing_wrong(backend: Backend, dtype: str, logits: Any, targets: Any, axis: int) -> None:
    found = diagnose(send(backend, logits, dtype), send(backend, targets, dtype), axis=axis)
    assert [f.code for f in found if f.code != "nothing-counted" or len(logits)] == []


def test_every_code_is_documented_and_found() -> None:
    """The docstring's list is the list of what the tests provoke."""
    text = (diagnose.__doc__ or "").partition("Codes:")[2].partition("Raises")[0]
    assert set(re.findall(r"``([a-z-]+)``", text)) == {code for *_, code in MISTAKES.values()}


def test_findings_are_values() -> None:
    """They can be compared, put in sets and printed."""
    one, two = (diagnose(SOFT, LABELS) for _ in range(2))
    assert one == two
    assert len({*one, *two}) == len(one)
    assert "probabilities" in repr(one[0])


def test_legal_input_all_the_same() -> None:
    """A finding is a suspicion: the loss of probabilities passed as logits is computed."""
    assert np.isfinite(cross_entropy(SOFT, LABELS))


def test_wrong_arguments() -> None:
    assert "logits" in str(error_of(diagnose, LOGITS.tolist(), LABELS))
    assert "axis" in str(error_of(diagnose, LOGITS, LABELS, axis=2))
    assert xp_xent.Finding("code", "message").code == "code"


def test_a_row_of_nothing() -> None:
    """Its loss is NaN, whatever its label; no label of it is masked."""
    logits = np.array([[0.0, 1.0, 2.0], [-np.inf] * 3])
    assert [finding.code for finding in diagnose(logits, np.array([0, 1]))] == ["non-finite"]
