"""The cost model of split logits: by hand, beside simulated messages, and beside counted bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xp_xent.benchmarks import _scaling as scaling
from xp_xent.benchmarks._scaling import Cost, Layout, cost

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "helpers" / "_counted_bytes.py"
PAGE = ROOT / "docs" / "scaling.md"


def test_by_hand() -> None:
    """1024 rows of 32,000 float32 logits on two devices, 65.5 MB each."""
    classes, rows = Layout(1024, 32_000, 1, 2), Layout(1024, 32_000, 2, 1)
    shard = 1024 * 16_000 * 4
    numbers = 3 * 4 * 1024
    assert cost("gather everything", classes) == (1, shard, 1, shard, 4 * shard)
    assert cost("xp_xent, one exchange", classes) == (
        1, numbers, 1, numbers, 2 * shard + 2 * numbers
    )  # fmt: skip
    assert cost("PyTorch's loss_parallel", classes) == (
        3, numbers, 6, numbers, 3 * shard + numbers
    )  # fmt: skip
    assert cost("Megatron's vocabulary-parallel loss", classes).memory == shard + numbers
    assert cost("xp_xent, one exchange", rows) == (1, 8, 2, 8, 2 * shard + 8)


@pytest.mark.parametrize("way", scaling.WAYS)
def test_one_device_sends_nothing(way: str) -> None:
    assert cost(way, Layout(10, 7))[:-1] == (0, 0, 0, 0)
    assert cost(way, Layout(10, 7)).memory <= 3 * 10 * 7 * 4


@pytest.mark.parametrize("way", scaling.WAYS)
def test_steps_and_rest(way: str) -> None:
    """Steps cost messages and save memory; what does not go even is rounded up."""
    at, steps = Layout(64, 32, 2, 4), Layout(64, 32, 2, 4, steps=4)
    once, often = cost(way, at), cost(way, steps)
    assert often.messages == 4 * once.messages
    assert often.memory < once.memory
    assert cost(way, Layout(63, 31, 2, 4)) == once


def test_one_exchange_is_faster_up_to_so_many_rows() -> None:
    for parts in (4, 8, 64, 10_000):
        turn = int(scaling.even_rows(parts, 3))
        for rows, faster in ((turn - 1, True), (turn + 2, False)):
            at = Layout(rows, 10**6, 1, parts)
            one, three = (
                cost(way, at).seconds()
                for way in ("xp_xent, one exchange", "PyTorch's loss_parallel")
            )
            assert (one < three) is faster


def gathered(parts: int) -> tuple[Any, int, int]:
    """Simulate an all-gather: each doubles what it has, from one that is as far away."""
    held, messages, sent = [[rank] for rank in range(parts)], 0, 0
    while len(held[0]) < parts:
        far, messages = len(held[0]), messages + 1
        more = min(far, parts - far)
        held = [own + held[(rank + far) % parts][:more] for rank, own in enumerate(held)]
        sent += more
    return [sorted(own) for own in held], messages, sent


def reduced(parts: int) -> tuple[Any, int, int]:
    """Simulate an all-reduce of a number for each part: halves exchanged, added, and gathered."""
    held = [dict.fromkeys(range(parts), rank) for rank in range(parts)]
    messages, sent, far = 0, 0, parts // 2
    while far:
        kept = [{p: x for p, x in own.items() if not (p ^ rank) & far}
                for rank, own in enumerate(held)]  # fmt: skip
        held = [{p: x + held[rank ^ far][p] for p, x in own.items()}
                for rank, own in enumerate(kept)]  # fmt: skip
        messages, sent, far = messages + 1, sent + len(held[0]), far // 2
    far = 1
    while far < parts:
        messages, sent = messages + 1, sent + len(held[0])
        held = [own | held[rank ^ far] for rank, own in enumerate(held)]
        far *= 2
    return held, messages, sent


def test_collectives_as_simulated() -> None:
    for parts in (1, 2, 3, 5, 8, 10, 64):
        held, *counts = gathered(parts)
        assert held == [list(range(parts))] * parts
        model = scaling.all_gather(1, parts)
        assert [model.messages, model.sent] == counts
    for parts in (1, 2, 8, 64):
        held, *counts = reduced(parts)
        assert held == [{place: sum(range(parts)) for place in range(parts)}] * parts
        model = scaling.all_reduce(parts, parts)  # a byte for each part
        assert [model.messages, model.sent] == counts


def test_the_page_has_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert scaling.costs() in page
    assert scaling.break_even() in page


@pytest.mark.parametrize("engine", ["JAX", "PyTorch"])
def test_counted(engine: str) -> None:
    """As the page has it; the model holds to the byte, memory to a hundredth."""
    pytest.importorskip({"JAX": "jax", "PyTorch": "torch"}[engine])
    done = subprocess.run(
        [sys.executable, PROGRAM, engine],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines, "something is counted"
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if line.startswith(f"| {engine} ")] == lines
    for line in lines:
        _, _, program, _, _, collectives, given, memory, _ = map(str.strip, line.split("|"))
        (found, wanted), (found_bytes, wanted_bytes) = (
            map(float, cell.split(" / ")) for cell in (collectives, given)
        )
        agreed = program == "xp_xent"  # on the CPU the ranks do so first, by seven integers
        assert found == wanted + agreed
        assert found_bytes == wanted_bytes + 56 * agreed
        if memory:
            held, least = (float(cell.split()[0]) for cell in memory.split(" / "))
            assert held == pytest.approx(least, rel=0.01)


def test_numbers_as_they_are_told() -> None:
    told = [scaling.told(x) for x in (0, 8, 999.6, 1e3, 999_700, 1.2e15)]
    assert told == ["0 B", "8 B", "1 kB", "1 kB", "1 MB", "1.2 PB"]
    assert scaling.told(57.52e-6, "s") == "57.5 µs"
    assert scaling.in_turn([Cost(1, 2, 3, 4, 5)] * 2) == Cost(2, 4, 6, 8, 10)
