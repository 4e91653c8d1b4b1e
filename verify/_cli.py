"""The commands ``xp-xent backends``, ``diagnose`` and ``loss``."""

import math
from pathlib import Path
from typing import Annotated

import typer

from xp_xent import cross_entropy
from xp_xent.functions.diagnose import looked
from xp_xent.verify import _environment as environment
from xp_xent.verify import _measures as measures
from xp_xent.verify import _report as report
from xp_xent.verify import _shell as shell
from xp_xent.verify._files import read
from xp_xent.verify._pair import pair
from xp_xent.verify._stored import BadInput


def backends(
    backend: Annotated[
        list[str] | None, typer.Option(help="Ask this library only; repeatable.")
    ] = None,
    json_file: shell.JsonFile = None,
) -> None:
    """Show the array libraries that are installed here and what works on them.

    Each is imported and asked for a loss, its gradient and its curvature, in every dtype on every
    device. Below the table stands what would make more of them work.

    The exit status is 0, or 1 if a library that is installed has no loss in a dtype that it offers,
    or 2 if no library has that name.
    """
    with shell.usable():
        shell.writable(json_file)
        known = environment.names()
        if unknown := [name for name in backend or () if name not in known]:
            raise BadInput(f"--backend {unknown[0]}: wanted one of {', '.join(known)}")
        chosen = [name for name in known if not backend or name in backend]
        found = []
        with shell.steps("asking", len(chosen)) as advance:
            for name in chosen:
                found.append(environment.look(name))
                advance(1)
        shell.write_json(json_file, {"backends": [_as_json(one) for one in found]})
    table = shell.table("library", "version", "device", "dtypes", "works")
    for one in found:
        for row in _rows(one):
            table.add_row(*row)
    screen = shell.screen()
    screen.print(table)
    notes = shell.table("library", "missing")
    for one in found:
        for note in _notes(one):
            notes.add_row(one.name, note)
    if notes.row_count:
        screen.print()
        screen.print(notes)
    raise typer.Exit(shell.FOUND if any(one.fails for one in found) else shell.WELL)


def _rows(one: environment.Found) -> list[tuple[str, ...]]:
    """Give a row for what works, the devices and dtypes that do the same together."""
    if not one.usable:
        return [(one.name, one.version or "–", "–", "–", "not usable" if one.version else "absent")]
    dtypes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for place in one.places:
        dtypes.setdefault((place.device, place.works), []).append(place.dtype)
    devices: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (device, works), names in dtypes.items():
        devices.setdefault((" ".join(names), works), []).append(device)
    return [
        (one.name, one.version or "–", " ".join(where), names, ", ".join(works) or "nothing")
        for (names, works), where in devices.items()
    ]


def _notes(one: environment.Found) -> list[str]:
    problems = [f"{p.dtype} on {p.device}: {p.problem}" for p in one.places if p.problem]
    return [*problems, *one.missing]


def _as_json(one: environment.Found) -> dict[str, object]:
    return {
        "name": one.name,
        "version": one.version,
        "usable": one.usable,
        "places": [
            {"device": p.device, "dtype": p.dtype, "works": p.works, "problem": p.problem or None}
            for p in one.places
        ],
        "missing": one.missing,
    }


def diagnose(
    files: shell.Files,
    logits: shell.LogitsName = "logits",
    targets: shell.TargetsName = "targets",
    option: shell.Options = None,
    json_file: shell.JsonFile = None,
) -> None:
    """Look for common mistakes in logits and targets.

    Each finding says how it was seen, what it costs and which line mends it. They are suspicions:
    a loss takes all of this. The options are axis= and ignore_index=.

    \b
    xp-xent diagnose batch.npz
    xp-xent diagnose logits.npy labels.npy --targets labels --option axis=1

    The exit status is 0 if nothing looks wrong, 1 if something does, 2 if the files cannot be used.
    """  # noqa: D301  (\b keeps the lines below it as they are)
    with shell.usable():
        shell.writable(json_file)
        options = shell.options(option, _diagnosed)
        arrays = read(files)
        one = pair(arrays, logits, targets, options, strict=False)
        walking = shell.steps("looking", math.prod(one.shape), arrays)
        with walking as advance, arrays.asked(logits=logits, targets=targets):
            z, y = arrays[logits], arrays[targets]
            found = looked(z, y, one.axis, one.ignore_index, advance)
        findings = [
            {"code": f.code, "message": f.message, "cost": f.cost, "mend": f.mend} for f in found
        ]
        rows = math.prod(one.shape)
        said = {"rows": rows, "classes": one.classes, "findings": findings}
        shell.write_json(json_file, said)
    screen = shell.screen()
    if not found:
        screen.print(f"Nothing looks wrong in {rows} rows of {one.classes} classes.")
        raise typer.Exit(shell.WELL)
    table = shell.table("finding", "", "")
    for finding in found:
        table.add_row(finding.code, "seen", finding.message)
        table.add_row("", "costs", finding.cost)
        table.add_row("", "mend", finding.mend, end_section=True)
    screen.print(table)
    raise typer.Exit(shell.FOUND)


def _diagnosed(*, axis: int = -1, ignore_index: int | None = -100) -> None:
    """Stand for the options of `diagnose`."""


def loss(
    files: shell.Files,
    logits: shell.LogitsName = "logits",
    targets: shell.TargetsName = "targets",
    option: shell.Options = None,
    total_bytes: Annotated[
        float | None,
        typer.Option("--bytes", min=0, help="Of the text that the rows are: for bits per byte.",
                     show_default=False),
    ] = None,
    classes: Annotated[int, typer.Option(min=0, help="Classes in the table, at most.")] = 20,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False,
                     help="Draw loss by class, reliability and losses: .png, .svg or .pdf."),
    ] = None,
    json_file: shell.JsonFile = None,
) -> None:  # fmt: skip
    """Compute the cross-entropy of logits and targets, and what goes with it.

    Beside logits and targets, the arrays weight (of classes), sample_weight, where (True: the row
    counts), class_where (True: the class takes part) and bytes (of each row's text, or of all) are
    used where the files have them.

    \b
    loss               the mean, with the options, in nats
    perplexity         exp of the mean without smoothing, z-loss and class weights
    bits per byte      of the text, where bytes are given
    accuracy           share of rows whose largest logit is the label's
    calibration error  mean distance of confidence and accuracy, in 15 bins

    Below stands what each class costs. Several .npy files, other names, options of cross_entropy:

    \b
    xp-xent loss dump.npz --plot loss.png
    xp-xent loss z.npy y.npy --logits z --targets y --option label_smoothing=0.1

    The exit status is 0, or 1 if the loss of some row is NaN or infinite, or 2 if the files cannot
    be used.
    """  # noqa: D301
    with shell.usable():
        shell.writable(json_file, plot)
        if plot is not None:
            from xp_xent.verify import _plots as plots

            plots.check(plot)
        options = shell.options(option, cross_entropy, (*measures.ARRAYS, "reduction"))
        one = pair(read(files), logits, targets, options)
        with shell.steps("walking", math.prod(one.shape), one.arrays) as advance:
            found = measures.measure(one, options, total_bytes, advance)
        if not found.rows:
            raise BadInput(f"{one.arrays.of(targets)}: got no row that counts, wanted one")
        shell.write_json(json_file, report.as_json(found))
        if plot is not None:
            plots.draw(found, plot)
    report.show(found, classes, math.prod(one.shape))
    raise typer.Exit(shell.FOUND if found.broken else shell.WELL)
