"""`xp-xent loss`: its numbers are those of the functions, however the rows are walked."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xp_xent

pytest.importorskip("typer", reason="the command's packages are not installed")

from _commands import LABELS, LOGITS, RNG, SOFT, dump, invoke, loss_of

from xp_xent.flow import row_blocks as _walk
from xp_xent.verify import _measures


def test_plain_loss(tmp_path: Path) -> None:
    found = loss_of(dump(tmp_path))
    rows = xp_xent.cross_entropy(LOGITS, LABELS, reduction="none")
    assert found["loss"] == pytest.approx(float(rows.mean()), rel=1e-6)
    assert found["perplexity"] == pytest.approx(float(np.exp(rows.mean())), rel=1e-6)
    assert found["bits_per_byte"] is None
    assert found["rows"] == 60
    assert found["accuracy"] == pytest.approx((LOGITS.argmax(1) == LABELS).mean())
    shares = [one["share"] for one in found["classes"]]
    assert shares == sorted(shares, reverse=True)
    for one in found["classes"]:
        own = np.equal(LABELS, one["class"])
        assert one["rows"] == own.sum()
        assert one["loss"] == pytest.approx(rows[own].mean(), rel=1e-6)
        assert one["share"] == pytest.approx(rows[own].sum() / rows.sum(), rel=1e-6)
        assert one["accuracy"] == pytest.approx((LOGITS.argmax(1) == LABELS)[own].mean())
    assert sum(one["rows"] for one in found["histogram"]) == 60
    for one in found["histogram"]:
        assert one["rows"] == ((rows >= one["from"]) & (rows < float(one["to"]))).sum()


def test_calibration_error(tmp_path: Path) -> None:
    found = loss_of(dump(tmp_path))
    confidence, hit = SOFT.max(axis=1), LOGITS.argmax(1) == LABELS
    bins = (confidence * 15).astype(int)
    error = sum(abs(confidence[bins == b].sum() - hit[bins == b].sum()) for b in range(15)) / 60
    assert found["calibration_error"] == pytest.approx(error, rel=1e-5)
    (one,) = [one for one in found["reliability"] if one["from"] <= 0.95 < one["to"]]
    own = (confidence >= one["from"]) & (confidence < one["to"])
    assert one["rows"] == own.sum()
    assert one["accuracy"] == pytest.approx(hit[own].mean())


MASK = (RNG.random((60, 4)) < 0.7) | (np.arange(4) == LABELS[:, None])
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "smoothing": ({}, {"label_smoothing": 0.1, "smoothing": "others"}),
    "class weights": ({"weight": np.asarray([1.0, 2.0, 0.5, 3.0])}, {}),
    "weights and smoothing": (
        {"weight": np.asarray([1.0, 2.0, 0.5, 3.0], dtype=np.float32),
         "sample_weight": RNG.random(60)},
        {"label_smoothing": 0.2},
    ),
    "sample weights": ({"sample_weight": RNG.random(60)}, {"z_loss": 1e-3}),
    "a mask": ({"where": np.arange(60) % 3 > 0}, {"softcap": 5.0}),
    "a mask of classes": ({"class_where": MASK}, {"softcap": 5.0}),
    "a mask of classes, and smoothing": (
        {"class_where": MASK, "weight": np.asarray([1.0, 2.0, 0.5, 3.0])},
        {"label_smoothing": 0.1, "smoothing": "others", "temperature": 2.0},
    ),
    "a temperature": ({}, {"softcap": 5.0, "temperature": 0.5}),
    "ignored labels": ({"targets": np.where(LABELS == 2, -100, LABELS)}, {}),
    "another label ignored": ({}, {"ignore_index": 1}),
    "a normalizer": ({}, {"normalizer": 7}),
    "probabilities": ({"targets": SOFT, "weight": np.asarray([1.0, 2.0, 0.5, 3.0])},
                      {"label_smoothing": 0.1}),
    "another axis": ({"logits": LOGITS.reshape(5, 12, 4).transpose(0, 2, 1),
                      "targets": LABELS.reshape(5, 12)}, {"axis": 1}),
    "probabilities along another axis": ({"logits": LOGITS.T, "targets": SOFT.T}, {"axis": 0}),
    "float16": ({"logits": LOGITS.astype(np.float16)}, {}),
    "the other byte order": ({"logits": LOGITS.astype(">f8"), "targets": LABELS.astype(">i4")}, {}),
    "one row": ({"logits": LOGITS[0], "targets": LABELS[0]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_and_arrays(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk gives what one call of the loss gives, in blocks of any size."""
    saved, options = OPTIONS[name]
    arrays = {"logits": LOGITS, "targets": LABELS} | saved
    beside = {key: x for key, x in saved.items() if key not in ("logits", "targets")}
    want = xp_xent.cross_entropy(arrays["logits"], arrays["targets"], **beside, **options)
    chosen = [x for key, value in options.items() for x in ("--option", f"{key}={value}")]
    for block in (_walk.BLOCK, 1, 30):
        monkeypatch.setattr(_measures, "BLOCK", block)
        found = loss_of(dump(tmp_path, **saved), *chosen)
        assert found["loss"] == pytest.approx(float(want), rel=1e-6)
    model = {key: x for key, x in options.items() if key in ("softcap", "axis", "ignore_index")}
    shares = {key: x for key, x in beside.items() if key not in ("weight", "class_where")}
    cap = model.pop("softcap", None)
    logits = arrays["logits"] if cap is None else cap * np.tanh(arrays["logits"] / cap)
    logits = logits / options.get("temperature", 1)
    logits = np.where(beside.get("class_where", True), logits, -np.inf)
    plain = xp_xent.perplexity(logits, arrays["targets"], **model, **shares)
    assert found["perplexity"] == pytest.approx(float(plain), rel=1e-5)


