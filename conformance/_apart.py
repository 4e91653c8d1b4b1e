"""Judge each subject in a process of its own, and bring their reports together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xp_xent.conformance._peers import KERAS
from xp_xent.conformance._report import Summary

# What a subject needs to find in its environment: Keras has one backend in a process, and does
# not turn JAX's float64 on.
ENVIRONMENT: Mapping[str, Mapping[str, str]] = {
    f"Keras on {name}": {"KERAS_BACKEND": name, "JAX_ENABLE_X64": str(int(name != "jax"))}
    for name in KERAS
}


def judge_one(name: str, topics: Iterable[str], report: Path) -> Summary | str:
    """Judge one subject in a new process; say how that ended if there is no report."""
    command = [sys.executable, "-P", "-m", "xp_xent.conformance", "conformance"]
    asked = [x for topic in topics for x in ("--topic", topic)]
    done = subprocess.run(
        [*command, "--subject", name, *asked, "--json", str(report)],
        env={**os.environ, **ENVIRONMENT.get(name, {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not report.exists():
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        return f"its process ended with {done.returncode}: {said}"
    found: Summary = json.loads(report.read_text(encoding="utf-8"))
    return found


def judge_apart(
    names: list[str],
    topics: list[str],
    jobs: int,
    told: Callable[[str, Summary | str], Any],
) -> tuple[list[Summary], dict[str, str]]:
    """Judge subjects, `jobs` at a time.

    Parameters
    ----------
    names : list of str
    topics : list of str
        All, if there is none.
    jobs : int
    told : callable
        Called with a name, and its report or what became of its process.

    Returns
    -------
    reports : list of dict
        In the order of the names.
    lost : dict of str to str
        Who gave no report, and why.
    """
    found: dict[str, Summary | str] = {}
    with TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        places = {name: Path(folder) / f"{i}.json" for i, name in enumerate(names)}
        waiting = {pool.submit(judge_one, n, topics, place): n for n, place in places.items()}
        try:
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                told(waiting[done], done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    answers = [(name, found[name]) for name in names]
    lost = {name: x for name, x in answers if isinstance(x, str)}
    return [x for _, x in answers if not isinstance(x, str)], lost
