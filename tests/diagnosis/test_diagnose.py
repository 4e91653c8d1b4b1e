"""`diagnose`: each common mistake by its code, and silence where nothing is wrong."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _cases import send
from _tools import error_of

import xp_xent
from xp_xent import cross_entropy, diagnose
from xp_xent.backends import Adapter
from xp_xent.diagnosis import walk as _seen

RNG = np.random.default_rng(23)
LOGITS = RNG.normal(size=(20, 5)) * 2
LABELS = np.arange(20) % 5
SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)

MANY = RNG.normal(size=(400, 50))
RARELY = (np.arange(400) % 40 == 0) * 1  # one row in 40
LENGTHS = 4 + np.arange(30) % 5
PADDED = np.where(np.arange(12) < LENGTHS[:, None], 1 + np.arange(12) % 7, 0)

# Each: logits, targets, axis, and the code that must be found.
MISTAKES: dict[str, tuple[Any, Any, int, str]] = {
    "softmax before the loss": (SOFT, LABELS, -1, "probabilities"),
    "log_softmax before the loss": (np.log(SOFT), LABELS, -1, "log-probabilities"),
    "an overflow": (np.where(LOGITS > 3, np.inf, LOGITS), LABELS, -1, "non-finite"),
    "a NaN": (np.where(LOGITS > 3, np.nan, LOGITS), LABELS, -1, "non-finite"),
    "a learning rate too large": (LOGITS * 1e5, LABELS, -1, "saturated"),
    "logits beyond half precision": (LOGITS * 1e5, LABELS, -1, "overflow"),
    "a model that is sure, and wrong": (
        np.eye(5)[(LABELS + 1) % 5] * 40, LABELS, -1, "saturated-rows",
    ),
    "a head of too many classes": (MANY, np.arange(400) % 2, -1, "few-classes"),
    "a rare class": (MANY[:, :2], RARELY, -1, "imbalance"),
    "rare positives": (MANY, np.eye(50)[np.arange(400) % 50] * (RARELY[:, None]), -1, "imbalance"),
    "padding with an id": (RNG.normal(size=(30, 12, 9)), PADDED, -1, "padding"),
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
def test_mistakes(backend: Adapter, mistake: str) -> None:
    logits, targets, axis, code = MISTAKES[mistake]
    sent = send(backend, logits, "float32"), send(backend, targets, "float32")
    found = diagnose(*sent, axis=axis)
    assert code in [finding.code for finding in found]
    for finding in found:
        assert min(len(finding.message), len(finding.cost), len(finding.mend)) > 10


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
def test_nothing_wrong(backend: Adapter, dtype: str, logits: Any, targets: Any, axis: int) -> None:
    found = diagnose(send(backend, logits, dtype), send(backend, targets, dtype), axis=axis)
    assert [f.code for f in found if f.code != "nothing-counted" or len(logits)] == []


SEQUENCES = RNG.normal(size=(30, 12, 9))
BYTES = RNG.geometric(0.02, size=(30, 12)) % 9
NO_MISTAKES: dict[str, tuple[Any, Any]] = {
    "padding that is ignored": (SEQUENCES, np.where(PADDED == 0, -100, PADDED)),
    "an id that ends sequences and stands elsewhere": (SEQUENCES, PADDED % 4),
    "sequences of one length": (SEQUENCES, np.where(np.arange(12) < 9, BYTES % 8 + 1, 0)),
    "a vocabulary": (RNG.normal(size=(500, 2000)), RNG.zipf(1.3, size=500) % 2000),
    "some imbalance": (MANY[:, :3], np.arange(400) % 5 % 3),
    "rows that are sure, and right": (np.eye(5)[LABELS] * np.where(LABELS > 2, 40, 4)[:, None],
                                      LABELS),
    "maps whose border is of one class": (RNG.normal(size=(6, 8, 8, 3)),
                                          np.pad(RNG.integers(0, 3, (6, 6, 6)),
                                                 ((0, 0), (1, 1), (1, 1)))),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_MISTAKES)
def test_no_mistake(case: str) -> None:
    assert [finding.code for finding in diagnose(*NO_MISTAKES[case])] == []


def test_what_is_said_of_padding() -> None:
    (found,) = diagnose(np.zeros((30, 12, 9)) + np.arange(9), PADDED)
    share = (PADDED == 0).mean()
    assert "30 of 30 sequences end or begin with 0, up to 8 times" in found.message
    assert found.cost.startswith(f"{share:.0%} of the positions and")
    assert "ignore_index=0" in found.mend


def test_half_precision_near_its_end() -> None:
    large = LOGITS.astype(np.float16)
    large[0, LABELS[0]] = 9000
    assert [finding.code for finding in diagnose(large, LABELS)] == ["overflow"]
    assert diagnose(large.astype(np.float32), LABELS) == ()


def test_blocks_change_nothing(backend: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found in many small blocks is what is found in one, along any axis."""
    turned = np.moveaxis(SEQUENCES, -1, 1)
    for logits, targets, axis in (
        (SEQUENCES, PADDED, -1),
        (turned, PADDED, 1),
        (MANY.T, RARELY, 0),
    ):
        sent = send(backend, logits, "float32"), send(backend, targets, "float32")
        whole = diagnose(*sent, axis=axis)
        assert whole
        for size in (1, 60, 400):
            monkeypatch.setattr(_seen, "BLOCK", size)
            assert diagnose(*sent, axis=axis) == whole
        monkeypatch.undo()


def test_a_file_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is taken for a block of rows, not for the logits."""
    logits = np.lib.format.open_memmap(tmp_path / "z.npy", "w+", np.float32, (60_000, 100))
    logits[:] = RNG.normal(size=100)
    monkeypatch.setattr(_seen, "BLOCK", 1 << 16)
    tracemalloc.start()
    diagnose(logits, np.arange(60_000) % 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes / 4


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
