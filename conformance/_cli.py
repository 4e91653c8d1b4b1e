"""The command ``xp-xent``; needs the extra ``cli``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
console = Console()


@app.callback()
def root() -> None:
    """Judge and measure cross-entropy losses."""


def prepare_libraries() -> None:
    """Set what JAX and dpnp read when they are imported."""
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if opencl.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(opencl))


def _file(kind: str) -> Any:
    return typer.Option(help=f"Write the report as {kind}.", dir_okay=False, writable=True)


@app.command()
def conformance(
    subject: Annotated[
        list[str] | None, typer.Option(help="Judge those whose name contains this; repeatable.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Judge those on this array library; repeatable.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Ask the tests of this topic only; repeatable.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON.", dir_okay=False)
    ] = None,
    html: Annotated[Path | None, _file("one HTML page")] = None,
    markdown: Annotated[Path | None, _file("Markdown")] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="Add the subjects of an earlier JSON report.", exists=True),
    ] = None,
    list_subjects: Annotated[bool, typer.Option("--list", help="List who can be judged.")] = False,
) -> None:
    """Judge this library and its installed peers by certified vectors.

    The exit status is 1 if a test failed, 2 if nobody is left to ask.
    """
    prepare_libraries()
    from xp_xent.conformance._run import every, run
    from xp_xent.conformance._subjects import subjects

    found, absent = subjects()
    chosen = [one for one in _named(found, subject or []) if not backend or one.backend in backend]
    cases = [case for case in every() if not topic or case.topic in topic]
    if list_subjects:
        _list(found, absent)
        return
    if not cases or (not chosen and not merge):
        console.print("Nobody to ask, or nothing: see --list.")
        raise typer.Exit(2)
    reports = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[failed]} failed"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress:
        for one in chosen:
            task = progress.add_task(one.name, total=len(cases), failed=0)
            failed = 0

            def step(result: Any, task: Any = task) -> None:
                nonlocal failed
                failed += result.outcome == "failed"
                progress.update(task, advance=1, failed=failed)

            reports.append(run(one, cases=cases, progress=step))
    _write(reports, absent, merge or [], json_file, html, markdown)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _named(found: Any, wanted: list[str]) -> Any:
    """Choose subjects: by the whole name if there is such a one, else by a part of it."""
    names = {one.name for one in found}
    return [
        one
        for one in found
        if not wanted
        or any(one.name == x or (x not in names and x.lower() in one.name.lower()) for x in wanted)
    ]


def _list(found: Any, absent: Any) -> None:
    for one in found:
        console.print(f"{one.name}  (backend {one.backend})", highlight=False)
    for name, why in absent.items():
        console.print(f"{name}: not here, {why}", highlight=False)


def _write(
    reports: Any,
    absent: Any,
    merge: list[Path],
    json_file: Path | None,
    html: Path | None,
    markdown: Path | None,
) -> None:
    """Write the files, and a table to the terminal."""
    from xp_xent.conformance import _report

    said = _report.summary(reports, absent)
    for earlier in merge:
        said = _report.merged(said, json.loads(earlier.read_text(encoding="utf-8")))
    writers = ((json_file, _report.to_json), (html, _report.to_html),
               (markdown, _report.to_markdown))  # fmt: skip
    for path, write in writers:
        if path is not None:
            path.write_text(write(said), encoding="utf-8")
            console.print(f"wrote {path}", highlight=False)
    table = Table("subject", box=None)
    for heading in ("passed", "failed", "by design", "unsupported"):
        table.add_column(heading, justify="right")
    for one in said["subjects"]:
        counts = one["counts"]
        numbers = (str(counts[k]) for k in ("passed", "failed", "by_design", "unsupported"))
        table.add_row(one["name"], *numbers, style="red" if counts["failed"] else None)
    console.print(table)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
