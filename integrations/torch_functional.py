# ruff: noqa: A002 (PyTorch's names of arguments)
"""PyTorch's functions of losses, by its own signatures."""

import warnings

import torch
from torch import Tensor

import xp_xent

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "kl_div", "nll_loss"]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute `xp_xent.cross_entropy` by the signature of ``torch.nn.functional.cross_entropy``.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Logits.
    target : Tensor
        Labels of the shape without C, or probabilities of the input's shape.
    weight : Tensor, shape (C,), optional
        Class weights, which divide the mean of labels too.
    size_average, reduce : bool, optional
        PyTorch's deprecated names of `reduction`, which they override.
    ignore_index : int, default -100
        Rows with this label do not count. With probabilities, which have no label, a negative
        number is without effect and another one is refused.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `xp_xent.cross_entropy`.
    label_smoothing : float in [0, 1], default 0.0
        Spreads ε/C over all classes.

    Returns
    -------
    Tensor
        The loss, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.cross_entropy`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import cross_entropy
    >>> pixels = torch.full((2, 4, 4), -100)
    >>> pixels[:, 1:3, 1:3] = 7
    >>> cross_entropy(torch.zeros(2, 21, 4, 4), pixels)
    tensor(3.0445)
    """
    reduction = _reduction(size_average, reduce, reduction)
    return _cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Compute `xp_xent.nll_loss` by the signature of ``torch.nn.functional.nll_loss``.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ..., dK)
        Log-probabilities.
    target, weight, size_average, ignore_index, reduce, reduction
        As in `cross_entropy`.

    Returns
    -------
    Tensor
        The loss, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.nll_loss`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import nll_loss
    >>> nll_loss(torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([0]))
    tensor(0.3567)
    """
    reduction = _reduction(size_average, reduce, reduction)
    return _nll_loss(input, target, weight, ignore_index, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Compute `xp_xent.binary_cross_entropy_with_logits` by the signature of PyTorch's.

    Parameters
    ----------
    input : Tensor
        Logits of any shape.
    target : Tensor, input's shape
        1 for the positive class, or its probability.
    weight : Tensor, optional
        Multiplies each element's loss; broadcasts against the input, and has no part in the mean.
    size_average, reduce, reduction
        As in `cross_entropy`.
    pos_weight : Tensor, optional
        Multiplies the positive term; broadcasts against the input.

    Returns
    -------
    Tensor
        The loss, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import binary_cross_entropy_with_logits
    >>> binary_cross_entropy_with_logits(torch.tensor([0.8, -1.2]), torch.tensor([1.0, 0.0]))
    tensor(0.3172)
    """
    reduction = _reduction(size_average, reduce, reduction)
    return _binary_cross_entropy_with_logits(input, target, weight, reduction, pos_weight)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Compute `xp_xent.kl_divergence` by the signature of ``torch.nn.functional.kl_div``.

    Parameters
    ----------
    input : Tensor
        Log-probabilities of any shape, which are not normalised again.
    target : Tensor, input's shape
        Probabilities, or their logarithms.
    size_average, reduce
        As in `cross_entropy`.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        "batchmean" divides by the length of the first axis, which gives the divergence; "mean"
        divides by the number of elements, and "none" is of each element.
    log_target : bool, default False
        Whether `target` holds logarithms.

    Returns
    -------
    Tensor
        The divergence, in float32 for float16 and bfloat16.

    Raises
    ------
    TypeError, ValueError
        As in `xp_xent.kl_divergence`.

    Examples
    --------
    >>> import torch
    >>> from xp_xent.integrations.torch import kl_div
    >>> kl_div(torch.full((1, 4), 0.25).log(), torch.eye(4)[:1], reduction="batchmean")
    tensor(1.3863)
    """
    reduction = _reduction(size_average, reduce, reduction)
    return _kl_div(input, target, reduction, log_target)


# TorchScript compiles the functions above; those below it calls in Python, with all arguments.


@torch.jit.ignore
def _cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    no_label = target.is_floating_point() and ignore_index < 0
    return xp_xent.cross_entropy(
        input,
        target,
        axis=min(1, input.ndim - 1),
        weight=weight,
        ignore_index=None if no_label else ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


@torch.jit.ignore
def _nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    return xp_xent.nll_loss(
        input,
        target,
        axis=min(1, input.ndim - 1),
        weight=weight,
        ignore_index=ignore_index,
        reduction=reduction,
    )


@torch.jit.ignore
def _binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    pos_weight: Tensor | None,
) -> Tensor:
    return xp_xent.binary_cross_entropy_with_logits(
        input, target, weight=weight, pos_weight=pos_weight, reduction=reduction
    )


@torch.jit.ignore
def _kl_div(input: Tensor, target: Tensor, reduction: str, log_target: bool) -> Tensor:
    if reduction == "batchmean":  # a row is all of an example
        rows, targets, reduction = _examples(input), _examples(target), "mean"
    else:  # a row is an element
        rows, targets = input.unsqueeze(-1), target.unsqueeze(-1)
    return xp_xent.kl_divergence(
        rows, targets, normalized=True, log_targets=log_target, reduction=reduction
    )


def _examples(x: Tensor) -> Tensor:
    return x.flatten(1) if x.ndim > 1 else x.unsqueeze(-1)


@torch.jit.ignore
def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """Return the reduction that PyTorch's deprecated pair stands for, where it is given."""
    if size_average is None and reduce is None:
        return reduction
    meant = "none" if reduce is False else "sum" if size_average is False else "mean"
    warnings.warn(
        f"size_average and reduce are deprecated: write reduction={meant!r}", stacklevel=3
    )
    return meant
