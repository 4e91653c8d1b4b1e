"""What verification finds: objects to assert, which print as an explanation and go to JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from xp_xent.verify._rules import RULES
from xp_xent.verify._search import Explanation

__all__ = ["BackendResult", "ClaimResult", "InputResult", "Result", "RowResult"]


def number(x: float | None) -> str:
    """Show a loss."""
    return "–" if x is None else f"{x:.9g}"


def ulps(x: float | None) -> str:
    """Show an error in ULP in a few characters."""
    if x is None:
        return "–"
    if not math.isfinite(x):
        return "∞"
    return f"{x:.1f}" if x < 1000 else f"{x:.1e}".replace("e+0", "e").replace("e+", "e")


def place(index: tuple[int, ...]) -> str:
    """Show where something is."""
    return f"[{', '.join(map(str, index))}]"


@dataclass(frozen=True)
class RowResult:
    """A row that differs.

    Attributes
    ----------
    row : tuple of int
        Its position, an index into the labels.
    got, want : float or None
        Its loss, or the gradient's worst entry.
    why : str
        What is special about it; empty where nothing is.
    """

    row: tuple[int, ...]
    got: float
    want: float
    why: str = ""

    def __str__(self) -> str:
        said = f"row {place(self.row)}: got {number(self.got)}, wanted {number(self.want)}"
        return f"{said}; {self.why}" if self.why else said


@dataclass(frozen=True)
class InputResult:
    """How a side's own input differs from the one that all are judged by.

    Attributes
    ----------
    array, name : str
        ``"logits"`` of the side `name`.
    agrees : bool
        Whether they are the same, to rounding.
    rows : int
        How many rows differ.
    first : tuple of int or None
        The first one.
    largest : float
        The largest difference.
    rounded : str or None
        The format whose rounding makes the difference.
    said : str
        A sentence.
    """

    array: str
    name: str
    agrees: bool
    rows: int = 0
    first: tuple[int, ...] | None = None
    largest: float = 0.0
    rounded: str | None = None
    said: str = ""

    def __str__(self) -> str:
        return self.said

    def to_json(self) -> dict[str, Any]:
        """Give what the schema says."""
        return {
            "array": self.array, "name": self.name, "agrees": self.agrees, "rows": self.rows,
            "first": None if self.first is None else list(self.first), "largest": self.largest,
            "as": self.rounded,
        }  # fmt: skip


@dataclass(frozen=True)
class ClaimResult:
    """What became of one claim.

    Attributes
    ----------
    name : str
        The side's name, or the array's where the side has none.
    kind : {"loss", "gradient"}
    agrees : bool
        Whether its error is one that a careful computation in its dtype may have.
    ulp : float or None
        Its largest error in ULP of its dtype; None where that is not finite.
    loss : float or None
        The number claimed, of a reduced loss.
    where : tuple of int or None
        The worst entry, of rows and gradients.
    explanations : tuple of Explanation
        What explains a claim that is off: three at most, the likeliest first.
    inputs : tuple of str
        The side's own inputs that are part of each explanation.
    rows : tuple of RowResult
        Rows that differ by a mask, a NaN or an infinity; or those that differ most, of a claim
        that nothing explains.
    """

    name: str
    kind: str
    agrees: bool
    ulp: float | None
    loss: float | None = None
    where: tuple[int, ...] | None = None
    explanations: tuple[Explanation, ...] = ()
    inputs: tuple[str, ...] = ()
    rows: tuple[RowResult, ...] = ()

    @property
    def who(self) -> str:
        """What it is called, in a table."""
        return self.kind if self.name == self.kind else f"{self.kind}.{self.name}"

    def to_json(self) -> dict[str, Any]:
        """Give what the schema says."""
        return {
            "name": self.name, "kind": self.kind, "agrees": self.agrees, "ulp": self.ulp,
            "explanations": [
                {"rules": [{"rule": rule, "options": options} for rule, options in one.rules],
                 "inputs": list(self.inputs)}
                for one in self.explanations
            ],
            "rows": [{"row": list(row.row), "got": row.got, "want": row.want, "why": row.why}
                     for row in self.rows],
        }  # fmt: skip


@dataclass(frozen=True)
class BackendResult:
    """What this library gives on one backend, beside the truth.

    Attributes
    ----------
    name : str
    loss, loss_ulp, gradient_ulp : float or None
    where : tuple of int or None
        The gradient's worst entry.
    agrees : bool
    problem : str
        Why there is no number.
    """

    name: str
    loss: float | None = None
    loss_ulp: float | None = None
    gradient_ulp: float | None = None
    where: tuple[int, ...] | None = None
    agrees: bool = True
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give what the schema says."""
        return {
            "name": self.name, "loss": self.loss, "loss_ulp": self.loss_ulp,
            "gradient_ulp": self.gradient_ulp, "problem": self.problem or None,
        }  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Whether all compute the same loss, and if not, why.

    Attributes
    ----------
    agrees : bool
        Whether every input, claim and backend agrees.
    inputs, claims, backends : tuples of InputResult, ClaimResult, BackendResult
    loss : float or None
        The true loss; None with ``reduction="none"``.
    method : str
        How the truth was computed.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent.verify import compare
    >>> logits, labels = np.asarray([[2.0, 1.0], [0.5, 2.5]]), np.asarray([0, 1])
    >>> result = compare(logits, labels, loss="0.440190", backends=())
    >>> result.agrees, result.claims[0].explanations[0].rules
    (False, (('reduction-sum', {}),))
    """

    agrees: bool
    inputs: tuple[InputResult, ...]
    claims: tuple[ClaimResult, ...]
    backends: tuple[BackendResult, ...]
    loss: float | None
    method: str
    asked: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"truth: {number(self.loss)}, by {self.method}"]
        for backend in self.backends:
            off = "" if backend.agrees else " (off)"
            lines.append(f"xp_xent on {backend.name}: {number(backend.loss)}{off}")
        lines += [str(one) for one in self.inputs if not one.agrees]
        for claim in self.claims:
            loss = "" if claim.loss is None else f" {number(claim.loss)}"
            if claim.agrees:
                lines.append(f"{claim.who}:{loss} agrees")
            else:
                lines.append(f"{claim.who}:{loss} is off by {ulps(claim.ulp)} ULP")
                lines += [f"  {line}" for line in explained(claim, self.asked)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give the documented JSON, ``schemas/verify.json``."""
        return {
            "agrees": self.agrees,
            "inputs": [one.to_json() for one in self.inputs],
            "claims": [one.to_json() for one in self.claims],
            "backends": [one.to_json() for one in self.backends],
            "truth": {"loss": self.loss, "method": self.method},
        }


