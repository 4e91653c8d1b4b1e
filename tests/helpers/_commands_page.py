"""Run the examples of docs/commands.md; as a program, write what they print into the page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from _commands import invoke

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
BLOCK = re.compile(r"(<!-- not run -->\n)?```(\w+)\n(.*?)```\n", re.DOTALL)


def prepare() -> None:
    """Write, into this folder, the files that the examples read."""
    for skipped, language, content in BLOCK.findall(PAGE.read_text("utf-8")):
        if language == "python" and not skipped:
            exec(compile(content, PAGE.name, "exec"), {})
    claim = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header = claim.ljust(117).encode() + b"\n"
    Path("huge.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header)


def examples() -> list[tuple[str, str]]:
    """Give the commands on the page, each with what the page says that it prints."""
    found = []
    for skipped, language, content in BLOCK.findall(PAGE.read_text("utf-8")):
        if language == "console" and not skipped:
            for part in content.split("$ xp-xent ")[1:]:
                command, _, said = part.partition("\n")
                found.append((command, said))
    return found


def printed(command: str) -> str:
    """Call a command and give what it prints, without spaces at the ends of lines."""
    done = invoke(*command.split())
    return "".join(f"{line.rstrip()}\n" for line in done.output.splitlines())


def main() -> None:
    """Fill the page."""
    prepare()
    text = PAGE.read_text("utf-8")
    for command, said in examples():
        text = text.replace(
            f"$ xp-xent {command}\n{said}", f"$ xp-xent {command}\n{printed(command)}"
        )
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