def test_classes_that_take_no_part_are_not_the_largest(tmp_path: Path) -> None:
    logits = np.where(MASK, LOGITS, np.nan)
    found = loss_of(dump(tmp_path, logits=logits, class_where=MASK))
    assert found["accuracy"] == pytest.approx((np.nanargmax(logits, 1) == LABELS).mean())
    p = xp_xent.softmax(np.where(MASK, LOGITS, -np.inf))
    bins = (p.max(axis=1) * 15).astype(int).clip(0, 14)
    hit = p.argmax(1) == LABELS
    error = sum(abs(p.max(1)[bins == b].sum() - hit[bins == b].sum()) for b in range(15)) / 60
    assert found["calibration_error"] == pytest.approx(error, rel=1e-5)
    for mask, said in ((MASK * 1, "got dtype int64"), (MASK[:7], "got shape (7, 4)")):
        done = invoke("loss", dump(tmp_path, class_where=mask))
        assert done.exit_code == 2
        assert f"'class_where': {said}" in " ".join(done.output.split())


def test_bits_per_byte(tmp_path: Path) -> None:
    lengths, counted = RNG.integers(1, 9, 60), np.arange(60) < 50
    rows = xp_xent.cross_entropy(LOGITS, LABELS, reduction="none")
    of_each = loss_of(dump(tmp_path, bytes=lengths, where=counted))["bits_per_byte"]
    assert of_each == pytest.approx(rows[:50].sum() / np.log(2) / lengths[:50].sum(), rel=1e-6)
    total = loss_of(dump(tmp_path, bytes=np.asarray(300)))["bits_per_byte"]
    assert total == pytest.approx(rows.sum() / np.log(2) / 300, rel=1e-6)
    assert loss_of(dump(tmp_path), "--bytes", "300")["bits_per_byte"] == total


def test_a_row_that_is_nan(tmp_path: Path) -> None:
    broken = LOGITS.copy()
    broken[17, 2] = np.nan
    found = loss_of(dump(tmp_path, logits=broken), status=1)
    assert found["loss"] == found["perplexity"] == "NaN"
    assert found["not_finite"] == {"rows": 1, "first": [17]}
    assert 0 < found["accuracy"] < 1
    masked = np.where(np.arange(4) == 0, -np.inf, LOGITS)
    assert loss_of(dump(tmp_path, logits=masked), status=1)["loss"] == "Infinity"
    done = invoke("loss", dump(tmp_path, logits=broken))
    assert "1 rows, the first at (17,)" in done.output


@pytest.mark.parametrize("kind", [".png", ".svg", ".pdf"])
def test_plot(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"loss{kind}"
    assert invoke("loss", dump(tmp_path), "--plot", picture).exit_code == 0
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[kind]
    assert picture.read_bytes().startswith(begins)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.npz", f"loss{kind}"]


def test_a_file_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of `loss` is that of blocks and of numbers a row."""
    logits = np.lib.format.open_memmap(tmp_path / "logits.npy", "w+", np.float32, (20_000, 500))
    logits[:] = RNG.normal(size=500)
    size = logits.nbytes
    del logits
    np.save(tmp_path / "targets.npy", np.arange(20_000, dtype=np.int32) % 500)
    monkeypatch.setattr(_measures, "BLOCK", 1 << 16)
    pair = [tmp_path / "logits.npy", tmp_path / "targets.npy"]
    invoke("loss", *pair)  # what is imported takes memory of its own
    tracemalloc.start()
    done = invoke("loss", *pair)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.exit_code == 0, done.output
    assert peak < size / 4
