"""What the other side may have done: each rule in one place, as changes of a pipeline.

A rule's id stands in the documentation and in JSON, and stays. The rules are in the order in which
equally good explanations are named: the likeliest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from xp_xent.verify import _mistakes as mistakes
from xp_xent.verify._changes import Change, Facts
from xp_xent.verify._pipeline import Pipeline


class Rule(NamedTuple):
    """What a rule says, and the changes that it makes."""

    did: str  # completes "it …"
    mend: str  # the option or the line that mends it
    changes: Callable[[Pipeline, Facts], Iterator[Change]]


RULES: dict[str, Rule] = {
    "reduction-mean": Rule(
        "took the mean", 'pass reduction="mean", or divide by the count', mistakes.mean
    ),
    "reduction-sum": Rule(
        "took the sum", 'pass reduction="sum", or multiply by the denominator', mistakes.total
    ),
    "mean-over-all-positions": Rule(
        "divided by all positions, ignored ones too",
        "divide the sum by (targets != ignore_index).sum()",
        mistakes.positions,
    ),
    "mean-of-sequence-means": Rule(
        "averaged the means of the sequences",
        "divide one sum over all positions by one count",
        mistakes.sequences,
    ),
    "denominator-count": Rule(
        "divided the class-weighted sum by the count",
        "divide by weight[targets].sum()",
        mistakes.count,
    ),
    "denominator-weights": Rule(
        "divided by the sum of the labels' class weights",
        "divide by the count of rows",
        mistakes.weights,
    ),
    "ignore-index": Rule(
        "left out the label {ignore_index}", "ignore_index={asked_ignore_index}", mistakes.ignored
    ),
    "shift": Rule(
        "shifted the labels", "shift once: logits[:, :-1] against labels[:, 1:]", mistakes.shift
    ),
    "labels-from-one": Rule(
        "counted classes from 1", "number the classes 0 … K − 1", mistakes.from_one
    ),
    "class-axis": Rule(
        "took the classes along axis {axis}",
        "numpy.moveaxis(logits, axis, -1)",
        mistakes.class_axis,
    ),
    "class-weights-missing": Rule(
        "left the class weights out", "pass weight=", mistakes.no_weights
    ),
    "smoothing": Rule(
        "smoothed the labels, {smoothing}, by {label_smoothing:.4g}",
        "label_smoothing={asked_label_smoothing:.4g}, smoothing={asked_smoothing!r}",
        mistakes.smoothing,
    ),
    "bits": Rule("took the logarithm to base 2", "multiply by math.log(2)", mistakes.bits),
    "softmax-twice": Rule(
        "took probabilities for logits",
        "pass what comes before the softmax",
        mistakes.softmax_twice,
    ),
    "temperature": Rule(
        "divided the logits by {temperature:.4g}",
        "temperature={asked_temperature:.4g}",
        mistakes.temperature,
    ),
    "softcap": Rule(
        "capped the logits at ±{softcap:.4g}", "softcap={asked_softcap}", mistakes.softcap
    ),
    "z-loss": Rule(
        "added {z_loss:.4g}·lse² to each row", "z_loss={asked_z_loss:.4g}", mistakes.z_loss
    ),
    "gradient-sign": Rule(
        "turned the gradient's sign", "multiply the gradient by −1", mistakes.sign
    ),
    "gradient-scale": Rule(
        "multiplied the gradient by {factor:.6g}",
        "divide the gradient by {factor:.6g}",
        mistakes.scale,
    ),
    "class-weights-squared": Rule(
        "multiplied by the class weights twice", "weigh once: weight= or a factor", mistakes.squared
    ),
    "sigmoid": Rule(
        "took binary cross-entropies of the classes", "a softmax over the classes", mistakes.sigmoid
    ),
    "clipping": Rule(
        "clipped probabilities at {eps:.4g}",
        "a log-softmax of the logits, not log(clip(p))",
        mistakes.clipping,
    ),
    "rounded": Rule(
        "rounded the {what} to {dtype}", "keep what is wider than {dtype}", mistakes.rounded
    ),
}


def changes(pipeline: Pipeline, facts: Facts, start: int = 0) -> Iterator[tuple[int, Change]]:
    """Give every change of a pipeline, by the rules from the given one on."""
    for place, rule in enumerate(RULES.values()):
        if place >= start:
            for change in rule.changes(pipeline, facts):
                yield place, change
