"""`xp-xent verify`: files in, a table, JSON and a picture out, and what it refuses."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command's packages are not installed")

from _commands import invoke, schema_of, valid

import xp_xent
from xp_xent.verify._rules import RULES

RNG = np.random.default_rng(37)
LOGITS = (RNG.normal(size=(40, 6)) * 3).astype(np.float32)
LABELS = RNG.integers(0, 6, 40)
LABELS[::4] = -100
BOTH = xp_xent.value_and_grad(xp_xent.cross_entropy)


def dump(folder: Path, name: str = "batch", **arrays: Any) -> Path:
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def verify(*arguments: Any, status: int, backend: str = "numpy") -> str:
    done = invoke("verify", *arguments, "--backend", backend)
    assert done.exit_code == status, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    return str(done.output)


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return dump(tmp_path, logits=LOGITS, targets=LABELS)


def test_what_agrees(tmp_path: Path, batch: Path) -> None:
    loss, gradient = BOTH(LOGITS, LABELS)
    own = dump(tmp_path, "own", loss=loss, gradient=gradient)
    report = tmp_path / "x.json"
    output = verify(batch, "--as", f"jax={own}", "--json", report, status=0)
    assert "loss.jax" in output
    said = valid(report, "verify")
    assert said["agrees"]
    assert [(c["name"], c["kind"], c["agrees"]) for c in said["claims"]] == [
        ("jax", "loss", True), ("jax", "gradient", True),
    ]  # fmt: skip
    assert said["backends"][0]["gradient_ulp"] < 50


def test_two_sides_one_of_which_is_off(tmp_path: Path, batch: Path) -> None:
    loss, gradient = BOTH(LOGITS, LABELS)
    good = dump(tmp_path, "good", loss=loss, gradient=gradient)
    wrong = dump(
        tmp_path, "wrong", loss=loss * np.float32(0.75), gradient=gradient * np.float32(0.75)
    )
    report = tmp_path / "x.json"
    output = verify(
        batch, "--as", f"jax={good}", "--as", f"torch={wrong}", "--json", report, status=1
    )
    assert "loss.torch and gradient.torch: it divided by all positions" in output
    said = {c["name"]: c for c in valid(report, "verify")["claims"]}
    assert said["jax"]["explanations"] == []
    assert said["torch"]["explanations"] == [
        {"rules": [{"rule": "mean-over-all-positions", "options": {}}], "inputs": []}
    ]


def test_own_logits_of_a_side(tmp_path: Path, batch: Path) -> None:
    half = LOGITS.astype(np.float16)
    own = dump(tmp_path, "half", logits=half, loss=BOTH(half, LABELS)[0])
    report = tmp_path / "x.json"
    output = verify(batch, "--as", f"torch={own}", "--json", report, status=1)
    assert "as float16 would" in output
    (found,) = valid(report, "verify")["inputs"]
    assert found["as"] == "float16"


def test_masks_of_classes(tmp_path: Path) -> None:
    mask = (RNG.random((40, 6)) < 0.7) | (np.arange(6) == LABELS[:, None])
    loss, gradient = BOTH(LOGITS, LABELS, class_where=mask)
    arrays = {"logits": LOGITS, "targets": LABELS, "class_where": mask}
    verify(dump(tmp_path, **arrays, loss=loss, gradient=gradient), status=0)
    report = tmp_path / "x.json"
    own = {"class_where.b": mask | True, "loss.b": BOTH(LOGITS, LABELS)[0]}
    output = verify(dump(tmp_path, **arrays, **own), "--json", report, status=1)
    assert "class_where.b differs in" in output
    assert [one["array"] for one in valid(report, "verify")["inputs"]] == ["class_where"]
    wrong = dump(tmp_path, **arrays | {"class_where": mask[:7]})
    done = invoke("verify", wrong, "--backend", "numpy")
    assert done.exit_code == 2
    assert "'class_where': got shape (7, 6)" in " ".join(done.output.split())


def test_two_sides_without_common_inputs(tmp_path: Path) -> None:
    loss = BOTH(LOGITS, LABELS)[0]
    both = {"logits.a": LOGITS, "targets.a": LABELS, "loss.a": loss, "loss.b": loss}
    verify(dump(tmp_path, **both, **{"logits.b": LOGITS}), status=0)


def test_names_and_options(tmp_path: Path) -> None:
    z, y, w = LOGITS.T.copy(), np.where(LABELS == -100, 255, LABELS), np.linspace(1, 2, 6)
    loss, gradient = BOTH(z, y, axis=0, ignore_index=255, weight=w, reduction="sum")
    file = dump(tmp_path, z=z, y=y, weight=w, l=loss, g=gradient)
    names = ("--logits", "z", "--targets", "y", "--loss", "l", "--gradient", "g")
    options = ("--option", "axis=0", "--option", "ignore_index=255", "--option", "reduction=sum")
    verify(file, *names, *options, status=0)


def test_a_number_from_a_log(tmp_path: Path, batch: Path) -> None:
    loss = float(BOTH(LOGITS, LABELS)[0])
    verify(batch, "--loss-value", f"{loss:.5f}", status=0)
    output = verify(batch, "--loss-value", f"{loss * 30:.5f}", status=1)
    assert "it took the sum" in output


def test_claims_of_rows_that_are_nan(tmp_path: Path, batch: Path) -> None:
    loss = np.asarray(xp_xent.cross_entropy(LOGITS, LABELS, reduction="none"))
    loss[5] = np.nan
    report = tmp_path / "x.json"
    verify(
        dump(tmp_path, "own", logits=LOGITS, targets=LABELS, loss=loss), "--json", report, status=1
    )
    (claim,) = valid(report, "verify")["claims"]
    assert claim["ulp"] is None
    assert claim["rows"][0]["row"] == [5]
    assert claim["rows"][0]["got"] == "NaN"


def test_rules_are_in_the_schema_and_in_the_docs() -> None:
    claims = schema_of("verify")["properties"]["claims"]["items"]["properties"]
    explanation = claims["explanations"]["items"]["properties"]["rules"]["items"]
    assert explanation["properties"]["rule"]["enum"] == list(RULES)
    text = (Path(__file__).parents[2] / "docs" / "verify.md").read_text("utf-8")
    assert all(f"`{rule}`" in text for rule in RULES)


def test_python_and_the_command_say_the_same(tmp_path: Path, batch: Path) -> None:
    from xp_xent.verify import compare

    report = tmp_path / "x.json"
    verify(batch, "--loss-value", "1.25", "--json", report, status=1)
    result = compare(LOGITS, LABELS, loss="1.25").to_json()
    assert json.loads(report.read_text("utf-8")) == json.loads(json.dumps(result))


def test_picture(tmp_path: Path) -> None:
    """Of many rows one entry that is off is a cell that shows."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    logits = RNG.normal(size=(20_000, 3)).astype(np.float32)
    labels = RNG.integers(0, 3, 20_000)
    gradient = np.asarray(BOTH(logits, labels)[1]).copy()
    gradient[15_555, 1] *= 1.5
    file, picture = (
        dump(tmp_path, logits=logits, targets=labels, gradient=gradient),
        tmp_path / "x.png",
    )
    verify(file, "--plot", picture, status=1)
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)[..., :3]
    dark = pixels.max(axis=-1) < 0.35  # what is far off; the axis and its labels are black, too
    height = dark.shape[0]
    rows = np.flatnonzero((dark & (np.ptp(pixels, axis=-1) > 0.1)).any(axis=1)) / height
    assert np.any(np.abs(rows - 0.75) < 0.05)
    wrong = invoke("verify", file, "--plot", tmp_path / "x.tiff2", "--backend", "numpy")
    assert wrong.exit_code == 2
    assert not (tmp_path / "x.tiff2").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--loss-function", "hinge"), "--loss-function hinge: wanted one of"),
        (("--option", "alpha=1"), "'alpha' is none of"),
        (("--option", "weight=1"), "'weight' is none of"),
        (("--option", "ignore_index=3.5"), "ignore_index"),
        (("--as", "torch"), "--as torch: wanted NAME=FILE"),
        (("--logits", "z"), "an array called 'z'"),
        (("--loss-value", "much"), "wanted a number"),
        (("--plot", "/no/such/folder/x.png"), "cannot be written"),
        (("--plot", "{folder}/x.png"), "no gradient to draw"),
        (("--option", "axis=5"), "axis"),
        (("--option", "ignore_index=0"), "got label -100"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, tuple) else "",
)
def test_refusals(arguments: tuple[str, ...], said: str, tmp_path: Path, batch: Path) -> None:
    given = [x.format(folder=tmp_path) for x in arguments]
    done = invoke("verify", batch, *given, "--backend", "numpy")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"targets": LABELS}, "wanted an array called 'logits'"),
        ({"logits": LOGITS}, "wanted an array called 'targets'"),
        ({"logits": LOGITS, "targets": LABELS[:7]}, "'targets': got integer shape (7,)"),
        ({"logits": LOGITS, "targets": LABELS + 7}, "'targets': "),
        ({"logits": LOGITS.astype(int), "targets": LABELS}, "'logits': got int64"),
        ({"logits": LOGITS, "targets": LABELS, "gradient": LOGITS.T}, "'gradient': got float32"),
        ({"logits": LOGITS, "targets": LABELS, "loss": LOGITS}, "'loss': got shape (40, 6)"),
        ({"logits": LOGITS, "targets": LABELS, "loss.a": LABELS}, "'loss.a': got int64"),
    ],
    ids=range(8),
)
def test_arrays_that_do_not_fit(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = dump(tmp_path, **arrays)
    done = invoke("verify", file, "--backend", "numpy")
    assert done.exit_code == 2, done.output
    text = " ".join(done.output.split())
    assert said in text
    assert file.name in text


def test_memory_of_a_large_file(tmp_path: Path) -> None:
    """A file is walked: beside it a quarter of its size is enough."""
    rows, K = 40_000, 500
    logits = np.lib.format.open_memmap(
        tmp_path / "logits.npy", mode="w+", dtype=np.float32, shape=(rows, K)
    )
    for start in range(0, rows, 4000):
        logits[start : start + 4000] = RNG.standard_normal((4000, K), dtype=np.float32) * 2
    labels = RNG.integers(0, K, rows)
    np.save(tmp_path / "targets.npy", labels)
    loss = np.asarray(xp_xent.cross_entropy(logits, labels, reduction="sum"))
    np.save(tmp_path / "loss.npy", loss)
    size = logits.nbytes
    del logits
    files = [tmp_path / f"{name}.npy" for name in ("logits", "targets", "loss")]
    invoke("verify", "--help")  # what the command imports is not the walk's
    tracemalloc.start()
    output = verify(*files, status=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "it took the sum" in output
    assert peak < size / 4
