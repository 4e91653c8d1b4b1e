"""Calls without a newer option, here and in another revision, each in a process of its own."""

import json
import sys
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Final

from xp_xent.benchmarks import _asked
from xp_xent.benchmarks._shapes import Shape
from xp_xent.benchmarks._timing import Effort, Timed, interleaved, ratio, spread

Record = dict[str, Any]
SHAPES: Final = tuple(map(Shape, ((64, 10), (8192, 1000), (2048, 32000))))
# A process's memory is laid out by chance, which makes a call some hundredths slower or faster.
GOAL: Final = 1.05


class Asked(Timed):
    """A call in another process, which times it."""

    def block(self, count: int) -> float:
        """Have it timed there."""
        return float(self.call(count))  # type: ignore[call-arg]


def measure(python: Path, name: str, shape: Shape, effort: Effort) -> list[Record]:
    """Time a call of this Python's `xp_xent` and of another's, in turns."""
    with _started(Path(sys.executable)) as here, _started(python) as there:
        both = {"here": here, "there": there}
        asked = {who: Asked(partial(_seconds, one, name, shape)) for who, one in both.items()}
        times = interleaved(asked, effort)
    theirs = {"theirs": spread(times["there"])["median"], "goal": GOAL}
    found = spread(times["here"]) | ratio(times["here"], times["there"]) | theirs
    return [{"line": name, "shape": shape.name} | found]


def _started(python: Path) -> Any:
    command = [str(python), "-P", _asked.__file__]
    return Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, bufsize=1)


def _seconds(process: Any, name: str, shape: Shape, count: int) -> float:
    """Ask for the time of a call; RuntimeError if it fails there."""
    if process.poll() is None:
        process.stdin.write(json.dumps([name, *shape.sizes, count]) + "\n")
        if answer := process.stdout.readline():
            return float(answer)
    raise RuntimeError(f"{process.args[0]}: {process.stderr.read().strip().splitlines()[-1]}")
