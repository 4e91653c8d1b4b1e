"""The command ``xp-xent``; needs the extra ``cli``."""

from __future__ import annotations

import json
import os
import sys
from functools import reduce
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
        list[str] | None,
        typer.Option(help="Judge the one of this name, or those whose name has it; repeatable."),
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Judge those on this array library; repeatable.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Ask the tests of this topic only; repeatable.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Judge each in a process of its own, so many at a time; Keras on every backend.",
        ),
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
    from xp_xent.conformance import _report
    from xp_xent.conformance._run import every
    from xp_xent.conformance._subjects import subjects

    found, absent = subjects()
    if list_subjects:
        _list(found, absent)
        return
    _refuse_unwritable(json_file, html, markdown)
    cases = [case for case in every() if not topic or case.topic in topic]
    names = _chosen(found, absent if jobs else {}, subject or [], backend or [])
    if not cases or (not names and not merge):
        console.print("Nobody to ask, or nothing: see --list.", highlight=False)
        raise typer.Exit(2)
    earlier = [_earlier(path) for path in merge or []]
    if jobs:
        reports, lost = _apart(names, topic or [], jobs)
    else:
        reports, lost = [_here([one for one in found if one.name in names], cases)], {}
    said = reduce(_report.merged, [*reports, *earlier, _report.summary([], absent | lost)])
    _write(said, {"to_json": json_file, "to_html": html, "to_markdown": markdown})
    if lost or any(one["counts"]["failed"] for report in reports for one in report["subjects"]):
        raise typer.Exit(1)


def _chosen(found: Any, absent: Any, wanted: list[str], on: list[str]) -> list[str]:
    """Choose subjects: by the whole name if there is such a one, else by a part of it."""
    known = {one.name: one.backend for one in found}
    # Keras runs on another backend in another process.
    known |= {name: name.rpartition(" ")[2] for name, why in absent.items()
              if name.startswith("Keras on ") and "in this process" in why}  # fmt: skip
    if unknown := set(on) - set(known.values()):
        console.print(f"No subject is on {', '.join(sorted(unknown))}.", highlight=False)
        raise typer.Exit(2)
    names: list[str] = []
    for x in wanted or known:
        own = [x] if x in known else [name for name in known if x.lower() in name.lower()]
        if not own:
            console.print(f"No subject has {x!r} in its name: see --list.", highlight=False)
            raise typer.Exit(2)
        names += [name for name in own if name not in names]
    return [name for name in known if name in names and (not on or known[name] in on)]


def _refuse_unwritable(*paths: Path | None) -> None:
    """Find out before a long run that its report could not be written."""
    for path in paths:
        try:
            if path is not None:
                path.touch()
        except OSError as error:
            console.print(f"{path} cannot be written: {error.strerror}.", highlight=False)
            raise typer.Exit(2) from error


def _earlier(path: Path) -> Any:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return report | {"subjects": report["subjects"]}
    except (ValueError, KeyError, TypeError) as error:
        console.print(f"{path} is no report in JSON.", highlight=False)
        raise typer.Exit(2) from error


def _here(chosen: Any, cases: Any) -> Any:
    """Judge in this process."""
    from xp_xent.conformance import _report
    from xp_xent.conformance._run import run

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
    return _report.summary(reports)


def _apart(names: list[str], topics: list[str], jobs: int) -> Any:
    """Judge in processes of their own."""
    from xp_xent.conformance._apart import judge_apart

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("subjects", total=len(names))

        def told(name: str, report: Any) -> None:
            if not isinstance(report, str):
                report = f"{report['subjects'][0]['counts']['failed']} failed"
            progress.console.print(f"{name}: {report}", highlight=False)
            progress.update(task, advance=1)

        return judge_apart(names, topics, jobs, told)


def _list(found: Any, absent: Any) -> None:
    for one in found:
        console.print(f"{one.name}  (backend {one.backend})", highlight=False)
    for name, why in absent.items():
        console.print(f"{name}: not here, {why}", highlight=False)


def _write(said: Any, paths: dict[str, Path | None]) -> None:
    """Write the files, and a table to the terminal."""
    from xp_xent.conformance import _writers

    for way, path in paths.items():
        if path is not None:
            path.write_text(getattr(_writers, way)(said), encoding="utf-8")
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
