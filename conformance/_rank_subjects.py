"""Who computes on ranks of torch.distributed: this library on distributed tensors, and peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from xp_xent.conformance._ranks import on_ranks
from xp_xent.conformance._subject import Subject

Call = Callable[..., Any]
Calls = dict[str, Call]
RANKS: Final = 2


def _losses() -> Any:
    """Import what ranks evaluate."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        raise ImportError("needs PyTorch with gloo")
    from xp_xent.conformance import _rank_losses

    return _rank_losses


def _subject(name: str, values: Calls, gradients: Calls, *packages: str) -> Subject:
    on = ({k: on_ranks(call, RANKS) for k, call in calls.items()} for calls in (values, gradients))
    return Subject(name, "torch", *on, packages=(*packages, "torch"))


def own_on_ranks(names: Iterable[str]) -> Iterator[Subject]:
    """Give this library, on logits that are split along their last axis or their first."""
    ranks = _losses()
    for axis in (-1, 0):
        values = {name: partial(ranks.own, name, axis) for name in names}
        gradients = {name: partial(ranks.gradient, loss) for name, loss in values.items()}
        name = f"xp_xent on DTensor, Shard({axis}), {RANKS} ranks"
        yield _subject(name, values, gradients, "xp_xent")


# Peers


def _peer(name: str, loss: str, within: str | None = None) -> Subject:
    ranks = _losses()
    value: Call = getattr(ranks, loss)
    gradient: Call = partial(ranks.gradient, value)
    if within is not None:
        value, gradient = (partial(getattr(ranks, within), x) for x in (value, gradient))
    return _subject(name, {"cross_entropy": value}, {"cross_entropy": gradient})


LOSSES: Final = {
    f"PyTorch loss_parallel on {RANKS} ranks": ("by_classes", "under_loss_parallel"),
    f"PyTorch F.cross_entropy on DTensor, Shard(0), {RANKS} ranks": ("by_rows",),
    f"Megatron-style vocabulary-parallel cross-entropy on {RANKS} ranks": ("megatron_style",),
}
RANK_PEERS: Final[dict[str, Callable[[], Subject]]] = {
    name: partial(_peer, name, *loss) for name, loss in LOSSES.items()
}
