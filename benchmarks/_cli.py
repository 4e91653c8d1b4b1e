"""The command ``xp-xent bench``."""

import json
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress
from typer import BadParameter, Exit, Option

console = Console()


def bench(
    section: Annotated[list[str] | None, Option(help="Measure this section; repeatable.")] = None,
    case: Annotated[list[str] | None, Option(help="Measure this line; repeatable.")] = None,
    shape: Annotated[list[str] | None, Option(help="Such as 64x10 or 4x21x64x64@1.")] = None,
    dtype: Annotated[str, Option(help="Of the logits.")] = "float32",
    quick: Annotated[bool, Option(help="Tiny shapes, few rounds: does it work?")] = False,
    seconds: Annotated[float, Option(help="To spend on each cell, at least.")] = 4.0,
    json_file: Annotated[Path | None, Option("--json", help="Write JSON.")] = None,
    write_docs: Annotated[Path | None, Option(help="Fill the page's blocks.")] = None,
    read: Annotated[Path | None, Option(help="An earlier JSON; only named sections run.")] = None,
    large: Annotated[Path | None, Option(help="A folder with 4.3 GB for a file.")] = None,
    against: Annotated[
        Path | None, Option(help="A Python with another revision, for section against.")
    ] = None,
) -> None:
    """Measure time and memory beside the libraries' own losses.

    The exit status is 1 if a measurement failed, 2 if there is nothing to measure. Ctrl-C keeps
    what has been measured, but fills no page.
    """
    from xp_xent.benchmarks import _machine, _page, _sections, _tables
    from xp_xent.benchmarks._sections import SECTIONS, Settings
    from xp_xent.benchmarks._shapes import SHAPES, Shape
    from xp_xent.benchmarks._timing import Effort
    from xp_xent.benchmarks._ways import CASES

    _machine.prepare_libraries(dtype)
    try:
        chosen = tuple(map(Shape.parse, shape or ())) or SHAPES[: 1 if quick else None]
        names = _known(section, list(SECTIONS))
        cases = _known(case, [one.case for one in CASES])
        if write_docs:  # before the work, not after it
            _page.names(write_docs.read_text("utf-8"))
        effort = Effort(0.0, 2, 5, block=0.0) if quick else Effort(seconds)
        settings = Settings(dtype, effort, quick, cases, chosen, large, against)
        report = json.loads(read.read_text("utf-8")) if read else None
        if report is None or section:
            tasks = [(name, task) for name in names for task in SECTIONS[name](settings)]
            if not tasks:
                raise ValueError("nothing to measure here")
            with Progress(*Progress.get_default_columns(), console=console) as progress:
                measured = _sections.execute(settings, tasks, progress)
            report = _sections.merged(measured, report) if report else measured
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadParameter(str(error)) from error
    if json_file:  # first: nothing after it can lose the measurements
        json_file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, text in _tables.blocks(report).items():
        console.print(Markdown(f"## {name}\n\n{text}"))
    interrupted = report.get("interrupted")
    if write_docs and not interrupted:
        _page.write(write_docs, report)
    problems = [one for found in report["sections"].values() for one in found if "error" in one]
    for one in problems:
        console.print(f"{one['label']}: {one['error']}", style="red", highlight=False)
    if problems or interrupted:
        raise Exit(1 if problems else 130)


def _known(wanted: list[str] | None, known: list[str]) -> list[str]:
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return [name for name in known if not wanted or name in wanted]
