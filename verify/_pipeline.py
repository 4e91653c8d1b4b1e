"""What a side computes: a loss as stages, each of which a rule may change.

    rows of logits → steps on them → costs of the classes → targets → factors of the rows → results

A pipeline is a value, so that two rules, one after the other, are one more pipeline, and the same
pipeline by two ways is found out by comparing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Step = tuple[str, Any]  # such as ("temperature", 2.0); see _steps.py


class Key(NamedTuple):
    """What the costs of the classes depend on: the expensive part, a pass over the logits."""

    layout: Step
    steps: tuple[Step, ...]
    form: str
    clip: Step


@dataclass(frozen=True)
class Pipeline:
    """One way to compute a classification loss and its gradient.

    Attributes
    ----------
    layout : (str, int)
        How rows are read out of the logits: as ``"asked"``, along another ``"axis"``, ``"reshape"``
        without moving the classes to the end, or ``"softmax"`` over another axis than the labels'.
    steps : tuple of (str, value)
        What happens to the logits first.
    form : {"softmax", "none", "sum", "mean"}
        −log softmax; the negated logits as they are; binary cross-entropies, summed or averaged.
    clip : (str, float)
        ``"none"``; probabilities are kept in [eps, 1 − eps], ``"both"``; in [eps, 1], ``"low"``;
        or eps is ``"added"``.
    offset, shift : int
        What is added to a label; how many positions later a position's label stands.
    ignore_index : int or None
    weight_power : {0, 1, 2}
        How often a class weight multiplies.
    label_smoothing, smoothing, z_loss
        As in `xp_xent.cross_entropy`.
    reduction : {"mean", "sum", "none"}
    denominator : {"weights", "squares", "count", "positions", "sequences"} or float
        What a mean divides by: Σ w_y, Σ w_y², the rows that count, all rows, each sequence's share
        and then the number of sequences, or a number.
    scale : float
        Multiplies the loss, and so the gradient.
    factor : float
        Multiplies the gradient alone.
    loss, gradient, unscaled : str or None
        The formats that they are rounded to; `unscaled`, the gradient before its factor.
    """

    layout: Step = ("asked", 0)
    steps: tuple[Step, ...] = ()
    form: str = "softmax"
    clip: Step = ("none", 0.0)
    offset: int = 0
    shift: int = 0
    ignore_index: int | None = -100
    weight_power: int = 1
    label_smoothing: float = 0.0
    smoothing: str = "uniform"
    z_loss: float = 0.0
    reduction: str = "mean"
    denominator: str | float = "count"
    scale: float = 1.0
    factor: float = 1.0
    loss: str | None = None
    gradient: str | None = None
    unscaled: str | None = None

    @property
    def key(self) -> Key:
        """What its costs of the classes depend on."""
        return Key(self.layout, self.steps, self.form, self.clip)
