"""The command, the pytest plugin and the report, which a real browser opens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xp_xent
from xp_xent.conformance import Subject, cases, run

pytest.importorskip("typer", reason="the command's packages are not installed")
pytest.importorskip("jinja2", reason="the report's package is not installed")

from typer.testing import CliRunner

from xp_xent.conformance import _cli, _report, _writers


def naive(logits: Any, targets: Any, **options: Any) -> Any:
    if options:
        raise NotImplementedError("no options")
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, targets[..., None], -1).mean()


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    """Two subjects, one of them wrong in many ways."""
    chosen = [case for case in cases() if case.dtype == "float32"]
    good = Subject("good", "numpy", {"cross_entropy": xp_xent.cross_entropy})
    bad = Subject("<bad> & naive", "numpy", {"cross_entropy": naive})
    return _report.summary([run(s, cases=chosen) for s in (good, bad)], {"Liger": "needs a GPU"})


@pytest.fixture
def invoke() -> Any:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(_cli.app, ["conformance", *arguments])

    return call


def test_command_writes_three_reports(tmp_path: Path, invoke: Any) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html", "markdown")}
    wanted = [x for kind, path in files.items() for x in (f"--{kind}", str(path))]
    done = invoke("--subject", "xp_xent on numpy", "--topic", "smoothing", *wanted)
    assert done.exit_code == 0, done.output
    assert "xp_xent on numpy" in done.output
    data = json.loads(files["json"].read_text(encoding="utf-8"))
    assert data["topics"] == ["smoothing"]
    assert data["subjects"][0]["counts"]["failed"] == 0
    assert "xp_xent on numpy" in files["html"].read_text(encoding="utf-8")
    assert "| xp_xent on numpy |" in files["markdown"].read_text(encoding="utf-8")


def test_exit_status_says_that_something_failed(invoke: Any) -> None:
    pytest.importorskip("scipy", reason="the peer is not installed")
    done = invoke("--subject", "SciPy", "--backend", "numpy", "--topic", "extreme_logits")
    assert done.exit_code == 1, done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subject", "nobody has that name"), "No subject has 'nobody has that name'"),
        (("--backend", "fortran"), "No subject is on fortran"),
        (("--subject", "xp_xent on numpy", "--backend", "torch"), "Nobody to ask"),
        (("--topic", "weather"), "Nobody to ask"),
        (("--subject", "xp_xent on numpy", "--html", "/no/such/folder/x.html"), "written"),
        (("--subject", "xp_xent on numpy", "--merge", __file__), "is no report"),
    ],
)
def test_nobody_to_ask(invoke: Any, arguments: tuple[str, ...], said: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.output


def test_each_subject_in_a_process_of_its_own(tmp_path: Path, invoke: Any) -> None:
    report = tmp_path / "report.json"
    name = "xp_xent on numpy"
    done = invoke("--jobs", "2", "--subject", name, "--topic", "weights", "--json", str(report))
    assert done.exit_code == 0, done.output
    data = json.loads(report.read_text(encoding="utf-8"))
    assert [subject["name"] for subject in data["subjects"]] == [name]
    assert data["subjects"][0]["counts"]["passed"] == data["numberOfTests"]
    assert name not in data["absent"]


def test_a_process_that_is_lost_is_named_and_fails(
    tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho out of memory >&2\nexit 7\n", encoding="utf-8")
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    done = invoke("--jobs", "1", "--subject", "xp_xent on numpy")
    assert done.exit_code == 1
    assert "its process ended with 7: out of memory" in done.output


def test_list(invoke: Any) -> None:
    done = invoke("--list")
    assert done.exit_code == 0
    assert "xp_xent on numpy  (backend numpy)" in done.output


def test_merge_adds_subjects_and_keeps_what_is_there(said: dict[str, Any]) -> None:
    again = json.loads(_writers.to_json(said))
    assert _report.merged(said, again)["subjects"] == said["subjects"]
    other = again | {"subjects": [again["subjects"][0] | {"name": "elsewhere"}]}
    names = [subject["name"] for subject in _report.merged(said, other)["subjects"]]
    assert names == ["good", "<bad> & naive", "elsewhere"]


def test_merge_adds_the_tests_that_a_subject_was_not_asked() -> None:
    mine = Subject("mine", "numpy", {"cross_entropy": xp_xent.cross_entropy})
    halves = [
        _report.summary([run(mine, cases=[case for case in cases() if case.topic == topic])])
        for topic in ("smoothing", "agreement")
    ]
    (whole,) = _report.merged(*halves)["subjects"]
    parts = [half["subjects"][0] for half in halves]
    assert whole["counts"]["passed"] == sum(part["counts"]["passed"] for part in parts) > 0
    assert whole["topics"] == parts[1]["topics"] | parts[0]["topics"]
    assert len(whole["results"]) == sum(half["numberOfTests"] for half in halves)


def test_failures_carry_inputs_expected_got_and_the_public_bug(said: dict[str, Any]) -> None:
    failures = [r for r in said["subjects"][1]["results"] if r["outcome"] == "failed"]
    assert failures
    for failure in failures:
        assert failure["reason"]
        assert set(said["cases"][failure["id"]]["flags"]) <= set(said["notes"])
    (confident,) = (r for r in failures if r["id"] == "confident-20-float32")
    case = said["cases"]["confident-20-float32"]
    assert case["inputs"]["logits"]["data"] == ["20", "0", "0"]
    assert case["expected"]["value"]["data"] == ["4.12230738e-09"]
    assert confident["got"]["value"]["data"] == ["-0"]
    assert said["notes"]["Confident"]["links"]


def test_page_needs_nothing_from_outside(said: dict[str, Any]) -> None:
    page = _writers.to_html(said)
    assert not re.search(r"<(link|img|script[^>]*\bsrc)\b|url\(|@import", page)
    assert "<bad>" not in page.partition('id="data"')[0]
    assert page.count("</script>") == 2


def browse(page: Path, *arguments: str) -> str:
    found = (shutil.which(x) for x in ("chromium", "chromium-browser", "google-chrome"))
    browser = next((path for path in found if path), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    quiet = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--virtual-time-budget=2000",
    )  # fmt: skip
    profile = f"--user-data-dir={page.parent / 'profile'}"
    done = subprocess.run(
        [browser, *quiet, profile, *arguments, f"{page.as_uri()}#1/extreme_logits"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def test_browser_shows_the_failures_of_a_cell(tmp_path: Path, said: dict[str, Any]) -> None:
    page = tmp_path / "report.html"
    page.write_text(_writers.to_html(said), encoding="utf-8")
    shown = browse(page, "--dump-dom")
    detail = shown.partition('<section id="detail"')[2].partition("</section>")[0]
    assert "&lt;bad&gt; &amp; naive: extreme logits" in detail
    assert "confident-20-float32" in detail
    assert "4.12230738e-09" in detail
    assert "https://github.com/pytorch/pytorch/issues/" in detail
    picture = tmp_path / "report.png"
    browse(page, f"--screenshot={picture}", "--window-size=1500,1000")
    assert picture.stat().st_size > 20_000


def test_plugin_in_another_suite(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "from xp_xent import cross_entropy\n"
        "from xp_xent.conformance import Subject\n"
        "from xp_xent.conformance.pytest_plugin import conformance_test\n"
        'mine = Subject("mine", "numpy", {"cross_entropy": cross_entropy})\n'
        'test_vectors = conformance_test(mine, topics=("smoothing", "binary"))\n'
        'wrong = Subject("wrong", "numpy", {"cross_entropy": lambda *a, **k: a[0].sum() * 0})\n'
        'test_wrong = conformance_test(wrong, topics=("smoothing",))\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1]
    smoothing = sum(case.topic == "smoothing" for case in cases())
    binary = sum(case.topic == "binary" for case in cases())
    assert done.returncode == 1, done.stdout
    assert f"{smoothing} failed, {smoothing} passed, {binary} skipped" in last


def test_published_report_finds_no_failure_here() -> None:
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "conformance-report.md").read_text(encoding="utf-8")
    totals = text.partition("## By topic")[0].splitlines()
    rows = [line.split(" | ") for line in totals if line.startswith("| xp_xent on ")]
    assert len(rows) >= 5
    assert {row[2] for row in rows} == {"0"}
    page = (docs / "_extra" / "heat-map.html").read_text(encoding="utf-8")
    assert all(row[0].removeprefix("| ").partition(" (")[0] in page for row in rows)
