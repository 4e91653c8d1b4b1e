"""Entropy, and divergences of softmaxes: Kullback–Leibler, Jensen–Shannon."""

from typing import Any

from xp_xent.flow.distributions import DistributionLoss
from xp_xent.flow.execute import compute
from xp_xent.flow.options import UNIT
from xp_xent.flow.plan import public
from xp_xent.kernels.entropy import Entropy
from xp_xent.kernels.jensen_shannon import JensenShannon
from xp_xent.kernels.kl_divergence import KLDivergence
from xp_xent.kernels.label_smoothing import Smoothing
from xp_xent.kernels.log_probs_divergence import LogProbsDivergence

Array = Any

__all__ = ["entropy", "jensen_shannon_divergence", "kl_divergence"]


def _kl_kernel(dtype: Any, options: dict[str, Any]) -> Any:
    log_targets, temperature = options["log_targets"], options["temperature"]
    if options["normalized"]:
        return LogProbsDivergence(dtype, Smoothing(), log_targets)
    return KLDivergence(dtype, temperature=temperature, log_targets=log_targets)


def _jensen_shannon_kernel(dtype: Any, options: dict[str, Any]) -> Any:
    return JensenShannon(dtype, options["beta"], options["temperature"])


def _entropy_kernel(dtype: Any, options: dict[str, Any]) -> Any:
    return Entropy(dtype, options["temperature"])


_KL_DIVERGENCE = DistributionLoss(_kl_kernel, ("logits", "targets"))


@public(_KL_DIVERGENCE)
def kl_divergence(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: int = -1,
    where: Array | None = None,
    class_where: Array | None = None,
    sample_weight: Array | None = None,
    normalizer: float | Array | None = None,
    temperature: float | Array = 1.0,
    log_targets: bool = False,
    normalized: bool = False,
    reduction: str = "mean",
) -> Array:
    r"""Kullback–Leibler divergence of target probabilities from a softmax.

    For targets q and p = softmax(z) it is

    .. math:: \mathrm{KL}(q \| p) = \sum_j q_j (\log q_j - \log p_j).

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities of p, the K classes along `axis`.
    targets : floating array, logits' shape
        Probabilities q; 0·log 0 is 0. They need not add up to 1.
    axis : int, default -1
        The class axis.
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    class_where
        As in `cross_entropy`.
    sample_weight : array, logits' shape without `axis`, optional
        Multiplies a row's divergence, and its share of the mean's denominator.
    normalizer : float or 0-d array, optional
        Replaces the mean's denominator.
    temperature : float or 0-d array, default 1.0
        Divides the logits, not the targets, which are probabilities.
    log_targets : bool, default False
        Whether `targets` are log q; −inf is a probability of 0.
    normalized : bool, default False
        Whether `logits` are log p as they are, and are not normalised again: then the divergence
        is what `p` and `q` are, whether or not they add up to 1, and linear in log p.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean is over the rows that count, not over elements.

    Returns
    -------
    array
        The divergence in nats: 0-d, or one number a row with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        A dtype, library, shape, device or option that does not fit; a temperature beside
        ``normalized=True``.

    See Also
    --------
    jensen_shannon_divergence : of two arrays of logits, bounded.

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
        "axis": axis, "where": where, "class_where": class_where, "sample_weight": sample_weight,
        "normalizer": normalizer, "temperature": temperature, "log_targets": log_targets,
        "normalized": normalized, "reduction": reduction,
    }  # fmt: skip
    return compute(_KL_DIVERGENCE, None, (logits, targets), options)


_JENSEN_SHANNON = DistributionLoss(_jensen_shannon_kernel, ("logits", "target_logits"), beta=UNIT)


@public(_JENSEN_SHANNON)
def jensen_shannon_divergence(
    logits: Array,
    target_logits: Array,
    /,
    *,
    axis: int = -1,
    beta: float | Array = 0.5,
    where: Array | None = None,
    class_where: Array | None = None,
    sample_weight: Array | None = None,
    normalizer: float | Array | None = None,
    temperature: float | Array = 1.0,
    reduction: str = "mean",
) -> Array:
    r"""Jensen–Shannon divergence of two softmaxes.

    With p = softmax(logits/T), q = softmax(target_logits/T) and m = βq + (1 − β)p it is

    .. math:: \beta\,\mathrm{KL}(q \| m) + (1 - \beta)\,\mathrm{KL}(p \| m).

    It is at most the entropy of β, and, where p and q nearly agree, β(1 − β)/2 times the variance
    of log(q/p): that has its digits.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Unnormalised log-probabilities of p, the K classes along `axis`; −inf masks a class.
    target_logits : floating array, logits' shape
        Those of q; −inf masks a class of q alone, and the divergence stays finite.
    axis : int, default -1
        The class axis.
    beta : float or 0-d array in [0, 1], default 0.5
        The share β of q in the mixture. 0 and 1 are limits: the divergence is 0 there. (Over
        β or 1 − β it would tend to KL(q‖p) or KL(p‖q), which are `kl_divergence`.)
    where : boolean array, logits' shape without `axis`, optional
        The rows that count.
    class_where : boolean array, optional
        The classes that take part, of both, as in `cross_entropy`.
    sample_weight : array, logits' shape without `axis`, optional
        Multiplies a row's divergence, and its share of the mean's denominator.
    normalizer : float or 0-d array, optional
        Replaces the mean's denominator.
    temperature : float or 0-d array, default 1.0
        Divides both logits; the divergence is not multiplied by its square.
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

    See Also
    --------
    kl_divergence : of target probabilities, with the share of one of the two.

    References
    ----------
    .. [1] J. Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Trans. Inf. Theory
       37(1), 1991.
    .. [2] R. Agarwal et al., "On-Policy Distillation of Language Models: Learning from
       Self-Generated Mistakes", ICLR 2024 (β in distillation).

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent import jensen_shannon_divergence
    >>> student, teacher = np.asarray([[0.0, 0.0]]), np.asarray([[0.0, 2e-8]])
    >>> print(f"{jensen_shannon_divergence(student, teacher):.6g}")
    1.25e-17
    """
    options = {
        "axis": axis, "beta": beta, "where": where, "class_where": class_where,
        "sample_weight": sample_weight, "normalizer": normalizer, "temperature": temperature,
        "reduction": reduction,
    }  # fmt: skip
    return compute(_JENSEN_SHANNON, None, (logits, target_logits), options)


_ENTROPY = DistributionLoss(_entropy_kernel, ("logits",))


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
    r"""Entropy of a softmax.

    .. math:: H(p) = -\sum_j p_j \log p_j, \qquad p = \mathrm{softmax}(z).

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
