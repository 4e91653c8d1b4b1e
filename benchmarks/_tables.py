"""A report's tables, in Markdown: the blocks of the page, each by the function of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import humanize
import numpy as np
import pandas as pd

from xp_xent.benchmarks._report import Report, frame
from xp_xent.benchmarks._shapes import ITEM_BYTES

NOTHING: Final = "None."
LONGEST: Final = 50  # letters of a function's name


def seconds(value: float) -> str:
    return humanize.metric(value, "s", precision=3)


def size(value: float) -> str:
    return humanize.naturalsize(value, format="%.1f" if value < 1e7 else "%.0f")


def against(text: str, value: float, goal: Any, named: Any = "{:g}".format) -> str:
    """Write a value beside its goal, if it has one: bold if it is met."""
    if pd.isna(goal):
        return text
    return f"**{text}** ≤ {named(goal)}" if value <= goal else f"{text} > {named(goal)}"


def ratio(one: Any) -> str:
    return against(f"{one.ratio:.2f}", one.ratio, getattr(one, "goal", None))


def markdown(table: pd.DataFrame) -> str:
    """Write a table whose first column is text and whose others are numbers."""
    if table.empty:
        return NOTHING
    align = ("left", *["right"] * (len(table.columns) - 1))
    return table.to_markdown(index=False, colalign=align, disable_numparse=True)


def grid(cells: pd.DataFrame, of: Callable[[Any], str], index: str, columns: str) -> str:
    """Write a line for each value of one column, and a column for each of another."""
    if cells.empty:
        return NOTHING
    cells = cells.assign(cell=[of(one) for one in cells.itertuples()])
    wide = cells.pivot(index=index, columns=columns, values="cell").fillna("–")
    wide = wide.reindex(index=cells[index].unique(), columns=cells[columns].unique())
    return markdown(wide.rename_axis(index="", columns=None).reset_index())


def beside(report: Report, section: str) -> pd.DataFrame:
    """Return our records with the first peer's times, and the floor where it was measured.

    The floor is the fastest copy of that size that there was, or one exp an element.
    """
    found = frame(report, section)
    if found.empty:
        return found
    keys, named = ["line", "shape"], {"median": "theirs"}
    first = found[found["peer"] == 1].rename(columns=named)
    first = first[[*keys, "theirs", *(c for c in first if c.startswith(("ratio", "goal")))]]
    ours = found[found["peer"] == 0].drop(columns=[*set(first) & set(found) - set(keys)])
    ours = ours.merge(first.drop_duplicates(keys), on=keys)
    ours["copy"] = ours.groupby(["elements", "device", "dtype"])["copy"].transform("min")
    limits = frame(report, "limits")
    if not limits.empty:
        exp = limits.dropna(subset="exp_per_second").set_index("dtype")
        speed = exp["exp_per_second"] * exp["threads"]
        speed = speed.reindex(ours["dtype"]).fillna(speed["float32"]).to_numpy()
        exps = (ours["elements"] / speed).where(ours["device"] == "cpu")
        ours["floor"] = pd.concat([ours["copy"], exps], axis=1).astype(float).max(axis=1)
    return ours


def cells(of: Callable[[Any], str]) -> Callable[[Report], str]:
    """Write a line a case and a column a shape."""
    return lambda report: grid(beside(report, "table"), of, "line", "shape")


def machine(report: Report) -> str:
    about = report["machine"]
    known = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    devices = "".join(f"; {library}: {what}" for library, what in about["devices"].items())
    return (
        f"{about['processor']}, {about['processors']} processors, {about['memory_gb']} GB, "
        f"{about['system']}{devices}. {known}. {report['settings']['dtype']}. Load before the run: "
        f"{about['load']}."
    )


def limits(report: Report) -> str:
    found = frame(report, "limits")
    here = found["bytes_per_second"].map(lambda x: humanize.metric(x, "B/s"), na_action="ignore")
    exps = found["exp_per_second"].map(lambda x: humanize.metric(x, "/s"), na_action="ignore")
    return markdown(pd.DataFrame({"limit": found["limit"], "here": here.fillna(exps)}))


def bandwidth(report: Report) -> str:
    found = beside(report, "table")
    copies = found.drop_duplicates(["shape", "device"])
    copies = copies.assign(line="a copy alone, " + copies["device"], median=np.nan)

    def of(one: Any) -> str:
        if pd.notna(one.median):
            return f"{one.copy / one.median:.0%}"
        return humanize.metric(2 * one.elements * ITEM_BYTES[one.dtype] / one.copy, "B/s")

    return grid(pd.concat([found, copies]), of, "line", "shape")


def others(report: Report) -> str:
    found = frame(report, "table").query("peer > 1")
    return grid(found.assign(line=found["line"] + " / " + found["who"]), ratio, "line", "shape")


def memory(report: Report) -> str:
    found = frame(report, "memory").set_index("who")

    def of(one: Any) -> str:
        if one.what == "loss":
            return against(size(one.bytes), one.bytes, one.goal, size)
        gradients = one.bytes / one.gradient_bytes
        return against(f"{gradients:.2f}", gradients, one.goal)

    found["cell"] = [of(one) for one in found.itertuples()]
    both, loss = (found[found["what"] == what] for what in ("both", "loss"))
    return markdown(pd.DataFrame({
        "": both.index, "loss and gradient": both["bytes"].map(size).array,
        "in gradients": both["cell"].array, "loss alone": loss["cell"].reindex(both.index).array,
    }))  # fmt: skip


def linear(report: Report) -> str:
    found = frame(report, "linear")
    found = found.reindex(columns=found.columns.union(["bytes", "bytes_goal", "goal"]))
    goals = found["bytes_goal"].where(found["peer"] == 0)
    return markdown(pd.DataFrame({
        "": found["line"].where(found["peer"] == 0, "… " + found["who"]),
        "time": found["median"].map(seconds),
        "ours / it": [ratio(one) if one.peer else "" for one in found.itertuples()],
        "extra memory": ["–" if pd.isna(x) else against(size(x), x, goal, size)
                         for x, goal in zip(found["bytes"], goals, strict=True)],
    }))  # fmt: skip


def profiles(section: str) -> Callable[[Report], str]:
    """Write where the time goes: in a cell that is above its goal, or in a tiny call."""

    def write(report: Report) -> str:
        found = frame(report, section)
        if "profile" not in found:
            return NOTHING
        each = found.dropna(subset="profile").explode("profile").reset_index()
        parts = pd.DataFrame(list(each["profile"]))
        name = (each["line"] + ", " + each["shape"]).where(~each["index"].duplicated(), "")
        # A compiler's names are long, and have bars.
        function = (
            parts["function"]
            .str.replace("|", "/")
            .map(lambda x: f"`{x if len(x) <= LONGEST else x[:LONGEST] + '…'}`")
        )
        return markdown(pd.DataFrame({
            "": name, "function": function, "calls": parts["calls"].map("{:g}".format),
            "share of the time": parts["share"].map("{:.0%}".format),
        }))  # fmt: skip

    return write


def overhead(report: Report) -> str:
    found = beside(report, "overhead")
    return markdown(pd.DataFrame({
        found["shape"].iloc[0]: found["line"], "ours": found["median"].map(seconds),
        "the peer": found["theirs"].map(seconds), "ratio": found["ratio"].map("{:.2f}".format),
    }))  # fmt: skip


def compiling(report: Report) -> str:
    found = frame(report, "compiling").assign(what="compile time")
    return grid(found, lambda one: seconds(one.seconds), "what", "rows")


def threads(report: Report) -> str:
    found = frame(report, "threads")
    found = found.assign(what=found["who"] + ", " + found["shape"])
    return grid(found, lambda one: seconds(one.median), "what", "threads")


def scaling(report: Report) -> str:
    found = beside(report, "scaling")
    found["at about"] = "10^" + np.log10(found["elements"]).round().astype(int).astype(str)
    found["what"] = "ns an element, " + found["line"] + ", more " + found["curve"]
    return grid(found, lambda one: f"{1e9 * one.median / one.elements:.3g} / "
                f"{1e9 * one.theirs / one.elements:.3g}", "what", "at about")  # fmt: skip


def large(report: Report) -> str:
    found = frame(report, "large")
    return markdown(pd.DataFrame({
        "float16 file": found["shape"], "elements": found["elements"].map(humanize.intcomma),
        "loss": found["seconds"].map(seconds), "file": found["file_bytes"].map(size),
        "memory beside it": found["bytes"].map(size),
    }))  # fmt: skip


# block of the page -> (its heading in a report, the sections that it needs, what writes it)
BLOCKS: Final[dict[str, tuple[str, str, Callable[[Report], str]]]] = {
    "machine": ("Machine", "", machine),
    "limits": ("Limits of the machine", "limits", limits),
    "table": ("Time, ours over the peer's, and the goal", "table", cells(ratio)),
    "spreads": ("The middle half of the rounds' ratios", "table",
                cells(lambda one: f"{one.ratio_q1:.2f}–{one.ratio_q3:.2f}")),
    "times": ("Time of loss and gradient, ours / the peer's", "table",
              cells(lambda one: f"{seconds(one.median)} / {seconds(one.theirs)}")),
    "floors": ("Multiples of the floor, ours / the peer's", "limits table",
               cells(lambda one: f"{one.median / one.floor:.1f} / {one.theirs / one.floor:.1f}")),
    "bandwidth": ("Share of the copy bandwidth", "table", bandwidth),
    "others": ("Further peers", "table", others),
    "memory": ("Extra memory at the peak", "memory", memory),
    "linear": ("Behind a linear layer", "linear", linear),
    "compiling": ("Compile time behind a linear layer, JAX", "compiling", compiling),
    "profiles": ("Where the time goes above a goal", "table", profiles("table")),
    "overhead": ("A tiny call", "overhead", overhead),
    "overhead-profiles": ("Where its time goes", "overhead", profiles("overhead")),
    "threads": ("Threads", "threads", threads),
    "scaling": ("As work grows, ours / the peer's", "scaling", scaling),
    "large": ("Beyond 31 bits", "large", large),
}  # fmt: skip


def blocks(report: Report) -> dict[str, str]:
    """Write every block whose sections have been measured."""
    measured = {name for name in report["sections"] if not frame(report, name).empty}
    return {
        name: write(report)
        for name, (_, needs, write) in BLOCKS.items()
        if measured and set(needs.split()) <= measured
    }


def document(report: Report) -> str:
    """Write the whole report."""
    found = {name: text for name, text in blocks(report).items() if text != NOTHING}
    return "\n".join(f"## {BLOCKS[name][0]}\n\n{text}\n" for name, text in found.items())
