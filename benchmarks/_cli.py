"""The command ``xp-xent bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from xp_xent.benchmarks._sections import Settings

console = Console()


def _file(what: str) -> Any:
    return typer.Option(help=what, dir_okay=False)


def bench(
    section: Annotated[
        list[str] | None, typer.Option(help="Measure this section only; repeatable; see --list.")
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="Measure this line only; repeatable; see --list.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Of the table, such as 64x10 or 4x21x64x64@1.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the logits.")] = "float32",
    quick: Annotated[bool, typer.Option(help="Tiny shapes, few rounds: does it work?")] = False,
    seconds: Annotated[float, typer.Option(help="To spend on each cell, at least.")] = 4.0,
    rounds: Annotated[int, typer.Option(help="Of each cell, at least.")] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write JSON.")] = None,
    markdown: Annotated[Path | None, _file("Write the tables as Markdown.")] = None,
    read: Annotated[
        list[Path] | None, typer.Option(help="Add sections of an earlier JSON.", exists=True)
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 if a goal is missed.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List what can be measured.")] = False,
) -> None:
    """Measure time and memory beside the libraries' own losses.

    The exit status is 1 if a measurement failed, 2 if there is nothing to measure.
    """
    from xp_xent.benchmarks import _machine, _run
    from xp_xent.benchmarks._sections import SECTIONS, Settings, shapes
    from xp_xent.benchmarks._table import CASES
    from xp_xent.benchmarks._timing import Effort

    _machine.prepare_libraries(dtype)
    try:
        chosen = shapes(tuple(shape or ()), quick)
        names = _known(section, tuple(SECTIONS))
        wanted = _known(case, tuple(one.name for one in CASES)) if case else ()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    effort = Effort(0.05, 2, 5) if quick else Effort(seconds, rounds)
    settings = Settings(dtype, effort, quick, wanted, chosen)
    if list_all:
        _list(settings, tuple(SECTIONS))
        return
    tasks = _run.plan(settings, names)
    if not any(tasks.values()):
        console.print("Nothing to measure: see --list.")
        raise typer.Exit(2)
    report = _measure(settings, tasks)
    for path in read or ():
        try:
            report = _run.merged(report, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise typer.BadParameter(f"{path}: {error}") from error
    _write(report, json_file, markdown)
    problems = _run.errors(report)
    for problem in problems:
        console.print(problem, style="red", highlight=False)
    if problems or (strict and _run.missed(report)):
        raise typer.Exit(1)


def _known(wanted: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def _list(settings: Settings, sections: tuple[str, ...]) -> None:
    from xp_xent.benchmarks._table import CASES, line, lines

    console.print(f"sections: {', '.join(sections)}", highlight=False)
    found, absent = lines(())
    for one in CASES:
        here = [line(case, place) for case, place in found if case is one]
        said = "; ".join(here) or f"not here, {absent[one.name]}"
        console.print(f"case {one.name}: {said}", highlight=False)
    for shape in settings.shapes:
        console.print(f"shape {shape.option}", highlight=False)


def _measure(settings: Settings, tasks: dict[str, Any]) -> dict[str, Any]:
    from xp_xent.benchmarks import _run

    total = sum(map(len, tasks.values()))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total)

        def say(label: str | None) -> None:
            if label is None:
                progress.advance(bar)
            else:
                progress.update(bar, description=label)

        return _run.execute(settings, tasks, say)


def _write(report: dict[str, Any], json_file: Path | None, markdown: Path | None) -> None:
    """Write the files, and the tables to the terminal."""
    from rich.markdown import Markdown

    from xp_xent.benchmarks import _markdown, _run

    console.print(Markdown(_markdown.to_markdown(report)))
    for path, write in ((json_file, _run.to_json), (markdown, _markdown.to_markdown)):
        if path is not None:
            path.write_text(write(report), encoding="utf-8")
            console.print(f"wrote {path}", highlight=False)
