"""Whether pipelines compute the same loss, and what is wrong with one: on arrays in files.

The commands ``xp-xent backends``, ``verify``, ``diagnose`` and ``loss`` are here too.
"""

from xp_xent.verify._compare import compare
from xp_xent.verify._result import BackendResult, ClaimResult, InputResult, Result, RowResult
from xp_xent.verify._search import Explanation
from xp_xent.verify._stored import BadInput

__all__ = [
    "BackendResult",
    "BadInput",
    "ClaimResult",
    "Explanation",
    "InputResult",
    "Result",
    "RowResult",
    "compare",
]
