"""The loss of rows with a label each and nothing else beside it, as a device walks over elements.

A row's loss and the factors of its gradient are functions of numbers of the row: its maximum, its
label's logit, the sum of the other exponentials. So two walks over elements are enough, one that
sums and one that writes the gradient, and an adapter may have a fused kernel for each (`sums`,
`gradient`). Everything between them is computed once for all rows, not once a block.
"""

from typing import Any

from xp_xent._anchored import Anchored
from xp_xent._rows import Rows, close_loss, row_factor
from xp_xent._softmax_rows import Open, SoftmaxRows

Array = Any


class Summed(Anchored):
    """The sums of whole rows around their labels, without the exponentials."""

    def __init__(self, backend: Any, z: Array, label: Array, dtype: Any) -> None:
        self.xp, self.backend, self.z, self.anchor = backend.xp, backend, z, label
        self.shift, self.rest, own = backend.sums(z, label, dtype)
        self.lead = own - self.shift
        self._sum_up()


class LabelRows(SoftmaxRows):
    """The value and the gradient of `SoftmaxRows` in two walks; both take all rows at once."""

    def value(self, backend: Any, rows: Rows) -> Array:
        """Give each row's loss, (..., 1)."""
        return close_loss(backend, rows, self._loss(self._summed(backend, rows)))

    def value_and_gradient(
        self, backend: Any, rows: Rows, cotangent: Array | float
    ) -> tuple[Array, Array]:
        """Give each row's loss, and the derivative of Σ cotangent·loss by the logits."""
        block, factor = self._summed(backend, rows), row_factor(rows, cotangent)
        by_class, entry = (slope * factor for slope in self._row_slopes(block))
        shift, label = block.row.shift, block.row.anchor
        gradient = backend.gradient(rows.logits, shift, by_class, label, entry, rows.counted)
        return close_loss(backend, rows, self._loss(block)), gradient

    def _summed(self, backend: Any, rows: Rows) -> Open:
        row = Summed(backend, rows.logits, rows.label, self.dtype)
        return Open(row, None, None, self._label_mass(rows), None, 0.0, 0.0)


def streamed(kernel: Any, method: str, rows: Rows) -> LabelRows | None:
    """Give the kernel whose method does the same in such walks; None where there is none."""
    if type(kernel) is not SoftmaxRows or method not in vars(LabelRows):
        return None
    if kernel.softcap is not None or rows.spread is not None or rows.label is None:
        return None
    return LabelRows(**vars(kernel))
