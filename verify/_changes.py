"""What a rule is made of: changes of a pipeline, with options that may take any value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xp_xent.verify._case import Case
from xp_xent.verify._pipeline import Pipeline


class Facts(NamedTuple):
    """What decides which rules can apply."""

    case: Case
    loss: bool = True  # there is a loss to explain
    gradient: bool = True
    counts: tuple[float, ...] = ()  # what a gradient may be multiplied by: denominators, N, K


class Free(NamedTuple):
    """An option that takes any value in a range.

    A fit has its starts, and looks at the logarithm of some options; one that does nothing is none.
    """

    starts: tuple[float, ...]
    logarithmic: bool
    low: float
    high: float
    nothing: float = 0.0

    def takes(self, value: float) -> bool:
        """Tell if it can have a value, and does something with it."""
        return self.low <= value <= self.high and abs(value - self.nothing) > 1e-6


@dataclass(frozen=True)
class Change:
    """One way to apply a rule: to a pipeline, with an option's value where that is free.

    `usual` are the values of a free option that people use.
    """

    rule: str
    options: Callable[[float], dict[str, Any]]
    apply: Callable[[Pipeline, float], Pipeline]
    free: Free | None = None
    usual: tuple[float, ...] = ()
    did: str = ""


def setting(
    rule: str, did: str = "", /, options: dict[str, Any] | None = None, **fields: Any
) -> Change:
    """Make a change that sets fields of the pipeline."""
    return Change(rule, lambda _: dict(options or {}), lambda p, _: replace(p, **fields), did=did)


# Steps on the logits, always in this order
ORDER = ("rounded", "softcap", "temperature", "softmax")


def with_step(p: Pipeline, name: str, value: Any) -> Pipeline:
    """Put a step at its place; one of that name is replaced, and None takes it away."""
    steps = [step for step in p.steps if step[0] != name]
    if value is not None:
        steps.append((name, value))
    return replace(p, steps=tuple(sorted(steps, key=lambda step: ORDER.index(step[0]))))
