"""The plan of what is computed element by element: each is a row of one class."""

from typing import Any

from xp_xent.flow.plan import RowPlan

Array = Any


class ElementPlan(RowPlan):
    """A plan whose rows have one class, along an axis that the user's arrays do not have."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.moves_axis = True

    def to_kernel(self, array: Array) -> Array:
        """View an array of elements as (..., 1)."""
        return self.backend.xp.expand_dims(array, axis=-1)

    def to_user(self, array: Array) -> Array:
        """Undo `to_kernel`."""
        return self.backend.xp.squeeze(array, axis=-1)

    def counts(self, like: Array) -> Array | None:
        """Return 1 for each element where how many is not known yet."""
        return None if self.knows_rows else self.backend.xp.ones_like(like, dtype=self.dtype)
