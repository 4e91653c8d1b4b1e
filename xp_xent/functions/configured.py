"""Configured losses: options chosen once, to pass around, compare, print and pickle."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from xp_xent.backends import backend_of
from xp_xent.flow.plan import Loss, loss_of
from xp_xent.losses.binary import binary_cross_entropy_with_logits
from xp_xent.losses.cross_entropy import cross_entropy

Array = Any

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss"]


@dataclass(frozen=True, eq=False)
class _Configured:
    """What configured losses share; a subclass names its function and its fields."""

    _loss: ClassVar[Loss]

    def options(self) -> dict[str, Any]:
        """Return the options as keyword arguments of the function."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def loss(self) -> Any:
        """The function with its options, for `value_and_grad` and its relatives."""
        return partial(type(self)._loss.function, **self.options())

    def __call__(self, logits: Array, targets: Array, /, **call_options: Any) -> Array:
        """Compute the loss; options given here come before the configured ones."""
        return type(self)._loss.function(logits, targets, **(self.options() | call_options))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Configured) or type(self) is not type(other):
            return NotImplemented
        mine, theirs = self.options(), other.options()
        return all(_equal(mine[name], theirs[name]) for name in mine)

    def __hash__(self) -> int:
        options = self.options().values()
        plain = (x for x in options if not hasattr(x, "dtype") and not isinstance(x, list))
        return hash((type(self), *plain))


@dataclass(frozen=True, eq=False)
class CrossEntropyLoss(_Configured):
    """A configured `cross_entropy`.

    Parameters
    ----------
    axis, weight, ignore_index, label_smoothing, smoothing, z_loss, softcap, temperature, reduction
        As in `cross_entropy`.

    See Also
    --------
    cross_entropy : what it computes, and the options of a call (``where=``, ``sample_weight=``,
        ``normalizer=``).

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import CrossEntropyLoss
    >>> criterion = CrossEntropyLoss(label_smoothing=0.1, reduction="sum")
    >>> print(round(float(criterion(np.zeros((2, 3)), np.asarray([0, 1]))), 6))
    2.197225
    """

    axis: int = -1
    weight: Array | None = None
    ignore_index: int | None = -100
    label_smoothing: float | Array = 0.0
    smoothing: str = "uniform"
    z_loss: float | Array = 0.0
    softcap: float | Array | None = None
    temperature: float | Array = 1.0
    reduction: str = "mean"

    _loss: ClassVar[Loss] = loss_of(cross_entropy)[0]


@dataclass(frozen=True, eq=False)
class BCEWithLogitsLoss(_Configured):
    """A configured `binary_cross_entropy_with_logits`.

    Parameters
    ----------
    weight, pos_weight, ignore_index, label_smoothing, reduction
        As in `binary_cross_entropy_with_logits`.

    See Also
    --------
    binary_cross_entropy_with_logits : what it computes, and the options of a call (``where=``,
        ``sample_weight=``, ``normalizer=``).

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import BCEWithLogitsLoss
    >>> criterion = BCEWithLogitsLoss(reduction="none")
    >>> print(criterion(np.zeros(2), np.asarray([0, 1])))
    [0.69314718 0.69314718]
    """

    weight: Array | None = None
    pos_weight: Array | float | None = None
    ignore_index: int | None = None
    label_smoothing: float | Array = 0.0
    reduction: str = "mean"

    _loss: ClassVar[Loss] = loss_of(binary_cross_entropy_with_logits)[0]


def _equal(a: Any, b: Any) -> bool:
    """Compare two options; arrays by type, shape, dtype and values."""
    if a is b:
        return True
    if not hasattr(a, "dtype") or not hasattr(b, "dtype"):
        return type(a) is type(b) and a == b
    same = type(a) is type(b) and a.dtype == b.dtype and tuple(a.shape) == tuple(b.shape)
    return same and bool(backend_of(a).xp.all(a == b))
