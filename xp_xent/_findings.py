"""Suspicions of `diagnose` about logits: their traces, what they cost, which line mends them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xp_xent._seen import HALF, SURE, Seen

__all__ = ["Finding"]

SATURATED = 1e4  # logits of a healthy model are of the order of 10
NEAR_OVERFLOW = HALF / 8  # three doublings are left
MOST = 0.5  # the share of rows above which saturation is no accident


@dataclass(frozen=True)
class Finding:
    """One suspicion of `diagnose`.

    Parameters
    ----------
    code : str
        A stable name of the suspicion, for programs.
    message : str
        How it was seen, and what to look at.
    cost : str, default ""
        What it does to the loss or the training.
    mend : str, default ""
        The line that mends it, where it is a mistake.

    Examples
    --------
    >>> from xp_xent import Finding
    >>> print(Finding("constant", "every row's logits are equal").code)
    constant
    """

    code: str
    message: str
    cost: str = ""
    mend: str = ""


def of_logits(seen: Seen) -> Iterator[Finding]:
    """Judge logits alone."""
    if seen.broken:
        yield Finding(
            "non-finite",
            f"{seen.broken} logits are NaN or +inf; their rows' losses are NaN",
            "the mean and every gradient of the model are NaN",
            "cross_entropy(logits, targets, where=isfinite(logits).all(-1)) leaves the rows out; "
            "float32 in place of float16 keeps logits from overflowing",
        )
    if seen.dead:
        yield Finding(
            "non-finite",
            f"{seen.dead} rows are −inf throughout: no class is left",
            "their losses are NaN, and so is the mean",
            "cross_entropy(logits, targets, where=(logits > -inf).any(-1))",
        )
    if not seen.finite:
        return
    several = seen.classes > 1
    if several and seen.low >= 0 and seen.sums_to_1:
        floor = math.log1p((seen.classes - 1) / math.e)
        yield Finding(
            "probabilities",
            "the logits are ≥ 0 and sum to 1, like the output of a softmax; pass what goes into "
            "the softmax, or their logarithm to nll_loss",
            f"the loss of a perfect row is {floor:.3g}, not 0, and gradients are far too small",
            "nll_loss(log(probabilities), targets)",
        )
    elif seen.high <= 0 and seen.exponentials_sum_to_1:
        yield Finding(
            "log-probabilities",
            "the logits are logarithms of probabilities; cross_entropy normalises them once more, "
            "which costs time and digits: nll_loss takes them as they are",
            "the loss is the same but for time and its last digits",
            "nll_loss(log_probs, targets)",
        )
    if seen.largest > SATURATED:
        yield Finding(
            "saturated",
            f"logits reach {seen.largest:.3g}; a learning rate or an initial scale may be "
            "too large",
            "probabilities are 0 or 1: a row is learnt by jumps, or not at all",
            "cross_entropy(logits, targets, softcap=30.0) bounds them",
        )
    yield from _of_range(seen)
    if several and seen.rows > 1 and seen.spread == 0:
        yield Finding(
            "constant",
            "every row's logits are equal: the model says nothing yet",
            f"the loss is log K = {math.log(seen.classes):.4g}, whatever the targets are",
            "optimizer.step(), and a last layer that does not begin at 0",
        )


def _of_range(seen: Seen) -> Iterator[Finding]:
    if seen.dtype == "float16" and seen.largest > NEAR_OVERFLOW:
        yield Finding(
            "overflow",
            f"float16 logits reach {seen.largest:.5g}, and float16 ends at {HALF:g}",
            "one step more, and logits are infinite: the loss is NaN",
            "logits.astype(float32) before the last layer, or bfloat16",
        )
    elif seen.too_large and seen.dtype in ("float32", "float64"):
        yield Finding(
            "overflow",
            f"{seen.too_large} logits are beyond {HALF:g}, where float16 ends",
            "in half precision, under autocast, they are infinite and the loss is NaN",
            "cross_entropy(logits, targets, softcap=30.0), or bfloat16",
        )
    if seen.classes < 2 or seen.rows < 8:
        return
    total = seen.losses.sum()
    often, dear = seen.sure / seen.rows >= MOST, seen.loss_of_wrong >= MOST * total > 0
    if often or dear:
        share = f", and lose {seen.loss_of_wrong / total:.0%} of all nats" if dear else ""
        yield Finding(
            "saturated-rows",
            f"{seen.sure} of {seen.rows} rows leave less than {SURE:.2g} to all classes but one; "
            f"{seen.surely_wrong} labels have less than that{share}",
            "a softmax in float32 that subtracts 1 gives the sure rows no gradient; the wrong "
            "ones have all of it",
            "cross_entropy(logits, targets, label_smoothing=0.1), and a look at the wrong rows' "
            "labels",
        )
