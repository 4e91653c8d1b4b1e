"""What the commands that read arrays share: their arguments, files, options, and how they end."""

import ast
import inspect
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from xp_xent.verify._files import Arrays
from xp_xent.verify._stored import BadInput

# The exit status of every command.
WELL, FOUND, UNUSABLE = 0, 1, 2

Files = Annotated[
    list[Path],
    typer.Argument(help=".npz, .safetensors, or .npy, whose array has the file's name.",
                   metavar="FILES", show_default=False),
]  # fmt: skip
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write what is said as JSON.", show_default=False),
]
LogitsName = Annotated[str, typer.Option("--logits", metavar="NAME", help="The logits' name.")]
TargetsName = Annotated[str, typer.Option("--targets", metavar="NAME", help="The targets' name.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", show_default=False,
                 help="An option of the loss, such as axis=1 or ignore_index=0; repeatable."),
]  # fmt: skip


def screen() -> Console:
    """Give the console that tables are printed to, 80 columns wide without a terminal."""
    return Console(highlight=False, markup=False)


def table(*headings: str, numbers: Sequence[str] = ()) -> Table:
    """Begin a table whose cells are shown whole, however narrow it is."""
    made = Table(box=None, pad_edge=False)
    for heading in headings:
        justify: Any = "right" if heading in numbers else "left"
        made.add_column(heading, overflow="fold", justify=justify)
    return made


@contextmanager
def usable() -> Iterator[None]:
    """End the command with status 2 and one line that says why an input cannot be used."""
    try:
        yield
    except (BadInput, MemoryError) as error:
        why = " ".join(str(error).split()) or "the memory is not enough"
        typer.echo(f"xp-xent: {why}", err=True)
        raise typer.Exit(UNUSABLE) from error


@contextmanager
def steps(what: str, total: int, arrays: Arrays | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far a long walk has come, on a terminal's standard error; give what advances it.

    Of the arrays that are walked, what has been read is let go.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
               TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with progress:
        task = progress.add_task(what, total=total)

        def advance(done: int) -> None:
            progress.advance(task, done)
            if arrays is not None:
                arrays.release()

        yield advance


@contextmanager
def complete(file: Path) -> Iterator[Path]:
    """Give a place to write a file, which takes its name only when it is complete."""
    file = file.resolve()  # a link stays one
    try:
        handle, name = tempfile.mkstemp(
            dir=file.parent, prefix=f".{file.stem}-", suffix=file.suffix
        )
    except OSError as error:
        raise unwritable(file, error) from error
    os.close(handle)
    place = Path(name)
    try:
        yield place
        umask = os.umask(0)
        os.umask(umask)
        place.chmod(0o666 & ~umask)  # as any new file; a temporary one is its owner's alone
        place.replace(file)
    except OSError as error:
        raise unwritable(file, error) from error
    finally:
        place.unlink(missing_ok=True)


def unwritable(file: Path, error: OSError) -> BadInput:
    """Give the refusal of a file that cannot be written."""
    return BadInput(f"{file}: cannot be written: {error.strerror or error}")


def writable(*files: Path | None) -> None:
    """Refuse a file that cannot be written, before the work and not after it."""
    for file in files:
        if file is None:
            continue
        whole = file.resolve()
        if not os.access(whole.parent, os.W_OK) or (whole.exists() and not whole.is_file()):
            raise BadInput(f"{file}: cannot be written: wanted a file, in a folder that can be")


def write_json(file: Path | None, report: Any) -> None:
    """Write a report as JSON; what is not finite, as the words that JavaScript has for it."""
    if file is not None:
        text = json.dumps(_plain(report), indent=1, ensure_ascii=False, allow_nan=False)
        with complete(file) as place:
            place.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
    return value


UNASKED = ("return_stats",)  # what a loss has and no command asks for: other results


def options(
    texts: Sequence[str] | None, loss: Callable[..., Any], without: Sequence[str] = ()
) -> dict[str, Any]:
    """Read options of a loss, ``name=value``.

    Parameters
    ----------
    texts : sequence of str or None
    loss : callable
        Whose keyword-only parameters they are.
    without : sequence of str
        Parameters that are no options here: arrays, which files hold.

    Raises
    ------
    BadInput
        No option of the loss, one that is given twice, or no value.
    """
    parameters = inspect.signature(loss).parameters.values()
    left_out = {*without, *UNASKED}
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in left_out]
    found: dict[str, Any] = {}
    for text in texts or ():
        name, given, value = text.partition("=")
        if name not in known:
            raise BadInput(f"--option {text}: {name!r} is none of {', '.join(known)}")
        if not given or not value or name in found:
            raise BadInput(f"--option {text}: wanted one {name}=VALUE")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """Read a number, None, or a word."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
