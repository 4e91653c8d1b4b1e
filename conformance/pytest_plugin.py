"""Adopt the vectors in the test suite of another library.

>>> from xp_xent.conformance import Subject
>>> from xp_xent.conformance.pytest_plugin import conformance_test
>>> test_vectors = conformance_test(Subject("mine", "numpy", {}))
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xp_xent.conformance._checks import Check
from xp_xent.conformance._load import Vector
from xp_xent.conformance._result import BY_DESIGN, FAILED, UNSUPPORTED
from xp_xent.conformance._run import every, run
from xp_xent.conformance._subject import Subject

__all__ = ["conformance_test"]


def conformance_test(
    subject: Subject, *, topics: tuple[str, ...] | None = None
) -> Callable[[Vector | Check], None]:
    """Make a test function that pytest collects, one test for each vector and check.

    Parameters
    ----------
    subject : Subject
    topics : tuple of str, optional
        The topics to ask; all, unless given.

    Returns
    -------
    callable
        Assign it to a name that begins with ``test_``. What is unsupported is skipped.
    """
    cases = [case for case in every() if topics is None or case.topic in topics]

    @pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])
    def test(case: Vector | Check) -> None:
        (result,) = run(subject, cases=[case]).results
        if result.outcome in (UNSUPPORTED, BY_DESIGN):
            pytest.skip(f"{result.outcome}: {result.reason}")
        if result.outcome == FAILED:
            pytest.fail(f"{case.comment}: {result.reason}", pytrace=False)

    return test
