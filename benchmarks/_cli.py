"""The command ``xp-xent bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from xp_xent.benchmarks._sections import Settings

console = Console()
BUSY: Final = 0.5  # of the processors, before the run


def _file(what: str, exists: bool = False) -> Any:
    return typer.Option(help=what, dir_okay=False, exists=exists)


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
    plots: Annotated[
        Path | None, typer.Option(help="Draw pictures into this folder.", file_okay=False)
    ] = None,
    write_docs: Annotated[
        Path | None, _file("Fill the page's blocks, with pictures beside it.", exists=True)
    ] = None,
    read: Annotated[
        Path | None,
        typer.Option(help="Take sections of an earlier JSON; measure those named alone."),
    ] = None,
    largest: Annotated[int, typer.Option(help="Elements, of the scaling curves.")] = 10**8,
    large: Annotated[
        Path | None, typer.Option(help="A folder with 4.3 GB for a file.", file_okay=False)
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 if a goal is missed.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List what can be measured.")] = False,
) -> None:
    """Measure time and memory beside the libraries' own losses.

    The exit status is 1 if a measurement failed, 2 if there is nothing to measure. Ctrl-C keeps
    what has been measured, but fills no page.
    """
    from xp_xent.benchmarks import _machine, _page, _run, _terminal
    from xp_xent.benchmarks._sections import SECTIONS, Settings, shapes
    from xp_xent.benchmarks._table import CASES
    from xp_xent.benchmarks._timing import Effort

    _machine.prepare_libraries(dtype)
    try:
        chosen = shapes(tuple(shape or ()), quick)
        names = _known(section, tuple(SECTIONS))
        wanted = _known(case, tuple(one.name for one in CASES)) if case else ()
        _page.check(write_docs, plots)  # before the work, not after it
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    effort = Effort(0.0, 2, 5, block=0.0) if quick else Effort(seconds, rounds)
    settings = Settings(dtype, effort, quick, wanted, chosen, largest, large)
    if list_all:
        _list(settings, tuple(SECTIONS))
        return
    earlier = _read(read) if read else None
    if earlier and not section:
        report = earlier
    else:
        tasks = _run.plan(settings, names)
        if not any(tasks.values()):
            console.print("Nothing to measure: see --list.")
            raise typer.Exit(2)
        report = _measure(settings, tasks)
    if earlier:
        report = _merged(report, earlier)
    _terminal.show(report, console)
    whole = not report.get("interrupted")
    files = {"json": json_file, "markdown": markdown, "plots": plots}
    _write(report, files | ({"docs": write_docs} if whole else {}))
    problems = _run.errors(report)
    for problem in problems:
        console.print(problem, style="red", highlight=False)
    if problems or (strict and _run.missed(report)):
        raise typer.Exit(1)
    if not whole:
        raise typer.Exit(130)


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
    from xp_xent.benchmarks import _machine, _run

    load = _machine.load()
    if load is not None and load > BUSY * _machine.processors():
        console.print(f"The machine is busy (load {load}): do not believe the times.", style="red")
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


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found["sections"], dict) else {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise typer.BadParameter(f"{path}: no report: {error}") from error


def _merged(report: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    from xp_xent.benchmarks import _run

    try:
        return _run.merged(report, earlier)
    except ValueError as error:
        raise typer.BadParameter(f"the earlier report: {error}") from error


def _write(report: dict[str, Any], files: dict[str, Path | None]) -> None:
    """Write what was asked for, the JSON first: nothing after it can lose the measurements."""
    from xp_xent.benchmarks import _markdown, _page, _plots, _run

    def text(write: Any) -> Any:
        return lambda path: [path] if path.write_text(write(report), encoding="utf-8") else []

    writers = {
        "json": text(_run.to_json),
        "markdown": text(_markdown.to_markdown),
        "plots": lambda folder: list(_plots.draw(report, folder).values()),
        "docs": lambda page: _page.write(page, report),
    }
    for kind, path in files.items():
        for written in writers[kind](path) if path is not None else ():
            console.print(f"wrote {written}", highlight=False)
