"""The changes that each rule makes to a pipeline; its options are free, or used in practice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from xp_xent.verify._case import Case
from xp_xent.verify._changes import Change, Facts, Free, setting, with_step
from xp_xent.verify._pipeline import Pipeline
from xp_xent.verify._steps import NARROW

WHOLE = 1 << 22  # logits, up to which a softmax over another axis is tried

# Reductions and denominators


def total(p: Pipeline, _: Facts) -> Iterator[Change]:
    if p.reduction != "sum":
        yield setting("reduction-sum", reduction="sum")


def mean(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if p.reduction != "mean":
        weighted = facts.case.weight is not None and facts.case.labels is not None
        yield setting("reduction-mean", reduction="mean",
                   denominator="weights" if weighted else "count")  # fmt: skip


def positions(p: Pipeline, _: Facts) -> Iterator[Change]:
    if p.reduction == "mean" and p.denominator != "positions":
        yield setting("mean-over-all-positions", denominator="positions")


def sequences(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if p.reduction == "mean" and len(facts.case.positions) > 1 and facts.case.count:
        yield setting("mean-of-sequence-means", denominator="sequences")


def count(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if p.reduction == "mean" and p.denominator != "count" and facts.case.weight is not None:
        yield setting("denominator-count", denominator="count")


def weights(p: Pipeline, facts: Facts) -> Iterator[Change]:
    weighted = facts.case.weight is not None and facts.case.labels is not None
    if p.reduction == "mean" and p.denominator != "weights" and weighted:
        yield setting("denominator-weights", denominator="weights")


# Labels


def ignored(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.case.labels is None:
        return
    present = set(np.unique(facts.case.flat_labels).tolist())
    # A label that is nowhere leaves nothing out: one such option stands for all.
    if p.ignore_index in present:
        yield setting("ignore-index", options={"ignore_index": None}, ignore_index=None)
    for label in dict.fromkeys((0, facts.case.classes - 1, -100, -1)):
        if label in present and label != p.ignore_index:
            yield setting("ignore-index", options={"ignore_index": label}, ignore_index=label)


def shift(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.case.labels is not None and facts.case.positions[-1:] > (1,):
        yield setting(
            "shift", "scored each position by the label of the next one", shift=p.shift + 1
        )
        if p.shift:
            yield setting("shift", "scored each position by its own label", shift=p.shift - 1)


def from_one(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.case.labels is not None:
        yield setting("labels-from-one", "took label y for class y − 1", offset=p.offset - 1)
        yield setting("labels-from-one", "took label y for class y + 1", offset=p.offset + 1)


def class_axis(p: Pipeline, facts: Facts) -> Iterator[Change]:
    case = facts.case
    if p.layout[0] != "asked" or len(case.positions) < 1 or type(case) is not Case:
        return
    shape = list(case.positions)
    shape.insert(case.axis, case.classes)
    for m in range(len(case.positions)):
        axis = m if m < case.axis else m + 1
        if [n for i, n in enumerate(shape) if i != axis] == list(case.positions):
            yield setting("class-axis", options={"axis": axis}, layout=("axis", axis))
        if case.size <= WHOLE:
            said = "normalised over axis {axis}, and read the labels along the class axis"
            yield setting("class-axis", said, options={"axis": axis}, layout=("softmax", m))
    if case.axis != len(shape) - 1:
        said = "reshaped to (-1, K) without moving the classes to the end"
        yield setting("class-axis", said, options={"axis": -1}, layout=("reshape", -1))


# Terms of a row


EPSILONS = (0.1, 0.05, 0.2, 0.01, 0.02, 0.15, 0.25, 0.3, 0.4, 0.5, 0.001)


def smoothing(p: Pipeline, facts: Facts) -> Iterator[Change]:
    asked = p.label_smoothing
    if asked:
        yield setting("smoothing", "did not smooth the labels",
                   options={"label_smoothing": 0.0}, label_smoothing=0.0)  # fmt: skip
    for kind in ("uniform", "others"):
        if kind == "others" and facts.case.classes < 3 and asked == 0:
            continue  # ε of others is 2ε of uniform, of two classes
        if asked and kind != p.smoothing:
            yield setting("smoothing", options={"label_smoothing": asked, "smoothing": kind},
                       smoothing=kind)  # fmt: skip
        yield _smoothing_by(kind)


def _smoothing_by(kind: str) -> Change:
    return Change("smoothing", lambda e: {"label_smoothing": e, "smoothing": kind},
                  lambda p, e: replace(p, label_smoothing=e, smoothing=kind),
                  Free((0.1,), False, 1e-6, 1.0), EPSILONS)  # fmt: skip


def no_weights(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.case.weight is not None and p.weight_power:
        denominator = "count" if p.denominator == "weights" else p.denominator
        yield setting("class-weights-missing", weight_power=0, denominator=denominator)


def squared(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.case.weight is not None and p.weight_power == 1:
        yield setting("class-weights-squared", weight_power=2)
        if p.denominator == "weights":
            yield setting("class-weights-squared", weight_power=2, denominator="squares")


def bits(p: Pipeline, _: Facts) -> Iterator[Change]:
    yield setting("bits", scale=p.scale / math.log(2.0))


def softmax_twice(p: Pipeline, _: Facts) -> Iterator[Change]:
    yield Change("softmax-twice", lambda _: {}, lambda p, _: with_step(p, "softmax", 0))


def sigmoid(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if p.form != "softmax" or type(facts.case) is not Case:
        return
    # binary_cross_entropy divides by the number of elements, whatever their weights.
    denominator = "count" if p.denominator == "weights" else p.denominator
    for form, how in (("mean", "averaged"), ("sum", "summed")):
        said = f"took binary cross-entropies of the classes, {how}"
        yield setting("sigmoid", said, form=form, denominator=denominator)


TEMPERATURES = (2.0, 0.5, 0.7, 0.8, 0.9, 0.1, 0.07, 0.05, 0.01, 0.6, 1.5, 3.0, 4.0, 5.0, 10.0, 20.0)
CAPS = (30.0, 50.0, 15.0, 20.0, 10.0, 5.0, 25.0, 100.0)
PENALTIES = (1e-4, 1e-3, 1e-5, 1e-2, 2e-4, 5e-4, 0.1)


def temperature(p: Pipeline, _: Facts) -> Iterator[Change]:
    if any(name == "temperature" for name, _ in p.steps):
        yield Change("temperature", lambda _: {"temperature": 1.0},
                     lambda p, _: with_step(p, "temperature", None),
                     did="did not divide the logits by a temperature")  # fmt: skip
    yield Change("temperature", lambda t: {"temperature": t},
                 lambda p, t: with_step(p, "temperature", t),
                 Free((1.5, 0.4, 6.0), True, 0.005, 200.0, 1.0), TEMPERATURES)  # fmt: skip


def softcap(p: Pipeline, _: Facts) -> Iterator[Change]:
    if any(name == "softcap" for name, _ in p.steps):
        yield Change("softcap", lambda _: {"softcap": None},
                     lambda p, _: with_step(p, "softcap", None),
                     did="did not cap the logits")  # fmt: skip
    yield Change("softcap", lambda c: {"softcap": c}, lambda p, c: with_step(p, "softcap", c),
                 Free((5.0, 20.0, 80.0), True, 0.5, 1000.0), CAPS)  # fmt: skip


def z_loss(p: Pipeline, _: Facts) -> Iterator[Change]:
    if p.z_loss:
        yield setting("z-loss", "left the z-loss out", options={"z_loss": 0.0}, z_loss=0.0)
    yield Change("z-loss", lambda x: {"z_loss": x}, lambda p, x: replace(p, z_loss=x),
                 Free((1e-3,), False, 2e-6, 10.0), PENALTIES)  # fmt: skip


# The gradient alone


def sign(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.gradient:
        yield setting("gradient-sign", factor=-p.factor)


def scale(p: Pipeline, facts: Facts) -> Iterator[Change]:
    if facts.gradient:
        powers = tuple(2.0**k for k in range(-24, 25) if k)
        usual = tuple(dict.fromkeys((*facts.counts, *(1 / n for n in facts.counts), *powers)))
        yield Change("gradient-scale", lambda x: {"factor": x},
                     lambda p, x: replace(p, factor=x * math.copysign(1.0, p.factor)),
                     Free((2.0,), False, 1e-30, 1e30, 1.0), usual)  # fmt: skip


# Arithmetic

EPS = (1e-7, 1e-8, 1e-12, 1e-15, 1e-6, 1e-10, 1e-5, 1e-9, 1e-4, 1e-3, 1e-16, 2.0**-23, 2.0**-24,
       2.0**-52, 2.0**-10, 2.0**-7)  # fmt: skip
CLIPS = {
    "both": "kept probabilities in [{eps:.4g}, 1 − {eps:.4g}]",
    "low": "kept probabilities above {eps:.4g}",
    "added": "added {eps:.4g} to probabilities in the logarithm",
}


def clipping(p: Pipeline, _: Facts) -> Iterator[Change]:
    if p.form == "softmax":
        for how, said in CLIPS.items():
            for eps in EPS:
                yield setting("clipping", said, options={"eps": eps}, clip=(how, eps))


def rounded(p: Pipeline, facts: Facts) -> Iterator[Change]:
    first = not any(name == "rounded" for name, _ in p.steps)
    loss = facts.loss and p.loss is None
    gradient = facts.gradient and p.gradient is None and p.unscaled is None
    # Before or after a factor of its own, which is not 1 where a rule has put one.
    places = ("gradient", "unscaled")[: 1 if abs(p.factor) == 1 else 2] if gradient else ()
    for dtype in NARROW:
        if first:
            yield _rounding(dtype, "logits", True)
        for place in places:
            if first:
                yield _rounding(dtype, "logits and their gradient", True, **{place: dtype})
            yield _rounding(dtype, "gradient", False, **{place: dtype})
        if loss:
            yield _rounding(dtype, "loss", False, loss=dtype)
        if loss and gradient:
            yield _rounding(dtype, "loss and gradient", False, loss=dtype, gradient=dtype)


def _rounding(dtype: str, what: str, logits: bool, **results: str) -> Change:
    def apply(p: Pipeline, _: float) -> Pipeline:
        return replace(with_step(p, "rounded", dtype) if logits else p, **results)  # type: ignore[arg-type]

    return Change("rounded", lambda _: {"dtype": dtype, "what": what}, apply)
