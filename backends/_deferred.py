"""What depends on values where these are computed later: a graph of tasks, or a model, is written.

The defaults are for arrays that have their values, or whose library follows what is done to them.
"""

from collections.abc import Callable
from typing import Any

Array = Any


class Deferred:
    """The part of a backend that a library overrides whose arrays are computed later, in blocks."""

    xp: Any

    def _refused_later(
        self, label: Array, labels: Array, passed: Array, refusal: Callable[..., Exception]
    ) -> Array | None:
        """Return `label`, which raises when it is computed where not all have passed; or None.

        ``refusal(label, position)`` is the exception. None: the library raises nothing.
        """
        return None

    def _entries(self, x: Array, index: Array) -> Array:
        """Return the entries of a vector at indices of any shape."""
        return self.xp.reshape(self.xp.take(x, self.xp.reshape(index, (-1,)), axis=0), index.shape)

    # Where a division must be told that 0/0 is a result, a method of two arrays that divides.
    _quotient: Callable[..., Any] | None = None

    def _added_up(self, function: Callable[..., Array], *arrays: Array | None) -> Array:
        """Return ``function(self, *arrays)``, whose results of parts of the arrays add up to it."""
        return function(self, *arrays)
