"""Scoring each position of a text by the token after it: labels, weights and masks, shifted."""

from typing import Any

from xp_xent.flow import checks as check
from xp_xent.flow.plan import RowPlan

Array = Any
Options = dict[str, Any]

SHIFT = 1  # what is added to a label's position in a message


class NextTokenPlan(RowPlan):
    """Hide the last position, which predicts nothing, from what the user sees of the losses."""

    def losses_shape(self) -> tuple[int, ...]:
        """Return the shape of the losses: a position less."""
        length: Any = self.rows_shape[-1]
        if length is None or check.known(length, 0):
            return self.rows_shape
        return (*self.rows_shape[:-1], length - 1)

    def from_column(self, losses: Array) -> Array:
        """View one number a row as the user does."""
        found = super().from_column(losses)
        # Without a position there is none to hide.
        return found if check.known(found.shape[-1], 0) else found[..., :-1]

    def cotangent_to_column(self, cotangent: Array) -> Array:
        """Add a cotangent of 0 for the last position."""
        xp = self.backend.xp
        padding = xp.zeros_like(xp.sum(cotangent, axis=-1, keepdims=True))
        return super().cotangent_to_column(xp.concat([cotangent, padding], axis=-1))


def following(plan: RowPlan, tokens: Array, options: Options) -> tuple[Array, Options]:
    """Return the token after each position, with its weight and whether it is to be predicted."""
    where, sample_weight, xp = options["where"], options["sample_weight"], plan.backend.xp
    predicts = tokens * 0 == 0  # mapped over, where the tokens are
    if not check.known(tokens.shape[-1], 0):
        predicts = xp.concat([predicts[..., 1:], ~predicts[..., :1]], axis=-1)
    if where is not None:
        predicts = predicts & _next(xp, where)
    if sample_weight is not None:
        sample_weight = _next(xp, sample_weight)
    return _next(xp, tokens), options | {"where": predicts, "sample_weight": sample_weight}


def _next(xp: Any, array: Array) -> Array:
    """Return each position what the next one has, and the last, which is not used, the first's.

    It is a roll; but PyTorch's asks if there is any position, which a compiler may not know.
    """
    if check.known(array.shape[-1], 0):
        return array
    return xp.concat([array[..., 1:], array[..., :1]], axis=-1)
