"""What peers offer of the options here, and how their functions are brought to these shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from xp_xent import backends

Array = Any
BINARY: Final = "binary_cross_entropy_with_logits"
DEFAULTS: Final = {
    "axis": -1, "weight": None, "pos_weight": None, "sample_weight": None, "where": None,
    "ignore_index": -100, "label_smoothing": 0.0, "smoothing": "uniform", "z_loss": 0.0,
    "softcap": None, "temperature": 1.0, "class_where": None, "reduction": "mean",
    "normalizer": None, "alpha": None, "gamma": 2.0,
}  # fmt: skip


def takes(options: dict[str, Any], *known: str) -> dict[str, Any]:
    """Fill in the defaults of the options that a peer offers; any other one is unsupported."""
    for name, value in options.items():
        if name not in known and (hasattr(value, "dtype") or value != DEFAULTS[name]):
            raise NotImplementedError(f"no {name}")
    return {name: options.get(name, DEFAULTS[name]) for name in known}


def soft(logits: Array, targets: Array) -> bool:
    """Tell probabilities from labels."""
    return targets.ndim == logits.ndim and targets.shape == logits.shape


def no_ignored(targets: Array, options: dict[str, Any]) -> None:
    """Refuse labels that only an ignore_index explains."""
    index = options.pop("ignore_index", -100)
    if index is not None and "int" in str(targets.dtype) and bool((targets == index).any()):
        raise NotImplementedError("no ignore_index")


def reduced(rows: Array, reduction: str) -> Array:
    """Take the mean that a user of a peer without reductions takes."""
    return {"mean": rows.mean, "sum": rows.sum, "none": lambda: rows}[reduction]()


def softmax_rows(rows: Callable[[Array, Array, int], Array]) -> Callable[..., Array]:
    """Dress a loss of rows, `(logits, targets, axis)`, that has no option but the axis."""

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        no_ignored(targets, options)
        given = takes(options, "axis", "reduction")
        return reduced(rows(logits, targets, given["axis"]), given["reduction"])

    return cross_entropy


def elements(loss: Callable[..., Array], *offered: str) -> Callable[..., Array]:
    """Dress a binary loss of elements that has these options."""

    def binary(logits: Array, targets: Array, **options: Any) -> Array:
        given = takes(options, "reduction", *offered)
        reduction = given.pop("reduction")
        targets = backends.backend_of(logits).xp.asarray(targets, dtype=logits.dtype)
        return reduced(loss(logits, targets, **given), reduction)

    return binary


def along(function: Callable[..., Array], name: str) -> Callable[..., Array]:
    """Dress a map of rows, whose axis has that name."""

    def mapped(x: Array, **options: Any) -> Array:
        return function(x, **{name: takes(options, "axis")["axis"]})

    return mapped


# PyTorch, and what is built on it


def require_int64(targets: Array) -> None:
    """Refuse labels that are not of the one dtype that PyTorch takes."""
    if not targets.is_floating_point() and str(targets.dtype) != "torch.int64":
        raise NotImplementedError(f"no labels of {targets.dtype}")


def as_logits(options: dict[str, Any], logits: Array) -> dict[str, Any]:
    """Give weights the logits' dtype, which it insists on."""
    return {k: x.to(logits.dtype) if hasattr(x, "dtype") else x for k, x in options.items()}


def for_pytorch(
    logits: Array, targets: Array, options: dict[str, Any]
) -> tuple[Array, Array, dict[str, Any]]:
    """Return what F.cross_entropy takes: the classes as the second axis, and its own options."""
    axis = options.pop("axis", -1)
    given = takes(options, "weight", "ignore_index", "label_smoothing", "reduction")
    require_int64(targets)
    index = given["ignore_index"]
    if index is None or (index != -100 and soft(logits, targets)):
        raise NotImplementedError("no such ignore_index")
    if logits.ndim > 1:
        targets = targets.movedim(axis, 1) if soft(logits, targets) else targets
        logits = logits.movedim(axis, 1)
    return logits, targets, as_logits(given, logits)
