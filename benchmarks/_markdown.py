"""A report as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from xp_xent.benchmarks import _tables_size, _tables_time
from xp_xent.benchmarks._text import EMPTY, good

Report = dict[str, Any]


def machine(report: Report) -> str:
    """Write what it was measured on."""
    about = report["machine"]
    known = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    devices = "".join(f"; {library}: {what}" for library, what in about["devices"].items())
    return (
        f"{about['processor']}, {about['processors']} processors, {about['memory_gb']} GB, "
        f"{about['system']}{devices}. {known}. {report['settings']['dtype']}. Load before the run: "
        f"{about['load']}."
    )


# block of the page -> (its heading in a report, the section that it needs, what writes it)
BLOCKS: Final[dict[str, tuple[str, str, Callable[[Report], str]]]] = {
    "machine": ("Machine", "", machine),
    "limits": ("Limits of the machine", "limits", _tables_size.limits),
    "table": ("Time, ours over the peer's, and the goal", "table", _tables_time.table),
    "spreads": ("The middle half of the rounds' ratios", "table", _tables_time.spreads),
    "times": ("Time of loss and gradient, ours / the peer's", "table", _tables_time.times),
    "floors": ("Multiples of the floor, ours / the peer's", "limits table", _tables_time.floors),
    "bandwidth": ("Share of the copy bandwidth", "table", _tables_time.bandwidth),
    "others": ("Further peers", "table", _tables_time.others),
    "memory": ("Extra memory at the peak", "memory", _tables_size.memory),
    "linear": ("Behind a linear layer", "linear", _tables_size.linear),
    "compiling": ("Compile time behind a linear layer, JAX", "compiling", _tables_size.compiling),
    "profiles": ("Where the time goes above a goal", "table", _tables_time.profiles),
    "overhead": ("A tiny call", "overhead", _tables_time.overhead),
    "overhead-profiles": ("Where its time goes", "overhead", _tables_time.overhead_profiles),
    "threads": ("Threads", "threads", _tables_size.threads),
    "scaling": ("As work grows, ours / the peer's", "scaling", _tables_size.scaling),
    "large": ("Beyond 31 bits", "large", _tables_size.large),
}


def blocks(report: Report) -> dict[str, str]:
    """Write every block whose sections have been measured."""
    measured = {name for name, records in report["sections"].items() if good(records)}
    if not measured:
        return {}
    return {
        name: write(report)
        for name, (_, needs, write) in BLOCKS.items()
        if set(needs.split()) <= measured
    }


def to_markdown(report: Report) -> str:
    """Write the whole report."""
    parts = [
        f"## {BLOCKS[name][0]}\n\n{text}\n"
        for name, text in blocks(report).items()
        if text != EMPTY
    ]
    return "\n".join(parts)
