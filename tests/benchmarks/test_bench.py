"""The command that measures: that it works and what it writes, never how long anything takes."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command's packages are not installed")

from rich.progress import Progress
from typer.testing import CliRunner

from xp_xent.__main__ import command
from xp_xent.benchmarks import _memory, _page, _sections, _tables
from xp_xent.benchmarks._sections import SECTIONS, Settings, Task
from xp_xent.benchmarks._shapes import GOALS, SHAPES, Shape, goal, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import CASES, WAYS, lines

# A linear loss alone has chunks; of compilers, one run each is enough.
ASKED = [
    (way, shape)
    for way in WAYS.values()
    if way.usable() and way.who != "liger"
    for shape in ("5x7", "2x3x4@1", "linear")
    if not (way.who == "torch, chunked" and shape != "linear")
    if not (way.how == "compiled" and shape != "5x7")
]


ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> Any:
    return CliRunner().invoke(command(), ["bench", *arguments], env={"COLUMNS": "200"})


@dataclass
class Run:
    """A quick run of everything: its report, and the files that it wrote."""

    report: dict[str, Any]
    output: str
    json: Path
    page: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bench")
    written, page = folder / "report.json", folder / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    files = ("--json", str(written), "--write-docs", str(page), "--large", str(folder))
    files += ("--against", sys.executable)
    done = bench("--quick", *files)
    assert done.exit_code == 0, done.output
    return Run(json.loads(written.read_text("utf-8")), done.output, written, page)


def test_every_section_has_its_records(run: Run) -> None:
    report = run.report
    assert set(report["sections"]) == set(SECTIONS)
    assert report["machine"]["versions"]["numpy"] == np.__version__


def test_a_cell_is_complete(run: Run) -> None:
    report = run.report
    cells = report["sections"]["table"]
    known = {line.case for line in lines([case.case for case in CASES])}
    assert {cell["case"] for cell in cells} == known - {"torch-compiled"}
    for cell in cells:
        assert 0 < cell["q1"] <= cell["median"] <= cell["q3"]
        assert cell["copy"] > 0
        assert cell["shape"] == "64×10"
        if cell["peer"] == 1:
            assert 0 < cell["ratio_q1"] <= cell["ratio_q3"]
            assert cell["ratio"] > 0
            assert cell["goal"] == goal(cell["case"], Shape.parse("64x10"), "float32")


def test_every_table_is_written_and_shown(run: Run) -> None:
    tables = _tables.blocks(run.report)
    assert set(tables) == set(_tables.BLOCKS)
    assert "| PyTorch, 64×10 " in tables["threads"]
    assert "| NumPy, value_and_grad " in tables["table"]
    for name in tables:
        assert f"\n{name} " in run.output


def test_an_earlier_report_fills_in(run: Run) -> None:
    report = run.report
    part = report | {"sections": {"table": report["sections"]["table"][:1], "memory": []}}
    both = _sections.merged(part, report)
    assert len(both["sections"]["table"]) == 1
    assert both["sections"]["memory"] == report["sections"]["memory"]
    elsewhere = report | {"machine": report["machine"] | {"processor": "another"}}
    with pytest.raises(ValueError, match="processor"):
        _sections.merged(part, elsewhere)
    with pytest.raises(ValueError, match="format"):
        _sections.merged(part, report | {"format": 0})


def test_the_page_is_of_one_report(run: Run) -> None:
    text = run.page.read_text("utf-8")
    blocks = set(_page.names(text))
    assert blocks == set(_tables.BLOCKS) | set(_page.PICTURES)
    assert _page.NOT_MEASURED not in text
    table = _tables.blocks(run.report)["table"]
    assert f"<!-- bench: table -->\n{table}\n<!-- bench: end -->" in text
    pictures = re.findall(r"^!\[[^]]+\]\((.+)\)$", text, re.MULTILINE)
    assert len(pictures) == len(_page.PICTURES)
    for picture in pictures:
        assert "<svg" in (run.page.parent / picture).read_text("utf-8")
    emptied = _page.filled(text, run.report | {"sections": {}}, {})
    assert emptied.count(_page.NOT_MEASURED) == len(blocks)
    assert _page.names(emptied) == _page.names(text)


def test_a_page_with_unknown_blocks_is_refused_before_the_run(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("no blocks\n", "<!-- bench: weather -->\n<!-- bench: end -->\n"):
        page.write_text(text)
        assert bench("--write-docs", str(page)).exit_code == 2


def test_a_report_is_read_again(run: Run, tmp_path: Path) -> None:
    """Without a section nothing is measured; with one, the others stay."""
    again = tmp_path / "again.json"
    assert bench("--read", str(run.json), "--json", str(again)).exit_code == 0
    assert json.loads(again.read_text("utf-8")) == run.report
    chosen = ("--section", "table", "--case", "numpy", "--shape", "3x2x4@1")
    done = bench("--quick", *chosen, "--read", str(run.json), "--json", str(again))
    assert done.exit_code == 0, done.output
    sections = json.loads(again.read_text("utf-8"))["sections"]
    ours, peer = sections.pop("table")
    assert (ours["case"], ours["shape"], peer["goal"]) == ("numpy", "3×2×4, axis 1", None)
    assert sections == {k: v for k, v in run.report["sections"].items() if k != "table"}


def test_failures_and_misuse_have_their_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench("--quick", "--case", "nobody").exit_code == 2
    assert bench("--section", "nothing").exit_code == 2
    assert bench("--shape", "64x").exit_code == 2
    assert bench("--section", "against").exit_code == 2

    def broken(settings: Any) -> list[Any]:
        return [Task("broken", lambda: [{"one": 1 // 0}])]

    monkeypatch.setitem(SECTIONS, "table", broken)
    done = bench("--quick", "--section", "table")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.output


def test_a_python_without_this_library(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named xp_xent' >&2\nexit 1\n")
    python.chmod(0o755)
    done = bench("--quick", "--section", "against", "--case", "numpy", "--against", str(python))
    assert done.exit_code == 1
    assert "No module named xp_xent" in done.output


def test_statistics_are_beside_the_same_call(run: Run) -> None:
    for one in run.report["sections"]["stats"]:
        assert one["more"] == pytest.approx(one["median"] - one["plain"])
        assert one["goal"] is None
        assert (one["more_goal"] is None) == one["line"].startswith("PyTorch")


def test_an_interrupt_keeps_what_was_measured() -> None:
    def interrupted() -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    settings = Settings("float32", Effort(), False, [], ())
    tasks = [("table", Task("one", lambda: [{"n": 1}])), ("table", Task("two", interrupted))]
    report = _sections.execute(settings, tasks, Progress(disable=True))
    assert report["sections"] == {"table": [{"n": 1}]}
    assert report["interrupted"]


def test_a_value_is_beside_its_goal() -> None:
    assert _tables.against(1.25, 1.0) == "1.25 > 1"
    assert _tables.against(1.25, 1.5) == "**1.25** ≤ 1.5"
    assert _tables.against(2e6, None, _tables.size) == "2.0 MB"
    assert _tables.against(math.nan, 1.0) == "–"


@pytest.mark.parametrize(
    ("way", "shape"),
    [
        # Inductor writes, compiles and loads a C++ program.
        pytest.param(
            *pair,
            id=f"{pair[0].name}-{pair[1]}",
            marks=[pytest.mark.full] * (pair[0].library == "torch" and pair[0].how == "compiled"),
        )
        for pair in ASKED
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_ways_agree(way: Any, shape: str) -> None:
    """What is compared is the same computation."""
    given = (
        problem(Shape.parse("5x7"), "float32", 4)
        if shape == "linear"
        else problem(Shape.parse(shape), "float32")
    )
    expected = WAYS["xp_xent, NumPy"].ready(given).both()
    ready = way.ready(given)
    value, gradients = ready.both()
    np.testing.assert_array_max_ulp(np.float32(value), expected[0], maxulp=64)
    np.testing.assert_array_max_ulp(np.float32(ready.loss()), expected[0], maxulp=64)
    for gradient, truth in zip(gradients, expected[1], strict=True):
        assert np.asarray(gradient).shape == truth.shape
        np.testing.assert_array_less(np.abs(np.asarray(gradient) - truth), 1e-6)


def test_peak_memory_is_seen() -> None:
    """PyTorch keeps the logits' size three times; the gradient alone is one of them."""
    way = WAYS["PyTorch"]
    if not way.usable() or not _memory.can_measure("cpu"):
        pytest.skip("PyTorch, or a peak that can be reset, is missing here")
    shape = Shape((256, 32000))
    extra = _memory.extra_bytes(way, "cpu", shape, "float32", "both")
    assert 2.5 < extra / (4 * shape.elements) < 3.5


