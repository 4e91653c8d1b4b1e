"""The command ``xp-xent verify``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import xp_xent
from xp_xent import backends as libraries
from xp_xent.verify import _shell as shell
from xp_xent.verify._compare import judged
from xp_xent.verify._files import Arrays, read
from xp_xent.verify._own import prepare
from xp_xent.verify._problem import ARRAYS, LOSSES
from xp_xent.verify._result import Result, explained, number, place, ulps
from xp_xent.verify._stored import BadInput

INPUTS = ("logits", "targets", *ARRAYS)
CLAIMS = ("loss", "gradient")


def _named(what: str) -> Any:
    return typer.Option(metavar="NAME", help=f"The claimed {what}'s name.")


def _given(metavar: str, text: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, show_default=False)


As = Annotated[
    list[str] | None,
    _given("NAME=FILE", "A framework's file: its arrays become loss.NAME, …; repeatable.", "--as"),
]
Value = Annotated[str | None, _given("NUMBER", "A claimed loss, with the digits that are known.")]
Backend = Annotated[
    list[str] | None,
    _given("NAME", "Compute on this library; repeatable. Default: all that are installed."),
]
Plot = Annotated[
    Path | None,
    _given("FILE", "Draw where gradients differ, row by class; .png, .svg or .pdf."),
]


def verify(
    files: shell.Files,
    of: As = None,
    logits: shell.LogitsName = "logits",
    targets: shell.TargetsName = "targets",
    loss: Annotated[str, _named("loss")] = "loss",
    gradient: Annotated[str, _named("gradient")] = "gradient",
    loss_value: Value = None,
    option: shell.Options = None,
    loss_function: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {', '.join(LOSSES)}.")
    ] = "cross_entropy",
    backend: Backend = None,
    json_file: shell.JsonFile = None,
    plot: Plot = None,
) -> None:
    """Find out whether pipelines compute the same loss, and what the other side did if not.

    The files hold logits and targets, weight, sample_weight, where and class_where if the loss has
    them, and what others computed: loss (one number, or one a row) and gradient, as loss.NAME and
    gradient.NAME for several, with their own logits.NAME, targets.NAME, … where these differ.

    \b
    xp-xent verify batch.npz --as torch=torch.npz --as jax=jax.npz
    xp-xent verify batch.npz --loss-value 0.6931 --option ignore_index=0

    The exit status is 0 if all agree, 1 if a claim or an input is off, explained or not, 2 if the
    input cannot be used.
    """  # noqa: D301  (\b keeps the lines below it as they are)
    prepare()
    with shell.usable():
        shell.writable(json_file, plot)
        if loss_function not in LOSSES:
            raise BadInput(f"--loss-function {loss_function}: wanted one of {', '.join(LOSSES)}")
        without = (*ARRAYS, "ignore_index") if "binary" in loss_function else ARRAYS
        options = shell.options(option, getattr(xp_xent, loss_function), without)
        names = _backends(backend)
        arrays = read(files, _sides(of))
        renamed = {logits: "logits", targets: "targets", loss: "loss", gradient: "gradient"}
        given, sides = _sorted(arrays, {r: n for r, n in renamed.items() if r != n}, loss_value)
        with (
            _files_named(arrays, {n: r for r, n in renamed.items()}),
            shell.steps("verifying", int(given["logits"].size), arrays) as advance,
        ):
            result, pictures = judged(given, sides, loss_function, names, options, advance)
        shell.write_json(json_file, result.to_json())
        if plot is not None:
            from xp_xent.verify._picture import draw

            with shell.complete(plot) as file:
                draw(file, pictures)
    show(result)
    raise typer.Exit(shell.WELL if result.agrees else shell.FOUND)


@contextmanager
def _files_named(arrays: Arrays, names: dict[str, str]) -> Iterator[None]:
    """Put the file before the array that a refusal begins with."""
    try:
        yield
    except BadInput as error:
        argument, colon, why = str(error).partition(": ")
        name = names.get(argument, argument)
        raise BadInput(
            f"{arrays.of(name)}: {why}" if colon and name in arrays else str(error)
        ) from error


def _backends(wanted: list[str] | None) -> tuple[str, ...]:
    names = libraries.installed()
    for name in wanted or ():
        if name not in names:
            raise BadInput(f"--backend {name}: wanted one of {', '.join(names)}, installed here")
    return tuple(wanted or names)


def _sides(texts: list[str] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts or ():
        name, given, file = text.partition("=")
        if not given or not name or "." in name or name in found:
            raise BadInput(f"--as {text}: wanted NAME=FILE, each NAME once and without a dot")
        found[name] = Path(file)
    return found


def _sorted(
    arrays: Arrays, renamed: dict[str, str], value: str | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Sort arrays into the common inputs and the sides."""
    given: dict[str, Any] = {}
    sides: dict[str, dict[str, Any]] = {"": {}}
    for own_name, array in arrays.items():
        stem, _, side = own_name.partition(".")
        name = renamed.get(own_name, renamed.get(stem, stem))
        if own_name in renamed:
            side = ""
        elif stem not in renamed and stem in renamed.values():
            continue  # another array has that part
        if name in INPUTS and not side:
            given[name] = array
        elif name in (*INPUTS, *CLAIMS):
            sides.setdefault(side, {})[name] = array
    # With no common input, the first side that has one lends it.
    for name in ("logits", "targets", *ARRAYS):
        if name not in given:
            lent = next((side[name] for side in sides.values() if name in side), None)
            if lent is not None:
                given[name] = lent
    back = {n: r for r, n in renamed.items()}
    for name in ("logits", "targets"):
        if name not in given:
            given[name] = arrays.wanted(back.get(name, name), f"--{name}")
    if value is not None:
        if "loss" in sides[""]:
            raise BadInput(f"--loss-value {value}: there is a loss already, {arrays.of('loss')}")
        sides[""]["loss"] = value
    if not any(claim in side for side in sides.values() for claim in CLAIMS):
        sides = {name: side for name, side in sides.items() if side} or {"": {}}
    return given, sides


