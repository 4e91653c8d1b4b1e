"""The command that measures: that it works and what it writes, never how long anything takes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command's packages are not installed")

from typer.testing import CliRunner

from xp_xent.__main__ import command
from xp_xent.benchmarks import _markdown, _memory, _run
from xp_xent.benchmarks._sections import SECTIONS
from xp_xent.benchmarks._shapes import GOALS, SHAPES, Shape, goal, linear_problem, problem
from xp_xent.benchmarks._table import Place, lines
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


def bench(*arguments: str) -> Any:
    return CliRunner().invoke(command(), ["bench", *arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report of a quick run of everything, as JSON and as Markdown."""
    folder = tmp_path_factory.mktemp("bench")
    files = folder / "report.json", folder / "report.md"
    done = bench("--quick", "--json", str(files[0]), "--markdown", str(files[1]))
    assert done.exit_code == 0, done.output
    return json.loads(files[0].read_text("utf-8")), files[1].read_text("utf-8")


def test_every_section_has_its_records(written: tuple[dict[str, Any], str]) -> None:
    report, _ = written
    assert set(report["sections"]) == set(SECTIONS)
    assert _run.errors(report) == []
    assert report["machine"]["versions"]["numpy"] == np.__version__


def test_a_cell_is_complete(written: tuple[dict[str, Any], str]) -> None:
    report, _ = written
    cells = report["sections"]["table"]
    known = {line.name for line, _ in lines(())[0]}
    assert {cell["case"] for cell in cells} == known - {"torch-compiled"}
    for cell in cells:
        for times in (cell["ours"], cell["copy"], *cell["peers"], cell["peers"][0]["ratio"]):
            assert 0 < times["q1"] <= times["q3"]
            assert times["median"] > 0
        assert cell["goal"] == goal(cell["case"], Shape.parse("64x10"), "float32") or (
            cell["shape"] != "64×10"
        )


def test_markdown_has_the_tables(written: tuple[dict[str, Any], str]) -> None:
    report, text = written
    assert set(_markdown.blocks(report)) == set(_markdown.BLOCKS)
    for heading in ("Machine", "Extra memory at the peak", "Behind a linear layer"):
        assert f"## {heading}\n" in text
    assert "| NumPy, value_and_grad |" in text
    assert "64×10" in text


def test_an_earlier_report_fills_in(written: tuple[dict[str, Any], str]) -> None:
    report, _ = written
    part = report | {"sections": {"table": report["sections"]["table"][:1], "memory": []}}
    both = _run.merged(part, report)
    assert len(both["sections"]["table"]) == 1
    assert both["sections"]["memory"] == report["sections"]["memory"]
    elsewhere = report | {"machine": report["machine"] | {"processor": "another"}}
    with pytest.raises(ValueError, match="processor"):
        _run.merged(part, elsewhere)
    with pytest.raises(ValueError, match="format"):
        _run.merged(part, report | {"format": 0})


@pytest.mark.parametrize("name", ["table"])
def test_one_section(name: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    chosen = ("--section", name, "--case", "numpy", "--shape", "3x2x4@1", "--json", str(path))
    done = bench("--quick", *chosen)
    assert done.exit_code == 0, done.output
    (cell,) = json.loads(path.read_text("utf-8"))["sections"][name]
    assert (cell["case"], cell["shape"], cell["goal"]) == ("numpy", "3×2×4, axis 1", None)


def test_failures_and_misuse_have_their_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench("--quick", "--case", "nobody").exit_code == 2
    assert bench("--section", "nothing").exit_code == 2
    assert bench("--shape", "64x").exit_code == 2
    assert bench("--list").exit_code == 0

    def broken(settings: Any) -> list[Any]:
        from xp_xent.benchmarks._sections import Task

        return [Task("broken", lambda: {"one": 1 // 0})]

    monkeypatch.setitem(SECTIONS, "table", broken)
    done = bench("--quick", "--section", "table")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.output


def test_missed_goals_are_named() -> None:
    cell = {"line": "us", "shape": "64×10", "goal": 1.0, "peers": [{"ratio": {"median": 1.25}}]}
    assert _run.missed({"sections": {"table": [cell]}}) == ["us, 64×10: 1.25, goal 1.0"]
    assert _run.missed({"sections": {"table": [cell | {"goal": 1.5}]}}) == []


@pytest.mark.parametrize(
    ("way", "shape"), ASKED, ids=[f"{way.name}-{shape}" for way, shape in ASKED]
)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_ways_agree(way: Any, shape: str) -> None:
    """What is compared is the same computation."""
    given = (
        linear_problem(Shape.parse("5x7"), 4, "float32")
        if shape == "linear"
        else problem(Shape.parse(shape), "float32")
    )
    expected = WAYS["xp_xent, NumPy"].ready(given, None).both()
    ready = way.ready(given, Place(way.library, "cpu").device(way.library))
    value, gradients = ready.both()
    np.testing.assert_array_max_ulp(np.float32(value), expected[0], maxulp=64)
    np.testing.assert_array_max_ulp(np.float32(ready.loss()), expected[0], maxulp=64)
    for gradient, truth in zip(gradients, expected[1], strict=True):
        assert np.asarray(gradient).shape == truth.shape
        np.testing.assert_array_less(np.abs(np.asarray(gradient) - truth), 1e-6)


def test_peak_memory_is_seen() -> None:
    """PyTorch keeps the logits' size three times; the gradient alone is one of them."""
    way, place = WAYS["PyTorch"], Place("torch", "cpu")
    if way.missing() or not _memory.can_measure(place):
        pytest.skip("PyTorch, or a peak that can be reset, is missing here")
    shape = Shape((256, 32000))
    extra = _memory.extra_bytes(way, place, shape, "float32", "both")
    assert 2.5 < extra / (4 * shape.elements) < 3.5


def test_a_failing_process_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"NumPy, 2×3: .*no_such_thing"):
        _memory.extra_bytes(
            WAYS["xp_xent, NumPy"], Place("numpy", "cpu"), Shape((2, 3)), "float32", "no_such_thing"
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
    assert found["median"] == 2.0
    assert found["q1"] == 1.5
    assert spread([4.0]) == {"median": 4.0, "q1": 4.0, "q3": 4.0}


def test_numbers_are_written_with_units() -> None:
    assert _markdown.seconds(0.0) == "0 ns"
    assert _markdown.seconds(1.5e-5) == "15 µs"
    assert _markdown.seconds(0.25) == "250 ms"
    assert _markdown.seconds(math.pi) == "3.14 s"
    assert _markdown.size(262e6) == "262 MB"
