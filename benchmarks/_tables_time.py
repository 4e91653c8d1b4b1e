"""The tables of times beside the peers'."""

from __future__ import annotations

from typing import Any, Final

from xp_xent.benchmarks._shapes import ITEM_BYTES
from xp_xent.benchmarks._text import Record, against, beside_copy, floor, good, grid, rows, seconds

Report = dict[str, Any]
LONGEST: Final = 50  # letters of a function's name


def _ratio(one: Record) -> str:
    found = one["peers"][0]["ratio"]["median"]
    return against(f"{found:.2f}", found, one["goal"])


def table(report: Report) -> str:
    """Write the ratios beside their goals; bold where the goal is met."""
    return grid(good(report["sections"]["table"]), _ratio)


def spreads(report: Report) -> str:
    """Write the quartiles of the rounds' ratios."""
    return grid(
        good(report["sections"]["table"]),
        lambda one: "{q1:.2f}–{q3:.2f}".format(**one["peers"][0]["ratio"]),
    )


def times(report: Report) -> str:
    """Write the medians: ours / the peer's."""
    return grid(
        good(report["sections"]["table"]),
        lambda one: f"{seconds(one['ours']['median'])} / {seconds(one['peers'][0]['median'])}",
    )


def floors(report: Report) -> str:
    """Write how many times the floor each line takes, and its peer."""
    (limits,) = good(report["sections"]["limits"])

    def of(one: Record) -> str:
        least = floor(one, limits)
        return f"{one['ours']['median'] / least:.1f} / {one['peers'][0]['median'] / least:.1f}"

    return grid(beside_copy(report["sections"]["table"]), of)


def bandwidth(report: Report) -> str:
    """Write the share of the measured copy bandwidth that each line reaches, and the copy itself.

    A copy reads the logits once and writes as much once, where they are.
    """
    records = beside_copy(report["sections"]["table"])
    copies = [one | {"line": f"a copy alone, {one['device']}"} for one in records]

    def of(one: Record) -> str:
        if one["line"].startswith("a copy"):
            moved = 2 * one["elements"] * ITEM_BYTES[one["dtype"]]
            return f"{moved / one['copy']['median'] / 1e9:.3g} GB/s"
        return f"{100 * one['copy']['median'] / one['ours']['median']:.0f}%"

    return grid(records + copies, of)


def others(report: Report) -> str:
    """Write the ratios to further peers, a line for each."""
    found = [
        one | {"line": f"{one['line']} / {peer['name']}", "peers": [peer], "goal": None}
        for one in good(report["sections"]["table"])
        for peer in one["peers"][1:]
    ]
    return grid(found, _ratio)


def _code(name: str) -> str:
    """Write a function's name into a cell; a compiler's names are long and have bars."""
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    return f"`{name.replace('|', '/')}`"


def _profile(one: Record) -> list[list[str]]:
    named = [f"{one['line']}, {one['shape']}"]
    return [
        [*(named if i == 0 else [""]), _code(x["function"]), f"{x['calls']:g}", f"{x['share']:.0%}"]
        for i, x in enumerate(one["profile"])
    ]


_PROFILE_HEADING = ("", "function", "calls", "share of the time")


def profiles(report: Report) -> str:
    """Write where the time goes in the cells that are above their goal."""
    found = [one for one in good(report["sections"]["table"]) if "profile" in one]
    return rows(_PROFILE_HEADING, [line for one in found for line in _profile(one)])


def overhead(report: Report) -> str:
    """Write the times of a tiny call."""
    body = [
        [
            one["line"], seconds(one["ours"]["median"]), seconds(one["peers"][0]["median"]),
            f"{one['peers'][0]['ratio']['median']:.2f}",
        ]
        for one in good(report["sections"]["overhead"])
    ]  # fmt: skip
    return rows(["4×3", "ours", "the peer", "ratio"], body)


def overhead_profiles(report: Report) -> str:
    """Write where the time of a tiny call goes."""
    found = [one for one in good(report["sections"]["overhead"]) if "profile" in one]
    return rows(_PROFILE_HEADING, [line for one in found for line in _profile(one)])
