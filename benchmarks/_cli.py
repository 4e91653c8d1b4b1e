"""The command ``xp-xent bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

console = Console()
BUSY: Final = 0.5  # of the processors, before the run


def _option(what: str, *names: str, **how: Any) -> Any:
    return typer.Option(*names, help=what, **how)


def bench(
    section: Annotated[list[str] | None, _option("Measure this section only; repeatable.")] = None,
    case: Annotated[list[str] | None, _option("Measure this line only; repeatable.")] = None,
    shape: Annotated[list[str] | None, _option("Such as 64x10 or 4x21x64x64@1.")] = None,
    dtype: Annotated[str, _option("Of the logits.")] = "float32",
    quick: Annotated[bool, _option("Tiny shapes, few rounds: does it work?")] = False,
    seconds: Annotated[float, _option("To spend on each cell, at least.")] = 4.0,
    rounds: Annotated[int, _option("Of each cell, at least.")] = 7,
    json_file: Annotated[Path | None, _option("Write JSON.", "--json", dir_okay=False)] = None,
    markdown: Annotated[Path | None, _option("Write the tables.", dir_okay=False)] = None,
    write_docs: Annotated[
        Path | None, _option("Fill the page's blocks.", dir_okay=False, exists=True)
    ] = None,
    read: Annotated[
        Path | None, _option("Take an earlier JSON; measure the sections named alone.")
    ] = None,
    largest: Annotated[int, _option("Elements, of the scaling curves.")] = 10**8,
    large: Annotated[Path | None, _option("A folder with 4.3 GB for a file.")] = None,
    strict: Annotated[bool, _option("Exit with 1 if a goal is missed.")] = False,
    list_all: Annotated[bool, _option("List what can be measured.", "--list")] = False,
) -> None:
    """Measure time and memory beside the libraries' own losses.

    The exit status is 1 if a measurement failed, 2 if there is nothing to measure. Ctrl-C keeps
    what has been measured, but fills no page.
    """
    from xp_xent.benchmarks import _lines, _machine, _page, _report, _tables
    from xp_xent.benchmarks._sections import SECTIONS, Settings
    from xp_xent.benchmarks._shapes import QUICK, SHAPES, Shape
    from xp_xent.benchmarks._timing import Effort

    _machine.prepare_libraries(dtype)
    try:
        chosen = tuple(map(Shape.parse, shape or ())) or (QUICK if quick else SHAPES)
        names = _known(section, tuple(SECTIONS))
        cases = _known(case, tuple(one.name for one in _lines.CASES)) if case else ()
        if write_docs:  # before the work, not after it
            _page.names(write_docs.read_text("utf-8"))
        effort = Effort(0.0, 2, 5, block=0.0) if quick else Effort(seconds, rounds)
        settings = Settings(dtype, effort, quick, cases, chosen, largest, large)
        if list_all:
            _list(settings, tuple(SECTIONS))
            return
        report = json.loads(read.read_text("utf-8")) if read else None
        if report is None or section:
            tasks = [(name, task) for name in names for task in SECTIONS[name](settings)]
            if not tasks:
                raise ValueError("nothing to measure: see --list")
            if _machine.load() > BUSY * _machine.processors():
                console.print("The machine is busy: do not believe the times.", style="red")
            with Progress(*Progress.get_default_columns(), console=console) as progress:
                measured = _report.execute(settings, tasks, progress)
            report = _report.merged(measured, report) if report else measured
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise typer.BadParameter(str(error)) from error
    if json_file:  # first: nothing after it can lose the measurements
        json_file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    console.print(Markdown(_tables.document(report)))
    if markdown:
        markdown.write_text(_tables.document(report), "utf-8")
    interrupted = report.get("interrupted")
    if write_docs and not interrupted:
        _page.write(write_docs, report)
    problems = _report.errors(report)
    for problem in problems:
        console.print(problem, style="red", highlight=False)
    if problems or (strict and _report.missed(report)):
        raise typer.Exit(1)
    if interrupted:
        raise typer.Exit(130)


def _known(wanted: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def _list(settings: Any, sections: tuple[str, ...]) -> None:
    from xp_xent.benchmarks._lines import lines

    found, absent = lines()
    said = [f"case {line.case.name}: {line.title}" for line in found]
    said += [f"case {name}: not here, {why}" for name, why in absent.items()]
    said += [f"shape {shape.option}" for shape in settings.shapes]
    console.print(f"sections: {', '.join(sections)}", *said, sep="\n", highlight=False)
