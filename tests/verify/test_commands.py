"""`xp-xent backends` and `diagnose`, and what every command does: help, tables, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xp_xent

pytest.importorskip("typer", reason="the command's packages are not installed")

import _commands_page as page
import typer
from _commands import LABELS, LOGITS, RNG, SOFT, dump, invoke, schema_of, valid

from xp_xent import __main__, backends
from xp_xent.backends import Adapter
from xp_xent.verify import _environment as environment
from xp_xent.verify import _shell

COMMANDS = ("backends", "verify", "diagnose", "loss", "conformance", "bench")

# Findings


def test_diagnose_finds_nothing(tmp_path: Path) -> None:
    done = invoke("diagnose", dump(tmp_path), "--json", tmp_path / "x.json")
    assert done.exit_code == 0
    assert "Nothing looks wrong in 60 rows of 4 classes" in done.output
    assert valid(tmp_path / "x.json", "diagnose")["findings"] == []


def test_diagnose_says_what_the_function_says(tmp_path: Path) -> None:
    arrays = {"z": SOFT.T, "y": LABELS + 1}
    file = dump(tmp_path, **arrays)
    names = ("--logits", "z", "--targets", "y", "--option", "axis=0")
    done = invoke("diagnose", file, *names, "--json", tmp_path / "x.json")
    assert done.exit_code == 1
    found = xp_xent.diagnose(SOFT.T, LABELS + 1, axis=0)
    told = valid(tmp_path / "x.json", "diagnose")["findings"]
    assert [one["code"] for one in told] == [f.code for f in found]
    assert {"probabilities", "labels-from-one"} <= {f.code for f in found}
    words = "".join(done.output.split())
    for finding in found:
        for text in (finding.code, finding.message, finding.cost, finding.mend):
            assert "".join(text.split())[:15] in words


def test_every_code_is_in_the_schema() -> None:
    schema = schema_of("diagnose")
    codes = schema["properties"]["findings"]["items"]["properties"]["code"]["enum"]
    text = (xp_xent.diagnose.__doc__ or "").partition("Codes:")[2].partition("Raises")[0]
    assert sorted(text.replace("`", "").replace(".", "").replace(",", "").split()) == sorted(codes)


# Libraries


def test_backends(tmp_path: Path) -> None:
    done = invoke("backends", "--backend", "numpy", "--json", tmp_path / "x.json")
    assert done.exit_code == 0, done.output
    (one,) = valid(tmp_path / "x.json", "backends")["backends"]
    assert one["name"] == "numpy"
    assert one["version"] == np.__version__
    assert {place["dtype"] for place in one["places"]} >= {"float16", "float32", "float64"}
    assert all(place["works"] == list(environment.WORKS) for place in one["places"])


def test_a_library_that_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment.EXTRAS, "nowhere", "cupy")
    done = invoke("backends", "--backend", "nowhere", "--json", tmp_path / "x.json")
    assert done.exit_code == 0
    (one,) = valid(tmp_path / "x.json", "backends")["backends"]
    assert one == {
        "name": "nowhere", "version": None, "usable": False, "places": [],
        "missing": ['pip install "xp_xent[cupy]"'],
    }  # fmt: skip
    assert 'pip install "xp_xent[cupy]"' in done.output


def test_a_library_that_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = environment._loss

    def wrong(logits: Any, labels: Any, vector: Any) -> Any:
        if logits.dtype == np.float32:
            raise RuntimeError("no kernel\nimage")
        return right(logits, labels, vector) + 0.1 * (logits.dtype == np.float16)

    monkeypatch.setattr(environment, "_loss", wrong)
    done = invoke("backends", "--backend", "numpy", "--json", tmp_path / "x.json")
    assert done.exit_code == 1
    places = valid(tmp_path / "x.json", "backends")["backends"][0]["places"]
    problems = {place["dtype"]: place["problem"] for place in places if not place["works"]}
    assert list(problems) == ["float16", "float32"]
    assert problems["float16"].startswith("loss: got ")
    assert problems["float32"] == "loss: RuntimeError: no kernel image"


def test_no_library_is_forgotten() -> None:
    assert set(backends.installed()) <= set(environment.names())


def test_each_library_computes_what_it_offers(backend: Adapter) -> None:
    place = environment._tried(backend, backend.devices()[0], "float32")
    assert place is not None
    assert (place.works, place.problem) == (environment.WORKS, "")


# What cannot be used

NAN = np.full_like(LOGITS, np.nan)
UNUSABLE: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "no logits": ({"logits": None}, (), "got targets, wanted an array called 'logits', or name"),
    "no targets": ({}, ("--targets", "y"), "wanted an array called 'y', or name one of these with"),
    "labels of another length": ({"targets": LABELS[:9]}, (), "got shape (9,), wanted (60,) for"),
    "labels of another axis": ({"logits": LOGITS.T}, (), "it fits --option axis=0"),
    "no such axis": ({}, ("--option", "axis=2"), "axis=2: wanted an axis of 'logits', whose shape"),
    "from one": ({"targets": LABELS + 1}, (), "wanted 0 … 3; counted from 1?"),
    "out of range": ({"targets": np.where(LABELS == 1, 255, LABELS)}, (), "ignore_index=255"),
    "integers for logits": ({"logits": LABELS[:, None]}, (), "got dtype int64, wanted floating"),
    "floating labels": ({"targets": LABELS * 1.0}, (), "got dtype float64, wanted integer labels"),
    "no rows": ({"logits": LOGITS[:0], "targets": LABELS[:0]}, (), "wanted rows and classes"),
    "NaN everywhere": ({"logits": NAN}, (), "got nothing but NaN, wanted numbers"),
    "nothing counts": ({"where": np.zeros(60, dtype=bool)}, (), "got no row that counts"),
    "a weight of each row": ({"weight": np.ones(60)}, (), "'weight': got shape (60,), wanted (4,)"),
    "a mask of numbers": ({"where": np.ones(60)}, (), "'where': got dtype float64, wanted bool"),
    "no option": ({}, ("--option", "gamma=2"), "'gamma' is none of axis, ignore_index"),
    "an array as option": ({}, ("--option", "weight=2"), "'weight' is none of"),
    "no value": ({}, ("--option", "axis"), "wanted one axis=VALUE"),
    "twice": ({}, ("--option", "axis=0", "--option", "axis=0"), "wanted one axis=VALUE"),
    "a wrong value": ({}, ("--option", "label_smoothing=2"), "label_smoothing: got 2, wanted"),
    "one-hot integers": ({"targets": np.eye(4, dtype=int)[LABELS]}, (), "got integer shape (60"),
    "multilabel": ({"targets": np.ones((60, 4))}, (), "that sum to 4 along axis 1, wanted 1"),
    "binary": ({"logits": LOGITS[:, 0], "targets": LABELS / 3.0}, (), "wanted 1; is the axis"),
    "nowhere to write": ({}, ("--json", "/no/such/folder/x"), "cannot be written"),
    "another picture": ({}, ("--plot", "x.gif"), "got '.gif', wanted one of .png, .svg, .pdf"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_in_one_line(case: str, tmp_path: Path) -> None:
    changed, arguments, said = UNUSABLE[case]
    arrays = {"logits": LOGITS, "targets": LABELS} | changed
    file = tmp_path / "dump.npz"
    np.savez(file, **{name: x for name, x in arrays.items() if x is not None})
    done = invoke("loss", file, *arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stderr.startswith("xp-xent: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["dump.npz"]
    if changed:
        assert str(file) in done.stderr


@pytest.mark.parametrize("command", ["diagnose", "loss"])
def test_files_that_cannot_be_used(command: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    for name, said in (("model.pt", "pickle"), ("absent.npz", "No such file")):
        done = invoke(command, tmp_path / name, "--json", tmp_path / "x.json")
        assert done.exit_code == 2
        assert done.stderr.startswith(f"xp-xent: {tmp_path / name}: ")
        assert said in done.stderr
        assert not (tmp_path / "x.json").exists()


def test_what_diagnose_is_for_is_no_bad_input(tmp_path: Path) -> None:
    for arrays, code in (
        ({"targets": LABELS + 1}, "labels-from-one"),
        ({"logits": LOGITS.T}, "class-axis"),
        ({"targets": np.full(60, -100)}, "nothing-counted"),
    ):
        done = invoke("diagnose", dump(tmp_path, **arrays))
        assert (done.exit_code, code in done.output) == (1, True), done.output
    assert invoke("diagnose", dump(tmp_path, logits=NAN)).exit_code == 2
    assert invoke("diagnose", dump(tmp_path, targets=LABELS[:9])).exit_code == 2
    assert invoke("backends", "--backend", "fortran").exit_code == 2


# Every command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_80_columns_wide(command: str) -> None:
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert all(len(line) <= 80 for line in done.output.splitlines())
    assert "exit status" in " ".join(done.output.split())
    if command in ("verify", "diagnose", "loss"):
        assert f"\n  xp-xent {command} " in done.output
    assert "\b" not in done.output
    assert "\\b" not in done.output


def test_tables_are_whole(tmp_path: Path) -> None:
    """No cell is cut, however large the numbers."""
    wide = dump(tmp_path, logits=RNG.normal(size=(300, 150)) * 1e5, targets=np.arange(300) % 150)
    for done in (invoke("loss", wide), invoke("diagnose", wide), invoke("backends", "--backend",
                                                                        "numpy")):  # fmt: skip
        assert all(len(line) <= 80 for line in done.output.splitlines())
        assert "…" not in done.output
    assert "and 130 classes more" in invoke("loss", wide).output


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("before")
    with _shell.complete(file) as place:
        place.write_text("half")
        assert file.read_text() == "before"
    assert file.read_text() == "half"
    file.write_text("before")
    broken_off = _shell.complete(file)
    broken_off.__enter__().write_text("half")
    assert not broken_off.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert file.read_text() == "before"
    with _shell.complete(file) as place:
        place.write_text("whole")
    assert file.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_as_a_program(tmp_path: Path) -> None:
    """Without a terminal: no progress, no escapes, and the status for a script."""
    command = (sys.executable, "-P", "-m", "xp_xent", "loss", str(dump(tmp_path)))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path,
                          env=os.environ | {"COLUMNS": "80"})  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("loss ")


def test_commands_are_those() -> None:
    group = typer.main.get_command(__main__.command())
    assert list(group.commands) == list(COMMANDS)  # type: ignore[attr-defined]


def test_the_page_shows_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own; `python tests/helpers/_commands_page.py` fills docs/commands.md."""
    monkeypatch.chdir(tmp_path)
    page.prepare()
    examples = page.examples()
    assert len(examples) == 9
    for command, said in examples:
        assert page.printed(command) == said
