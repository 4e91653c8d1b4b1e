"""Run the Python of a page: a line's comment is what its expression gives, to the digits shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d*(?:e[-+]?\d+)?")
IMPORT = re.compile(r"^import array_api_compat\.numpy as xp.*$", re.MULTILINE)


def execute(page: Path, xp: Any) -> int:
    """Execute a page's blocks in one namespace, with xp for its arrays; count what it claims."""
    names: dict[str, Any] = {"xp": xp}
    count = 0
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        code = IMPORT.sub("", block)
        for node, comment in statements(code):
            if comment is None:
                exec(compile(ast.Module([node], []), str(page), "exec"), names)
                continue
            source = ast.get_source_segment(code, node)
            compare(eval(source, names), comment, source)
            count += 1
    return count


def statements(code: str) -> Iterator[tuple[ast.stmt, str | None]]:
    """Give each statement, with the comment after it where it is an expression."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        is_claim = isinstance(node, ast.Expr) and after.startswith("#")
        yield node, after.removeprefix("#").strip() if is_claim else None


def compare(value: Any, comment: str, source: str) -> None:
    """Compare with a literal: each number to the last digit that the page shows."""
    said = ast.literal_eval(comment)
    if isinstance(value, (bool, list, str)):
        assert value == said, f"{source}: {value}, not {said}"
        return
    value = value.detach() if hasattr(value, "detach") else value
    error = abs(np.asarray(value, dtype=np.float64) - np.asarray(said))
    shown = np.reshape(
        [0.6 * last_digit(number) for number in NUMBER.findall(comment)], error.shape
    )
    assert np.all(error <= shown), f"{source}: {value}, not {said}"


def last_digit(number: str) -> float:
    """Return what one in the last place of a decimal number is worth."""
    return 10.0 ** int(Decimal(number).as_tuple().exponent)
