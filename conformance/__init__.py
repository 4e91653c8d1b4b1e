"""Vectors with certified answers, the tolerances that go with them, and who is judged by them."""

from xp_xent.conformance._checks import Check
from xp_xent.conformance._load import Expected, Host, Vector, load, names
from xp_xent.conformance._ranks import on_ranks
from xp_xent.conformance._result import Report, Result
from xp_xent.conformance._run import every as cases
from xp_xent.conformance._run import run
from xp_xent.conformance._subject import Subject

__all__ = [
    "Check",
    "Expected",
    "Host",
    "Report",
    "Result",
    "Subject",
    "Vector",
    "cases",
    "load",
    "names",
    "on_ranks",
    "run",
]