def show(result: Result) -> None:
    """Print the table, and below it what explains the claims that are off."""
    screen = shell.screen()
    screen.print(table(result))
    for line in notes(result):
        screen.print(line, soft_wrap=False)


def table(result: Result) -> Table:
    """Give one table: who, loss, error of the loss, and of the gradient with its place."""
    made = shell.table("who", "loss", "ULP", "gradient, worst ULP", "verdict",
                       numbers=("loss", "ULP", "gradient, worst ULP"))  # fmt: skip
    made.add_row("truth", number(result.loss), "", "", "")
    for one in result.backends:
        slope = ulps(one.gradient_ulp) + (f" at {place(one.where)}" if one.where else "")
        verdict = one.problem or ("agrees" if one.agrees else "off")
        who = f"xp_xent, {one.name}"
        made.add_row(who, number(one.loss), ulps(one.loss_ulp), slope, verdict)
    for claim in result.claims:
        where = f" at {place(claim.where)}" if claim.where else ""
        loss_ulp = ulps(claim.ulp) + where if claim.kind == "loss" else ""
        slope = ulps(claim.ulp) + where if claim.kind == "gradient" else ""
        loss = number(claim.loss) if claim.kind == "loss" else ""
        made.add_row(claim.who, loss, loss_ulp, slope, "agrees" if claim.agrees else "off")
    return made


def notes(result: Result) -> list[str]:
    """Give the lines below the table: claims of one side with one explanation are told together."""
    lines = [f"truth by {result.method}"]
    lines += [str(one) for one in result.inputs]
    told: dict[tuple[str, ...], list[str]] = {}
    for claim in result.claims:
        if not claim.agrees:
            told.setdefault(tuple(explained(claim, result.asked)), []).append(claim.who)
    for sentences, who in told.items():
        first, *rest = sentences or ("off",)
        lines += [f"{' and '.join(who)}: {first}", *(f"  {line}" for line in rest)]
    return lines