def test_a_failing_process_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"NumPy, 2×3: .*no_such_thing"):
        _memory.extra_bytes(
            WAYS["xp_xent, NumPy"], "cpu", Shape((2, 3)), "float32", "no_such_thing"
        )


def test_shapes() -> None:
    for shape in SHAPES:
        assert Shape.parse(shape.name) == shape
    assert Shape.parse("4x21x8@1") == Shape((4, 21, 8), 1)
    assert all(len(goals) == len(SHAPES) for goals in GOALS.values())
    for wrong in ("", "0x3", "axb", "2x3@5"):
        with pytest.raises(ValueError, match=r"no shape|invalid literal"):
            Shape.parse(wrong)


def test_interleaved_calls_each_in_every_round() -> None:
    counts = {"a": 0, "b": 0}

    def call(name: str) -> None:
        counts[name] += 1

    calls = {name: Timed(lambda name=name: call(name)) for name in counts}
    times = interleaved(calls, Effort(0.0, 3, 5))
    assert [len(one) for one in times.values()] == [3, 3]
    assert all(counts.values())


def test_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    found = ratio([1.0, 2.0, 9.0], [1.0, 1.0, 3.0])
    assert found["ratio"] == 2.0
    assert found["ratio_q1"] == 1.5
    assert spread([4.0]) == {"median": 4.0, "q1": 4.0, "q3": 4.0}


def test_numbers_are_written_with_units() -> None:
    assert _tables.seconds(1.5e-5) == "15.0 μs"
    assert _tables.seconds(0.25) == "250 ms"
    assert _tables.seconds(math.pi) == "3.14 s"
    assert _tables.size(262e6) == "262 MB"