def explained(claim: ClaimResult, asked: dict[str, Any]) -> list[str]:
    """Give the sentences that explain a claim, or say that nothing does."""
    lines = []
    for i, one in enumerate(claim.explanations):
        lines.append(("or " if i else "") + sentence(one, claim.inputs))
        lines += mends(one, asked)
    told = bool(claim.rows) and all(row.why for row in claim.rows)
    if not claim.agrees and not claim.explanations and not told:
        lines.append("unexplained: no rule, and no two, give these numbers")
    return lines + [str(row) for row in claim.rows]


def sentence(one: Explanation, inputs: tuple[str, ...] = ()) -> str:
    """Say what the other side did."""
    parts = []
    for (rule, options), said in zip(one.rules, one.said, strict=True):
        parts.append(f"{(said or RULES[rule].did).format(**options)} [{rule}]")
    own = f"its own {' and '.join(inputs)}" if inputs else ""
    if not parts:
        return f"explained by {own}: of these it is the loss" if own else "the same, less carefully"
    return "it " + ", and ".join(parts) + (f", of {own}" if own else "")


def mends(one: Explanation, asked: dict[str, Any]) -> list[str]:
    """Give the lines that mend it."""
    return [
        f"to mend: {RULES[rule].mend.format(**options, **asked_of(asked))}"
        for rule, options in one.rules
    ]


def asked_of(asked: dict[str, Any]) -> dict[str, Any]:
    """Give the asked options' values, as the rules' lines name them."""
    defaults = {"asked_ignore_index": -100, "asked_label_smoothing": 0.0,
                "asked_smoothing": "uniform", "asked_z_loss": 0.0,
                "asked_softcap": None, "asked_temperature": 1.0}  # fmt: skip
    return defaults | {f"asked_{name}": value for name, value in asked.items()}
