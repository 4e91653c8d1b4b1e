"""A stated sample of the wrong pipelines that tests/helpers/pipelines/_verify_score.py scores."""

from __future__ import annotations

import pytest
from _verify_score import GUESSED, MISSED, RIGHT, WRONG, Case, cases, score


def chosen() -> list[Case]:
    """Every 25th single rule, by a hash of the case, on the small size of each data set."""
    return [case for case in cases(pairs=0.0, others=0.0, singles=0.04) if case.size == "small"]


def test_single_rules_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torch", "jax", "optax"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    counts, failures, _ = score(chosen(), show=False)
    outcomes = {outcome for _, outcome in counts}
    assert not outcomes & {WRONG, MISSED, GUESSED}, failures
    # Left out are those whose numbers a shorter explanation gives; one is not to be explained.
    assert counts["one rule", RIGHT] > 25
