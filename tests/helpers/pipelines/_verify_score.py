"""How many wrong pipelines verification sees through; a program to run.

Every rule alone, and each pair that goes together, on each data set; of the pairs, and of what
nothing explains, a share is drawn that the options say.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _wrong_data import KINDS, SIZES, Data, make
from _wrong_pipelines import WRITERS
from _wrong_rules import Rules, combinations, options_of

from xp_xent.verify import Result, compare

# What multiplies a gradient by a number: two of them are one.
SCALES = {
    "bits", "reduction-sum", "mean-over-all-positions", "denominator-count", "gradient-sign",
    "gradient-scale",
}  # fmt: skip
THREE = "three rules"
UNUSUAL = "an unusual option, seen in one number"
RIGHT, WRONG, MISSED, GUESSED, QUIET = "named", "named another", "missed", "guessed", "unexplained"


class Case(NamedTuple):
    """A wrong pipeline: what it is, and how many rules it takes to say so; none can if 0."""

    kind: str
    size: str
    dtype: str
    writer: str
    rules: Rules
    wrong: str = ""  # a mistake that is no rule

    def __str__(self) -> str:
        rules = " + ".join(
            f"{name} {options or ''}".strip() for name, options in self.rules.items()
        )
        return f"{self.kind}, {self.size}, {self.dtype}, {self.writer}: {self.wrong or rules}"


def unusual(rules: Rules) -> bool:
    """Tell if an option has a value that nobody uses."""
    values = [x for options in rules.values() for x in options.values() if isinstance(x, float)]
    return any(f"{x:e}".startswith("1.37") for x in values)


def draw(text: str, share: float) -> bool:
    """Tell if a case is of the share that runs, always the same one."""
    return zlib.crc32(text.encode()) % 10_000 < share * 10_000


def cases(pairs: float, others: float, singles: float = 1.0) -> Iterator[Case]:
    """List the cases."""
    for turn, (kind, size, dtype, writer) in enumerate(
        itertools.product(KINDS, SIZES, ("float32", "float64"), WRITERS)
    ):
        data = make(kind, size, dtype)
        for count, share in ((1, singles), (2, pairs), (3, others)):
            for names in combinations(count, data, writer != "numpy"):
                turn += 1  # noqa: PLW2901 (the options change with each)
                rules = {name: options_of(name, data, turn) for name in names}
                wrong = THREE if count == 3 else ""
                if writer == "numpy" and size == "small" and unusual(rules):
                    wrong = UNUSUAL
                case = Case(kind, size, dtype, writer, rules, wrong)
                if draw(f"{case}{names}", share / (10 if count == 3 else 1)):
                    yield case
        for wrong in ("noise", "another formula", "other logits"):
            case = Case(kind, size, dtype, writer, {}, wrong)
            if draw(str(case), others * 10):
                yield case


def claims_of(case: Case, data: Data, rules: Rules) -> dict[str, Any]:
    """Write a pipeline, and give what `compare` is told of it."""
    said = WRITERS[case.writer](data, rules)
    if case.size != "small" and "rows" in said:
        return {"loss": said["rows"]}
    return {name: said[name] for name in ("loss", "gradient") if name in said}


def spoiled(case: Case, data: Data) -> dict[str, Any]:
    """Give numbers that no rule gives."""
    rng = np.random.default_rng(7)
    if case.wrong == "other logits":
        z = data.logits + rng.standard_normal(data.logits.shape).astype(case.dtype) * 0.05
        return claims_of(case, Data(data.kind, z, data.targets, data.options, data.axis), {})
    said = claims_of(case, data, {})
    if case.wrong == "noise":
        return {
            n: x * (1 + 1e-2 * rng.standard_normal(x.shape)).astype(x.dtype)
            for n, x in said.items()
        }
    # Another formula: each number is bent, as a focal loss bends them.
    return {n: (np.sign(x) * np.abs(x) ** 1.1 * 1.03).astype(x.dtype) for n, x in said.items()}


def same(a: dict[str, Any], b: dict[str, Any], dtype: str) -> bool:
    """Tell if two pipelines give the same numbers, as far as their dtype goes."""
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for name, x in a.items():
        y = b[name]
        scale = np.max(np.abs(x), initial=1e-300)
        if x.shape != y.shape or np.max(np.abs(x - y), initial=0.0) > tolerance * scale:
            return False
    return True


def shorter(rules: Rules) -> Iterator[Rules]:
    """List the rules that are a part of these."""
    names = list(rules)
    for count in range(len(names)):
        for some in itertools.combinations(names, count):
            yield {name: rules[name] for name in some}


def named(rules: Rules, result: Result) -> bool:
    """Tell if one of the explanations is these rules, with their options to three digits."""
    return any(
        _same_rules(rules, dict(one.rules))
        for claim in result.claims for one in claim.explanations
        if len(one.rules) == len(rules)
    )  # fmt: skip


def _same_rules(wanted: Rules, got: dict[str, Any]) -> bool:
    if wanted.keys() != got.keys():
        return False
    for name, options in wanted.items():
        for key, value in options.items():
            other = got[name].get(key)
            if key in ("what", "form"):
                continue
            if isinstance(value, float) and isinstance(other, float):
                if abs(value - other) > 1e-3 * abs(value):
                    return False
            elif value != other:
                return False
    return True


Judgement = tuple[str, Result | None, float]  # what became of a case, and the seconds it took


def judge(case: Case) -> Judgement | None:
    """Run a case; None where a shorter pipeline gives the same numbers."""
    data = make(case.kind, case.size, case.dtype)
    with np.errstate(all="ignore"):
        if case.wrong and not case.rules:
            claims = spoiled(case, data)
        else:
            claims = claims_of(case, data, case.rules)
            if not all(np.all(np.isfinite(x)) for x in claims.values()):
                return None
            for less in shorter(case.rules):
                fewer = claims_of(case, data, less)
                # What nothing explains must not be explained in part, either.
                parts = [{n: x} for n, x in claims.items()] if case.wrong else [claims]
                if any(same(part, fewer, case.dtype) for part in parts):
                    return None
            if case.wrong == THREE and len(set(case.rules) & SCALES) > 1:
                return None
    start = time.perf_counter()
    result = compare(data.logits, data.targets, **claims, backends=(), **data.options)
    took = time.perf_counter() - start
    explained = any(claim.explanations for claim in result.claims)
    if case.wrong:
        return (GUESSED if explained else QUIET), result, took
    if named(case.rules, result):
        return RIGHT, result, took
    return (WRONG if explained else MISSED), result, took


def score(
    chosen: list[Case], show: bool, judgements: Iterable[Judgement | None] | None = None
) -> tuple[Counter[tuple[str, str]], list[str], float]:
    """Run cases; count what became of them, by kind of mistake, and tell the failures."""
    counts: Counter[tuple[str, str]] = Counter()
    failures, total = [], 0.0
    judgements = map(judge, chosen) if judgements is None else judgements
    for case, judged in zip(chosen, judgements, strict=True):
        if judged is None:
            continue
        outcome, result, took = judged
        total += took
        kind = case.wrong or ("one rule", "two rules")[len(case.rules) - 1]
        counts[kind, outcome] += 1
        if outcome in (WRONG, MISSED, GUESSED):
            claims = result.claims if result else ()
            got = {tuple(e.rules) and str(e.rules) for c in claims for e in c.explanations}
            failures.append(f"{outcome}: {case} -> {got or 'nothing'}")
            if show:
                sys.stdout.write(f"{failures[-1]} {took:.1f} s\n")
                sys.stdout.flush()
    return counts, failures, total


def table(counts: Counter[tuple[str, str]]) -> str:
    """Give the score as a table of Markdown."""
    kinds = ("one rule", "two rules", THREE, UNUSUAL, "noise", "another formula", "other logits")
    lines = ["| mistakes | pipelines | named | named another | missed | unexplained | guessed |",
             "| --- | --: | --: | --: | --: | --: | --: |"]  # fmt: skip
    for kind in kinds:
        numbers = [counts[kind, x] for x in (RIGHT, WRONG, MISSED, QUIET, GUESSED)]
        lines.append(f"| {kind} | {sum(numbers)} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--singles", type=float, default=1.0, help="share of single rules")
    parser.add_argument("--pairs", type=float, default=0.05, help="share of the pairs")
    parser.add_argument("--others", type=float, default=0.01, help="share of what nothing explains")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the cases")
    parser.add_argument("--quiet", action="store_true", help="do not tell the failures")
    given = parser.parse_args()
    import os

    os.environ.setdefault("JAX_ENABLE_X64", "1")
    chosen = list(cases(given.pairs, given.others, given.singles))
    start = time.perf_counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        judgements = pool.map(judge, chosen) if given.jobs > 1 else None
        counts, _, searched = score(chosen, not given.quiet, judgements)
    names = [n for (kind, _), n in counts.items() if kind.endswith(("one rule", "two rules"))]
    right = sum(n for (_, outcome), n in counts.items() if outcome == RIGHT)
    sys.stdout.write(
        f"{table(counts)}\n\nnamed {100 * right / max(sum(names), 1):.1f}% of {sum(names)} "
        f"pipelines that rules explain; {searched:.0f} s of {time.perf_counter() - start:.0f} s "
        "in compare\n"
    )


if __name__ == "__main__":
    main()
