"""A report's tables, in Markdown: the blocks of the page, each by the function of its name."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import humanize
import numpy as np
import pandas as pd

from xp_xent.benchmarks._sections import Report
from xp_xent.benchmarks._shapes import ITEM_BYTES

Write = Callable[[Any], str]
NOTHING: Final = "None."
SOMETIMES: Final = ["bytes", "bytes_goal", "goal", "profile"]  # not in every run
LONGEST: Final = 50  # letters of a function's name


def seconds(value: float) -> str:
    return humanize.metric(value, "s", precision=3)


def size(value: float) -> str:
    return humanize.naturalsize(value, format="%.1f" if value < 1e7 else "%.0f")


def against(value: Any, goal: Any, write: Any = "{:.2f}".format, of: Any = "{:g}".format) -> str:
    """Write a value beside its goal, if it has one: bold if it is met."""
    if pd.isna(value):
        return "–"
    if pd.isna(goal):
        return write(value)
    bold = "**" if value <= goal else ""
    return f"{bold}{write(value)}{bold} {'≤' if bold else '>'} {of(goal)}"


def ratio(one: Any) -> str:
    return against(one.ratio, one.goal)


def frame(report: Report, section: str) -> pd.DataFrame:
    """Return the records of a section that were measured; empty where there are none."""
    records = report["sections"].get(section, ())
    found = pd.DataFrame([one for one in records if not {"error", "failed"} & set(one)])
    return found.reindex(columns=found.columns.union(SOMETIMES, sort=False))


def markdown(table: Any) -> str:
    """Write a table whose first column is text and whose others are numbers."""
    table = pd.DataFrame(table)
    if table.empty:
        return NOTHING
    align = ("left", *["right"] * (len(table.columns) - 1))
    return table.to_markdown(index=False, colalign=align, disable_numparse=True)


def grid(found: pd.DataFrame, of: Write, index: Any = "line", columns: str = "shape") -> str:
    """Write a line for each value of one column, and a column for each of another."""
    if found.empty:
        return NOTHING
    names = [found[index], found[columns]]
    cells = pd.Series([of(one) for one in found.itertuples()], names).unstack().fillna("–")
    wide = cells.reindex(names[0].unique(), columns=names[1].unique())
    return markdown(wide.rename_axis(index="", columns=None).reset_index())


def beside(report: Report, section: str) -> pd.DataFrame:
    """Return our records with the first peer's times, and the floor where it was measured.

    The floor is the fastest copy of that size that there was, or one exp an element.
    """
    found, limits = frame(report, section), frame(report, "limits")
    keys, compared = ["line", "shape"], ["ratio", "ratio_q1", "ratio_q3", "goal"]
    first = found[found["peer"] == 1].rename(columns={"median": "theirs"}).drop_duplicates(keys)
    ours = found[found["peer"] == 0].drop(columns=compared)
    ours = ours.merge(first[[*keys, "theirs", *compared]], on=keys)
    ours["copy"] = ours.groupby(["elements", "device", "dtype"])["copy"].transform("min")
    if not limits.empty:
        exp = limits.dropna(subset="exp_per_second").set_index("dtype")
        speed = exp["exp_per_second"] * exp["threads"]
        speed = speed.reindex(ours["dtype"]).fillna(speed["float32"]).to_numpy()
        exps = (ours["elements"] / speed).where(ours["device"] == "cpu")
        ours["floor"] = pd.concat([ours["copy"], exps], axis=1).astype(float).max(axis=1)
    return ours


def machine(report: Report) -> str:
    about = report["machine"]
    known = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    devices = "".join(f"; {library}: {what}" for library, what in about["devices"].items())
    return (
        f"{about['processor']}, {about['processors']} processors, {about['memory_gb']} GB, "
        f"{about['system']}{devices}. {known}. {report['settings']['dtype']}. Load before the run: "
        f"{about['load']}."
    )


def limits(found: pd.DataFrame) -> str:
    here = found["bytes_per_second"].map(lambda x: humanize.metric(x, "B/s"), na_action="ignore")
    exps = found["exp_per_second"].map(lambda x: humanize.metric(x, "/s"), na_action="ignore")
    return markdown({"limit": found["limit"], "here": here.fillna(exps)})


def times(one: Any) -> str:
    return f"{seconds(one.median)} / {seconds(one.theirs)}"


def floors(one: Any) -> str:
    return f"{one.median / one.floor:.1f} / {one.theirs / one.floor:.1f}"


def bandwidth(found: pd.DataFrame) -> str:
    copies = found.drop_duplicates(["shape", "device"])
    copies = copies.assign(line="a copy alone, " + copies["device"], median=np.nan)

    def of(one: Any) -> str:
        if pd.notna(one.median):
            return f"{one.copy / one.median:.0%}"
        return humanize.metric(2 * one.elements * ITEM_BYTES[one.dtype] / one.copy, "B/s")

    return grid(pd.concat([found, copies]), of)


def others(found: pd.DataFrame) -> str:
    found = found.query("peer > 1")
    return grid(found.assign(line=found["line"] + " / " + found["who"]), ratio)


def memory(found: pd.DataFrame) -> str:
    by_what = found.set_index("who").groupby("what")
    both = by_what.get_group("both")
    # A quick run has no loss alone.
    loss = by_what.filter(lambda one: one.name == "loss").reindex(both.index)
    return markdown({
        "": both.index, "loss and gradient": both["bytes"].map(size).array,
        "in gradients": [against(x.bytes / x.gradient_bytes, x.goal) for x in both.itertuples()],
        "loss alone": [against(one.bytes, one.goal, size, size) for one in loss.itertuples()],
    })  # fmt: skip


def linear(found: pd.DataFrame) -> str:
    goals = found["bytes_goal"].where(found["peer"] == 0)
    return markdown({
        "": found["line"].where(found["peer"] == 0, "… " + found["who"]),
        "time": found["median"].map(seconds),
        "ours / it": [ratio(one) if one.peer else "" for one in found.itertuples()],
        "extra memory": [against(x, goal, size, size)
                         for x, goal in zip(found["bytes"], goals, strict=True)],
    })  # fmt: skip


def profiles(found: pd.DataFrame) -> str:
    """Write where the time goes: in a cell that is above its goal, or in a tiny call."""
    rows = []
    for one in found.dropna(subset="profile").itertuples():
        for at, part in enumerate(one.profile):
            name = part["function"].replace("|", "/")  # a compiler's have bars, and are long
            rows.append({
                "": "" if at else f"{one.line}, {one.shape}",
                "function": f"`{name[:LONGEST]}{'…' * (len(name) > LONGEST)}`",
                "calls": f"{part['calls']:g}", "share of the time": f"{part['share']:.0%}",
            })  # fmt: skip
    return markdown(rows)


def overhead(found: pd.DataFrame) -> str:
    return markdown({
        found["shape"].iloc[0]: found["line"], "ours": found["median"].map(seconds),
        "the peer": found["theirs"].map(seconds), "ratio": found["ratio"].map("{:.2f}".format),
    })  # fmt: skip


def eager(found: pd.DataFrame) -> str:
    return markdown({
        "outside jit": found["what"] + ", " + found["shape"], "ours": found["median"].map(seconds),
        "optax": found["theirs"].map(seconds), "ratio": [ratio(x) for x in found.itertuples()],
        "first call": found["first"].map(seconds), "optax's": found["their_first"].map(seconds),
    })  # fmt: skip


def stats(found: pd.DataFrame) -> str:
    more = [against(x.more, x.more_goal, seconds, seconds) for x in found.itertuples()]
    return markdown({
        "with return_stats": found["line"] + ", " + found["shape"],
        "without": found["plain"].map(seconds), "more": more,
        "with / without": [ratio(x) for x in found.itertuples()],
    })  # fmt: skip


def here_and_there(found: pd.DataFrame) -> str:
    return markdown({
        "no newer option": found["line"] + ", " + found["shape"],
        "here": found["median"].map(seconds), "there": found["theirs"].map(seconds),
        "here / there": [ratio(x) for x in found.itertuples()],
        "of the rounds": found["ratio_q1"].map("{:.2f}".format) + "–"
        + found["ratio_q3"].map("{:.2f}".format),
    })  # fmt: skip


def compiling(found: pd.DataFrame) -> str:
    found = found.assign(line="compile time")
    return grid(found, lambda one: seconds(one.seconds), columns="rows")


def threads(found: pd.DataFrame) -> str:
    found["line"] = found["who"] + ", " + found["shape"]
    return grid(found, lambda one: seconds(one.median), columns="threads")


def scaling(found: pd.DataFrame) -> str:
    found["at about"] = "10^" + np.log10(found["elements"]).round().astype(int).astype(str)
    found["line"] = "ns an element, " + found["line"] + ", more " + found["curve"]
    found[["ns", "their_ns"]] = 1e9 * found[["median", "theirs"]].div(found["elements"], axis=0)
    return grid(found, "{0.ns:.3g} / {0.their_ns:.3g}".format, columns="at about")


def large(found: pd.DataFrame) -> str:
    return markdown({
        "float16 file": found["shape"], "elements": found["elements"].map(humanize.intcomma),
        "loss": found["seconds"].map(seconds), "file": found["file_bytes"].map(size),
        "memory beside it": found["bytes"].map(size),
    })  # fmt: skip


# block of the page -> the section, and another that it needs; how to read it; what writes it
BLOCKS: Final[dict[str, tuple[str, Any, Any]]] = {
    "machine": ("", lambda report, _: report, machine),
    "limits": ("limits", frame, limits),
    "table": ("table", beside, partial(grid, of=ratio)),
    "spreads": ("table", beside, partial(grid, of="{0.ratio_q1:.2f}–{0.ratio_q3:.2f}".format)),
    "times": ("table", beside, partial(grid, of=times)),
    "floors": ("table limits", beside, partial(grid, of=floors)),
    "bandwidth": ("table", beside, bandwidth),
    "others": ("table", frame, others),
    "memory": ("memory", frame, memory),
    "linear": ("linear", frame, linear),
    "compiling": ("compiling", frame, compiling),
    "profiles": ("table", frame, profiles),
    "overhead": ("overhead", beside, overhead),
    "overhead-profiles": ("overhead", frame, profiles),
    "eager": ("eager", frame, eager),
    "stats": ("stats", frame, stats),
    "against": ("against", frame, here_and_there),
    "threads": ("threads", frame, threads),
    "scaling": ("scaling", beside, scaling),
    "large": ("large", frame, large),
}


def blocks(report: Report) -> dict[str, str]:
    """Write every block whose sections have been measured."""
    measured = {name for name in report["sections"] if not frame(report, name).empty}
    return {
        name: write(read(report, needs.partition(" ")[0]))
        for name, (needs, read, write) in BLOCKS.items()
        if measured and set(needs.split()) <= measured
    }
