"""The command that measures: that it works and what it writes, never how long anything takes."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command's packages are not installed")

from rich.progress import Progress
from typer.testing import CliRunner

from xp_xent.__main__ import command
from xp_xent.benchmarks import _memory, _page, _report, _tables
from xp_xent.benchmarks._lines import device_of, lines
from xp_xent.benchmarks._sections import SECTIONS, Settings, Task
from xp_xent.benchmarks._shapes import GOALS, SHAPES, Shape, goal, problem
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread
from xp_xent.benchmarks._ways import WAYS

# A linear loss alone has chunks; of compilers, one run each is enough.
ASKED = [
    (way, shape)
    for way in WAYS.values()
    if way.missing() is None and way.who != "liger"
    for shape in ("5x7", "2x3x4@1", "linear")
    if not (way.who == "torch, chunked" and shape != "linear")
    if not (way.how == "compiled" and shape != "5x7")
]


ROOT = Path(__file__).parents[1]


def bench(*arguments: str) -> Any:
    return CliRunner().invoke(command(), ["bench", *arguments], env={"COLUMNS": "200"})


@dataclass
class Run:
    """A quick run of everything: its report, and the files that it wrote."""

    report: dict[str, Any]
    markdown: str
    json: Path
    page: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bench")
    files = {kind: folder / f"report.{kind}" for kind in ("json", "markdown")}
    page = folder / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    wanted = [x for kind, path in files.items() for x in (f"--{kind}", str(path))]
    done = bench("--quick", "--large", str(folder), "--write-docs", str(page), *wanted)
    assert done.exit_code == 0, done.output
    read = [path.read_text("utf-8") for path in files.values()]
    return Run(json.loads(read[0]), read[1], files["json"], page)


def test_every_section_has_its_records(run: Run) -> None:
    report = run.report
    assert set(report["sections"]) == set(SECTIONS)
    assert _report.errors(report) == []
    assert report["machine"]["versions"]["numpy"] == np.__version__


def test_a_cell_is_complete(run: Run) -> None:
    report = run.report
    cells = report["sections"]["table"]
    known = {line.case.name for line in lines()[0]}
    assert {cell["case"] for cell in cells} == known - {"torch-compiled"}
    for cell in cells:
        assert 0 < cell["q1"] <= cell["median"] <= cell["q3"]
        assert cell["copy"] > 0
        if cell["peer"] == 1:
            assert 0 < cell["ratio_q1"] <= cell["ratio_q3"]
            assert cell["ratio"] > 0
            wanted = goal(cell["case"], Shape.parse("64x10"), "float32")
            assert cell["goal"] == (wanted if cell["shape"] == "64×10" else None)


def test_markdown_has_the_tables(run: Run) -> None:
    report, text = run.report, run.markdown
    assert set(_tables.blocks(report)) == set(_tables.BLOCKS)
    assert "| PyTorch, 64×10 " in text
    for heading in ("Machine", "Extra memory at the peak", "Behind a linear layer"):
        assert f"## {heading}\n" in text
    assert "| NumPy, value_and_grad " in text
    assert "64×10" in text


def test_an_earlier_report_fills_in(run: Run) -> None:
    report = run.report
    part = report | {"sections": {"table": report["sections"]["table"][:1], "memory": []}}
    both = _report.merged(part, report)
    assert len(both["sections"]["table"]) == 1
    assert both["sections"]["memory"] == report["sections"]["memory"]
    elsewhere = report | {"machine": report["machine"] | {"processor": "another"}}
    with pytest.raises(ValueError, match="processor"):
        _report.merged(part, elsewhere)
    with pytest.raises(ValueError, match="format"):
        _report.merged(part, report | {"format": 0})


def test_the_page_is_of_one_report(run: Run) -> None:
    text = run.page.read_text("utf-8")
    blocks = set(_page.names(text))
    assert blocks == set(_tables.BLOCKS) | set(_page.ALT)
    assert _page.NOT_MEASURED not in text
    table = _tables.blocks(run.report)["table"]
    assert f"<!-- bench: table -->\n{table}\n<!-- bench: end -->" in text
    pictures = re.findall(r"^!\[[^]]+\]\((.+)\)$", text, re.MULTILINE)
    assert len(pictures) == len(_page.ALT)
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
    assert bench("--list").exit_code == 0

    def broken(settings: Any) -> list[Any]:
        return [Task("broken", lambda: [{"one": 1 // 0}])]

    monkeypatch.setitem(SECTIONS, "table", broken)
    done = bench("--quick", "--section", "table")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.output


def test_an_interrupt_keeps_what_was_measured() -> None:
    def interrupted() -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    tasks = [("table", Task("one", lambda: [{"n": 1}])), ("table", Task("two", interrupted))]
    report = _report.execute(Settings(), tasks, Progress(disable=True))
    assert report["sections"] == {"table": [{"n": 1}]}
    assert report["interrupted"]


def test_missed_goals_are_named() -> None:
    cell = {"line": "us", "who": "them", "shape": "64×10", "peer": 1, "goal": 1.0, "ratio": 1.25}
    peak = {"who": "us", "what": "both", "bytes": 120, "gradient_bytes": 100, "goal": 1.15}
    ours = {"line": "us", "who": "we", "peer": 0, "bytes": 140, "bytes_goal": 130}
    sections = {"table": [cell], "memory": [peak], "linear": [ours, cell]}
    assert _report.missed({"sections": sections}) == [
        "table, us, them, 64×10: 1.25, goal 1",
        "memory, us, both: 1.2, goal 1.15",
        "linear, us, we, nan: 140, goal 130",
        "linear, us, them, 64×10: 1.25, goal 1",
    ]
    failed = {"label": "us", "error": "no memory"}
    assert _report.missed({"sections": {key: [failed] for key in sections}}) == []
    assert _report.missed({"sections": {"table": [cell | {"goal": 1.5}]}}) == []


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
    expected = WAYS["xp_xent, NumPy"].ready(given, None).both()
    ready = way.ready(given, device_of(way.library, "cpu"))
    value, gradients = ready.both()
    np.testing.assert_array_max_ulp(np.float32(value), expected[0], maxulp=64)
    np.testing.assert_array_max_ulp(np.float32(ready.loss()), expected[0], maxulp=64)
    for gradient, truth in zip(gradients, expected[1], strict=True):
        assert np.asarray(gradient).shape == truth.shape
        np.testing.assert_array_less(np.abs(np.asarray(gradient) - truth), 1e-6)


def test_peak_memory_is_seen() -> None:
    """PyTorch keeps the logits' size three times; the gradient alone is one of them."""
    way = WAYS["PyTorch"]
    if way.missing() or not _memory.can_measure("cpu"):
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
        assert Shape.parse(shape.option) == shape
    assert Shape.parse("4x21x8@1").classes == 21
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
