"""What became of a test, and of all tests of a subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from xp_xent.conformance._subject import Answer, Subject

PASSED: Final = "passed"
FAILED: Final = "failed"
UNSUPPORTED: Final = "unsupported"
BY_DESIGN: Final = "differs by design"


@dataclass(frozen=True)
class Result:
    """What became of one test.

    Attributes
    ----------
    case_id : str
        The vector's or the check's id.
    outcome : str
        ``"passed"``, ``"failed"``, ``"unsupported"`` or ``"differs by design"``.
    reason : str
        Why, unless it passed.
    kinds : tuple of str
        What was wrong: error, mutation, namespace, device, dtype, shape, value, gradient,
        property.
    ulps : float or None
        The largest error of a number, in units in the last place.
    got : mapping of str to Answer
        What was answered, by ``"value"`` and ``"gradient"``.
    """

    case_id: str
    outcome: str
    reason: str = ""
    kinds: tuple[str, ...] = ()
    ulps: float | None = None
    got: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The first of the kinds."""
        return next(iter(self.kinds), "")


@dataclass(frozen=True)
class Report:
    """The results of one subject, in the order of the cases.

    Attributes
    ----------
    subject : Subject
    results : tuple of Result

    Examples
    --------
    >>> from xp_xent import conformance
    >>> mine = conformance.Subject("nothing", "numpy", {})
    >>> report = conformance.run(mine)
    >>> len(report.passed), len(report.failed), len(report.unsupported) > 0
    (0, 0, True)
    """

    subject: Subject
    results: tuple[Result, ...]

    def _of(self, outcome: str) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]

    @property
    def passed(self) -> list[Result]:
        """Those within every tolerance."""
        return self._of(PASSED)

    @property
    def failed(self) -> list[Result]:
        """Those that are wrong."""
        return self._of(FAILED)

    @property
    def unsupported(self) -> list[Result]:
        """Those that the subject does not take."""
        return self._of(UNSUPPORTED)

    @property
    def by_design(self) -> list[Result]:
        """Those where a peer documents another rule; the reason names it."""
        return self._of(BY_DESIGN)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed
