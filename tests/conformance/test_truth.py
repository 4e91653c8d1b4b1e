"""The certified reference and the independent one agree: on values, and on every slope."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _cases import LOSSES, Case, cases, is_float
from _sound import WIDE, CrossEntropy, Loss
from _sound_binary import Binary
from _sound_others import (
    Divergence,
    Entropy,
    Focal,
    JensenShannon,
    Linear,
    NegativeLogLikelihood,
    NextToken,
    OfProbabilities,
    Poly,
    SigmoidFocal,
)
from _tools import arguments_of
from hypothesis import given, seed, settings

SOUND: dict[str, type[Any]] = {
    sound.function: sound
    for sound in (
        Binary, CrossEntropy, Divergence, Entropy, Focal, JensenShannon, Linear,
        NegativeLogLikelihood, NextToken, OfProbabilities, Poly, SigmoidFocal,
    )
}  # fmt: skip
STEP = WIDE(2) ** -20


def value(case: Case, arrays: list[Any], options: dict[str, Any]) -> Any:
    """The independent value, in extended precision."""
    sound: Loss = SOUND[case.loss]()
    return sound(*(a.astype(WIDE) if is_float(a) else a for a in arrays), **options)[0]


def slope(case: Case, argument: int | str, along: Any) -> Any:
    """The independent value's slope by one argument, a central difference."""
    ends = []
    for sign in (1, -1):
        arrays, options = list(case.arrays), dict(case.options)
        held: Any = options if isinstance(argument, str) else arrays
        held[argument] = held[argument].astype(WIDE) + sign * STEP * along
        got = value(case, arrays, options)
        ends.append(np.sum(got if case.cotangent is None else got * case.cotangent))
    return (ends[0] - ends[1]) / (2 * STEP)


def assert_truth(case: Case) -> None:
    """Values to 1e-15, slopes along a random direction to 1e-9, of what is added up."""
    truth = case.truth()
    got = value(case, list(case.arrays), case.options)
    assert got.shape == truth.value.shape
    if not np.isfinite(truth.value).all():  # nothing counts
        assert np.isnan(got).all()
        return
    assert (abs(got - truth.value) <= 1e-15 * np.maximum(abs(truth.value), 1)).all()
    rng = np.random.default_rng(0)
    for argument, place in zip(*arguments_of(case), strict=True):
        gradient = truth.gradients[place]
        # At a small probability the difference is none of a logarithm: it stays.
        fixed = place == 1 and case.loss != "linear_cross_entropy"
        along = rng.normal(size=gradient.shape)
        along = np.where(fixed & (case.arrays[1] < 1e-2), 0, along) if fixed else along
        want, size = np.sum(gradient * along), np.sum(abs(gradient * along))
        assert abs(slope(case, argument, along) - want) <= 1e-9 * max(size, 1)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_references_agree(loss: str) -> None:
    @seed(9)
    @settings(max_examples=40)
    @given(cases(loss))
    def check(case: Case) -> None:
        assert_truth(case)

    check()
