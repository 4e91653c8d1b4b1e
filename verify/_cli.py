"""The commands ``xp-xent backends``, ``diagnose`` and ``loss``."""

from typing import Annotated

import typer

from xp_xent.verify import _environment as environment
from xp_xent.verify import _shell as shell
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
