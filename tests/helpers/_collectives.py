"""What devices exchange in a program that XLA compiled: results of collectives, and their bytes."""

from __future__ import annotations

import re
from typing import Any

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
LINE = re.compile(rf"= (.*?) (?:{KINDS})(?:-start)?\(")
ARRAY = re.compile(r"\b([a-z]+)(\d+)\[([\d,]*)\]")


def exchanged(text: str) -> list[int]:
    """The bytes of each array that a collective in the text of a program results in."""
    found = []
    for line in text.splitlines():
        if match := LINE.search(line):
            for _, bits, lengths in ARRAY.findall(match[1]):
                count = 1
                for length in filter(None, lengths.split(",")):
                    count *= int(length)
                found.append(count * int(bits) // 8)
    return found


def of_call(function: Any, *arrays: Any) -> list[int]:
    """The same of a jitted function's program for these arrays."""
    return exchanged(function.lower(*arrays).compile().as_text())
