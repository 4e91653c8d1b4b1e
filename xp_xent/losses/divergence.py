"""Entropy, and the Kullback–Leibler divergence from a softmax."""

from typing import Any

from xp_xent.flow import checks as check
from xp_xent.flow.execute import Evaluation, Reduction, compute
from xp_xent.flow.options import TEMPERATURE, masks, numbers
from xp_xent.flow.plan import Loss, RowPlan, public
from xp_xent.flow.prepare import probability_rows
from xp_xent.flow.validate import row_plan
from xp_xent.kernels.entropy import Entropy
from xp_xent.kernels.kl_divergence import KLDivergence

Array = Any

__all__ = ["entropy", "kl_divergence"]


class _DistributionLoss(Loss):
    """A loss of distributions: of one, or of one from another."""

    def __init__(self, kernel: type[Any], arguments: tuple[str, ...]) -> None:
        super().__init__(arguments, {"temperature": TEMPERATURE})
        self._kernel = kernel

    def validate(self, arrays: tuple[Array, ...], options: dict[str, Any]) -> RowPlan:
        named = dict(zip(self.arguments, arrays, strict=True))
        plan = row_plan(named, options, self.arguments)
        for name, targets in list(named.items())[1:]:
            check.floating(name, targets)
            check.shape(name, targets, tuple(arrays[0].shape), "the logits'")
            check.known_number(name, tuple(targets.shape), plan.axis, "classes")
        numbers(self.ranges, plan.backend, plan.dtype, arrays[0], options)
        return plan

    def prepare(
        self, plan: RowPlan, arrays: tuple[Array, ...], options: dict[str, Any]
    ) -> Evaluation:
        logits, targets = arrays[0], arrays[1] if len(arrays) > 1 else None
        options = numbers(self.ranges, plan.backend, plan.dtype, logits, options)
        kernel = self._kernel(plan.dtype, temperature=options["temperature"])
        rows, weight = probability_rows(plan, logits, targets, masks(plan.backend, options))
        rows = rows._replace(logits=plan.to_kernel(logits))
        return Evaluation(plan, kernel, rows, Reduction.of(plan, options, weight))


_KL_DIVERGENCE = _DistributionLoss(KLDivergence, ("logits", "target_probs"))


@public(_KL_DIVERGENCE)
def kl_divergence(
    logits: Array,
    target_probs: Array,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    class_where: Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
) -> Array:
    """Kullback–Leibler divergence of target probabilities from a softmax: Σ q·(log q − log p).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities of p, the K classes along `axis`.
    target_probs : floating array, logits' shape
        Probabilities q; 0·log 0 is 0.
    axis : int, default -1
        The class axis.
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    class_where, temperature
        As in `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows that count, not over elements.

    Returns
    -------
    array
        The divergence in nats: 0-d, or one number a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit.

    References
    ----------
    .. [1] S. Kullback and R. A. Leibler, "On Information and Sufficiency", Ann. Math. Statist.
       22(1), 1951.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import kl_divergence
    >>> q = np.asarray([[0.5, 0.5, 0.0]])
    >>> print(round(float(kl_divergence(np.zeros((1, 3)), q)), 6))
    0.405465
    """
    options = {
        "axis": axis, "where": where, "class_where": class_where, "temperature": temperature,
        "reduction": reduction,
    }  # fmt: skip
    return compute(_KL_DIVERGENCE, None, (logits, target_probs), options)


_ENTROPY = _DistributionLoss(Entropy, ("logits",))


@public(_ENTROPY)
def entropy(
    logits: Array,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    class_where: Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
) -> Array:
    """Entropy of a softmax: −Σ p·log p with p = softmax(logits).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities, the K classes along `axis`; −inf masks a class.
    axis : int, default -1
        The class axis.
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    class_where, temperature
        As in `cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows that count.

    Returns
    -------
    array
        The entropy in nats, in [0, log K]: 0-d, or one number a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit.

    References
    ----------
    .. [1] C. E. Shannon, "A Mathematical Theory of Communication", Bell Syst. Tech. J. 27, 1948.

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import entropy
    >>> print(round(float(entropy(np.zeros((1, 4)))), 6))
    1.386294
    """
    options = {
        "axis": axis, "where": where, "class_where": class_where, "temperature": temperature,
        "reduction": reduction,
    }  # fmt: skip
    return compute(_ENTROPY, None, (logits,), options)
