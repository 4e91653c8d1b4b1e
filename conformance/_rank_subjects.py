"""Who computes on ranks of torch.distributed: this library on distributed tensors, and peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from xp_xent.conformance._ranks import Pool
from xp_xent.conformance._subject import Subject

Call = Callable[..., Any]
Calls = Mapping[str, Call]
RANKS: Final = 2


def _require_gloo() -> None:
    from torch import distributed

    if not (distributed.is_available() and distributed.is_gloo_available()):
        raise ImportError("needs PyTorch with gloo")


def _evaluated(loss: str, /, *given: Any, **options: Any) -> Any:
    """Evaluate one of the losses that are imported on ranks alone."""
    from xp_xent.conformance import _rank_losses

    return getattr(_rank_losses, loss)(*given, **options)


def _of(loss: str, *given: Any) -> Call:
    return partial(_evaluated, loss, *given)


def _subject(name: str, values: Calls, gradients: Calls, *packages: str) -> Subject:
    pool = Pool(RANKS)
    functions, slopes = (
        {key: pool.on(call) for key, call in calls.items()} for calls in (values, gradients)
    )
    return Subject(name, "torch", functions, slopes, packages=(*packages, "torch"))


def own_on_ranks(names: Iterable[str]) -> Iterator[Subject]:
    """Give this library, on logits that are split along their last axis or their first."""
    _require_gloo()
    for axis in (-1, 0):
        values = {name: _of("own", name, axis) for name in names}
        gradients = {name: _of("gradient", loss) for name, loss in values.items()}
        name = f"xp_xent on DTensor, Shard({axis}), {RANKS} ranks"
        yield _subject(name, values, gradients, "xp_xent")


# Peers


def _peer(name: str, loss: str, within: str | None = None) -> Subject:
    _require_gloo()
    value = _of(loss)
    gradient = _of("gradient", value)
    if within is not None:
        value, gradient = _of(within, value), _of(within, gradient)
    return _subject(name, {"cross_entropy": value}, {"cross_entropy": gradient})


LOSSES: Final = {
    f"PyTorch loss_parallel on {RANKS} ranks": ("by_classes", "under_loss_parallel"),
    f"PyTorch F.cross_entropy on DTensor, Shard(0), {RANKS} ranks": ("by_rows",),
    f"Megatron-style vocabulary-parallel cross-entropy on {RANKS} ranks": ("megatron_style",),
}
RANK_PEERS: Final[dict[str, Callable[[], Subject]]] = {
    name: partial(_peer, name, *loss) for name, loss in LOSSES.items()
}
