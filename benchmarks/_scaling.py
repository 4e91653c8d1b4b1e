"""What cross-entropy and its gradient cost where logits are split over devices, by formula.

``python -m xp_xent.benchmarks._scaling`` prints the tables of docs/scaling.md, whose tests compare
what the model says with the bytes that programs exchange.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

NUMBER: Final = 4  # bytes of a row's float32 statistic
SUMS: Final = 2  # of all rows: their losses, and their shares in the mean
LATENCY, BANDWIDTH = 10e-6, 25e9  # seconds a message, bytes a second: a network, for the tables


@dataclass(frozen=True)
class Layout:
    """Logits of all rows and classes, split over `row_parts` × `class_parts` devices.

    Rows come in so many `steps`, each of which is forgotten before the next.
    """

    rows: int
    classes: int
    row_parts: int = 1
    class_parts: int = 1
    logit_bytes: int = 4
    steps: int = 1

    @property
    def devices(self) -> int:
        """How many devices."""
        return self.row_parts * self.class_parts

    @property
    def own_rows(self) -> int:
        """Rows of a device, in one step."""
        return math.ceil(self.rows / self.row_parts / self.steps)

    @property
    def own_logits(self) -> int:
        """Logits of a device, in one step."""
        return self.own_rows * math.ceil(self.classes / self.class_parts)


class Cost(NamedTuple):
    """What a device pays; of several costs one after another, the sum."""

    collectives: float = 0
    given: float = 0  # bytes that it hands to collectives
    messages: float = 0  # that it waits for
    sent: float = 0  # bytes that leave it
    memory: float = 0  # bytes that it holds at once, at the least

    def seconds(self, latency: float = LATENCY, bandwidth: float = BANDWIDTH) -> float:
        """Compute the time of all messages."""
        return self.messages * latency + self.sent / bandwidth


def all_gather(given: float, parts: int) -> Cost:
    """Cost of every part's bytes on every part: what there is doubles with each message."""
    if parts == 1:
        return Cost()
    return Cost(1, given, math.ceil(math.log2(parts)), (parts - 1) * given, parts * given)


def all_reduce(given: float, parts: int) -> Cost:
    """Cost of a sum on every part: halves are exchanged and added, then gathered."""
    if parts == 1:
        return Cost()
    messages = 2 * math.ceil(math.log2(parts))
    return Cost(1, given, messages, 2 * given * (parts - 1) / parts, given)


def in_turn(costs: Iterable[Cost]) -> Cost:
    """Add costs up."""
    return Cost(*map(sum, zip(Cost(), *costs, strict=True)))


def _gathered(at: Layout) -> list[Cost]:
    return [all_gather(at.own_logits * at.logit_bytes, at.devices)]


def _one_exchange(at: Layout) -> list[Cost]:
    """Maximum, Σ exp of the others, label's logit: gathered, merged in the order of ranks."""
    return [all_gather(3 * NUMBER * at.own_rows, at.class_parts), _over_rows(at)]


def _two_reductions(at: Layout) -> list[Cost]:
    """Maximum; then Σ exp and the label's logit."""
    row = NUMBER * at.own_rows
    return [*(all_reduce(n * row, at.class_parts) for n in (1, 2)), _over_rows(at)]


def _three_reductions(at: Layout) -> list[Cost]:
    return [*[all_reduce(NUMBER * at.own_rows, at.class_parts)] * 3, _over_rows(at)]


def _over_rows(at: Layout) -> Cost:
    return all_reduce(SUMS * NUMBER, at.row_parts)


class Way(NamedTuple):
    """A program: its collectives, and the bytes that it holds of each logit of its own."""

    collectives: Callable[[Layout], list[Cost]]
    held: Callable[[int], int]


def _logit_and_gradient(logit: int) -> int:
    return 2 * logit


def _with_log_probs(logit: int) -> int:
    return 3 * logit


def _with_softmax(logit: int) -> int:
    """The softmax is float32, becomes the gradient, and stands in float32 logits' place."""
    return 4 if logit == 4 else logit + 4


WAYS: Final = {
    "gather everything": Way(_gathered, _logit_and_gradient),
    "xp_xent, one exchange": Way(_one_exchange, _logit_and_gradient),
    "xp_xent under JAX's compiler": Way(_two_reductions, _logit_and_gradient),
    "PyTorch's loss_parallel": Way(_three_reductions, _with_log_probs),
    "Megatron's vocabulary-parallel loss": Way(_three_reductions, _with_softmax),
}


def cost(way: str, at: Layout) -> Cost:
    """Compute what loss and gradient of all rows cost a device."""
    program = WAYS[way]
    step = in_turn(program.collectives(at))
    memory = step.memory + at.own_logits * program.held(at.logit_bytes)
    return Cost(*(at.steps * x for x in step))._replace(memory=memory)


def even_rows(class_parts: int, reductions: int) -> float:
    """Compute up to how many rows a step one exchange beats so many all-reduces."""
    row = 3 * NUMBER
    gathered, reduced = all_gather(row, class_parts), all_reduce(row, class_parts)
    saved = (reductions * reduced.messages - gathered.messages) * LATENCY
    paid = (gathered.sent - reduced.sent) / BANDWIDTH
    return saved / paid if paid > 0 else math.inf


LAYOUTS: Final = {
    "8192 rows of 131,072 classes, bfloat16, on 8 devices": [
        Layout(8192, 131_072, rows, 8 // rows, 2) for rows in (1, 8)
    ],
    "10⁶ rows of 10⁶ classes, bfloat16, in 8 steps, on 64 devices": [
        Layout(10**6, 10**6, rows, 64 // rows, 2, 8) for rows in (1, 8, 64)
    ],
    "10¹⁰ rows of 10⁶ classes, bfloat16, in 1000 steps, on 10,000 devices": [
        Layout(10**10, 10**6, rows, 10_000 // rows, 2, 1000) for rows in (1, 1250, 10_000)
    ],
}


def told(number: float, unit: str = "B") -> str:
    """Write a number with three digits and a prefix."""
    if number == 0:
        return f"0 {unit}"
    power = math.floor(math.log10(float(f"{number:.2e}")) / 3)
    prefix = ("µ", "m", "", "k", "M", "G", "T", "P")[power + 2]
    return f"{number / 1000.0**power:.3g} {prefix}{unit}"


def costs() -> str:
    """Write what the layouts cost as Markdown."""
    lines: list[str] = []
    for title, layouts in LAYOUTS.items():
        lines += [
            f"**{title}**", "",
            "| rows × classes over | way | collectives | messages | sent | network | memory |",
            "| --- | --- | --: | --: | --: | --: | --: |",
        ]  # fmt: skip
        for at in layouts:
            split = at.class_parts > 1
            for way in WAYS if split else ["xp_xent, one exchange"]:
                c = cost(way, at)
                cells = [
                    f"{at.row_parts:,} × {at.class_parts:,}", way if split else "xp_xent",
                    f"{c.collectives:,}", f"{c.messages:,}",
                    told(c.sent), told(c.seconds(), "s"), told(c.memory),
                ]  # fmt: skip
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def break_even() -> str:
    """Write as Markdown from how many rows on an exchange is too much."""
    lines = ["| classes over | against two all-reduces | against three |", "| --: | --: | --: |"]
    for parts in (2, 4, 8, 16, 64, 1024, 10_000):
        rows = (even_rows(parts, reductions) for reductions in (2, 3))
        told_rows = ["any" if math.isinf(x) else f"{float(f'{x:.2g}'):,.0f}" for x in rows]
        lines.append(f"| {parts:,} | {' | '.join(told_rows)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(f"{costs()}\n{break_even()}")
