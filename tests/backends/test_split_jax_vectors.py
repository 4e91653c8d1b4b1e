"""Certified vectors, their classes split over two devices by JAX, in each of its ways."""

from __future__ import annotations

from typing import Any

import pytest
from _split_subject import subject

from xp_xent import conformance

jax = pytest.importorskip("jax")
KINDS = ("named", "Auto", "Explicit")
# Every so many vectors: XLA compiles each call.
FIRST, LATER = 120, {"named": 9, "Auto": 27, "Explicit": 27}


def vectors(step: int) -> list[Any]:
    found = [v for name in conformance.names() for v in conformance.load(name)]
    return [vector for vector in found if vector.dtype in ("float32", "float64")][::step]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param("named", FIRST, id="named-some"),
        *[pytest.param(kind, LATER[kind], id=kind, marks=pytest.mark.full) for kind in KINDS],
    ],
)
def test_vectors(kind: str, step: int) -> None:
    if jax.device_count() < 2:
        pytest.skip("JAX has one device: XLA_FLAGS was set without a second")
    cases = vectors(step)
    report = conformance.run(subject(kind), cases=cases)
    assert [(x.case_id, x.reason) for x in report.failed] == []
    assert len(report.passed) > len(cases) / 2
