"""What is refused of split tensors, and what a fault leaves behind."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from _split_cases import Check, D, Pairs, full, layouts, numbers
from torch import distributed
from torch.distributed.tensor import Shard, distribute_tensor

import xp_xent
from xp_xent import cross_entropy
from xp_xent.backends import _split
from xp_xent.backends._split import split


def fault_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """All ranks refuse what one of them does, within the call, and go on."""
    line = layouts(ranks)[0][0]
    z, y = numbers(6, 7), torch.arange(6)
    by_class, by_row = (distribute_tensor(z, line, [Shard(at)]) for at in (1, 0))
    nan = z.clone()
    nan[3, 6] = torch.nan  # on the last rank alone

    def refused(wanted: str, call: Callable[[], Any]) -> Pairs:
        with pytest.raises((TypeError, ValueError, RuntimeError), match=re.escape(wanted)):
            call()
        assert _split.current.get() is None
        assert _split.now is None
        yield cross_entropy(by_class, y), cross_entropy(z, y)  # nothing is left behind

    for wanted, call in refused_calls(ranks, line, z, y, by_class, by_row):
        yield wanted, lambda g=(wanted, call): refused(*g)

    def spreads() -> Pairs:
        for place in (Shard(1), Shard(0)):
            part = distribute_tensor(nan, line, [place]).requires_grad_()
            loss = cross_entropy(part, y, reduction="none")
            want = cross_entropy(nan, y, reduction="none")
            assert torch.equal(full(loss).isnan(), want.isnan())
            yield full(loss).nan_to_num(), want.nan_to_num()
            assert bool(full(cross_entropy(part, y)).isnan())

    yield "a NaN reaches every rank", spreads

    def same_bits() -> Pairs:
        part = distribute_tensor(numbers(50, 33).float(), line, [Shard(1)])
        for options in ({}, {"label_smoothing": 0.1}):
            loss = cross_entropy(part, torch.arange(50) % 33, reduction="none", **options)
            mine = full(loss).contiguous()
            found = [torch.empty_like(mine) for _ in range(ranks)]
            distributed.all_gather(found, mine)
            assert all(torch.equal(x, mine) for x in found)
        yield torch.zeros(()), torch.zeros(())

    yield "the same bits on every rank", same_bits


def refused_calls(
    ranks: int, line: Any, z: Any, y: Any, by_class: Any, by_row: Any
) -> list[tuple[str, Callable[[], Any]]]:
    """What is refused, of six rows of seven classes and their labels, and in what words."""
    rank, bad = distributed.get_rank(), y.clone()
    bad[4] = 77
    binary = xp_xent.binary_cross_entropy_with_logits
    last = 5 // math.ceil(6 / ranks)  # the part with the last of six rows
    label = "targets: got label 77 at position (4,)"
    return [
        (label, lambda: cross_entropy(by_class, bad)),
        (label, lambda: cross_entropy(by_row, bad)),
        ("tokens: got label 77 at position (0, 4)",
         lambda: xp_xent.next_token_cross_entropy(
             distribute_tensor(z[None], line, [Shard(1)]), bad[None])),
        ("tokens: got label 77 at position (0, 4)", lambda: xp_xent.next_token_cross_entropy(
            distribute_tensor(z[None], line, [Shard(2)]), bad[None])),
        ("targets: got label 77 at position (0, 4)", lambda: xp_xent.linear_cross_entropy(
            distribute_tensor(z[None], line, [Shard(1)]), z, bad[None], shift=True)),
        ("the ranks disagree about the call",
         lambda: cross_entropy(by_class, y, label_smoothing=0.1 * rank)),
        ("the ranks disagree about the call", lambda: recorded(rank == 0)),
        *(("split: got a call within a transform", lambda f=f, by=by: by(f))
          for f in (lambda x: in_split(cross_entropy, x, y), lambda x: in_split(xp_xent.softmax, x))
          for by in (lambda f: torch.func.grad(lambda x: f(x).sum())(z),
                     lambda f: torch.func.jvp(f, (z,), (z,)),
                     lambda f: torch.func.vmap(f)(z[None]))),
        ("the ranks disagree about the shape of the rows",
         lambda: in_split(xp_xent.softmax, z[: 2 + (rank == 0)])),
        ("the ranks disagree about the call",
         lambda: in_split(xp_xent.softmax if rank else xp_xent.log_softmax, z)),
        ("the ranks disagree about the labels", lambda: cross_entropy(by_class, y.roll(rank))),
        ("hessian: got rows whose classes are split",
         lambda: xp_xent.hessian(cross_entropy)(by_class, y)),
        ("label_smoothing: got 2.0", lambda: cross_entropy(by_class, y, label_smoothing=2.0)),
        ("targets: got floating shape (6, 4) for logits of shape (6, 7)",  # as one part's
         lambda: cross_entropy(by_class, z[:, :4])),
        ("axis: got 2", lambda: cross_entropy(by_class, y, axis=2)),
        ("targets: got integer shape", lambda: cross_entropy(by_class, y[:3])),
        ("weight: requires grad",
         lambda: cross_entropy(by_class, y, weight=torch.ones(7, dtype=D, requires_grad=True))),
        ("got create_graph=True", lambda: torch.autograd.grad(
            cross_entropy(x := by_class.clone().requires_grad_(), y), x, create_graph=True)),
        ("targets: got 2.0" if rank == last else f"split: part {last} of the rows",
         lambda: binary(by_row, torch.ones(6, 7, dtype=D) + (torch.arange(6)[:, None] == 5))),
        ("elements stand alone", lambda: in_split(binary, z, z)),
    ]  # fmt: skip


def recorded(on: bool) -> Any:
    """Call a loss behind a linear layer, which is differentiated where it is on."""
    features, classifier = numbers(3, 5), numbers(4, 5).requires_grad_()
    with torch.set_grad_enabled(on):
        return in_split(xp_xent.linear_cross_entropy, features, classifier, torch.arange(3))


def in_split(loss: Any, *arrays: Any) -> Any:
    with split(classes=distributed.group.WORLD):
        return loss(*arrays)


def metric_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Of all rows, perplexity and bits per byte; along an axis that may be split, neither."""
    z, y = numbers(2 * ranks, 3, 5), torch.arange(6 * ranks).reshape(-1, 3) % 5
    here = slice(2 * (rank := distributed.get_rank()), 2 * rank + 2)

    def whole() -> Pairs:
        for function, more in ((xp_xent.perplexity, ()), (xp_xent.bits_per_byte, (9,))):
            with split(rows=distributed.group.WORLD):
                got = function(z[here], y[here], *more)
                for over in (-1, 0, ()):
                    with pytest.raises(ValueError, match=r"over: got .* within split"):
                        function(z[here], y[here], *more, over=over)
            yield got, function(z, y, *more)

    yield "perplexity of all rows", whole

    def dtensors() -> Pairs:
        """Alike they have perplexities along axes; beside plain tensors they have none."""
        line = layouts(ranks)[0][0]
        logits, labels = (distribute_tensor(x, line, [Shard(0)]) for x in (z, y))
        sizes = torch.arange(2 * ranks) + 1
        yield xp_xent.perplexity(logits, labels, over=-1), xp_xent.perplexity(z, y, over=-1)
        for name, call in {
            "targets": lambda: xp_xent.perplexity(logits, y, over=-1),
            "where": lambda: xp_xent.perplexity(logits, labels, over=-1, where=y > 0),
            "num_bytes": lambda: xp_xent.bits_per_byte(logits, labels, sizes, over=-1),
            "sample_weight": lambda: xp_xent.positive_class_weight(labels > 2, sample_weight=sizes),
        }.items():
            with pytest.raises(TypeError, match=f"{name}: got a Tensor beside .*, a DTensor"):
                call()
        for function in (xp_xent.balanced_class_weights, xp_xent.effective_number_weights):
            with pytest.raises(TypeError, match="labels: got a DTensor, which lies in several"):
                function(labels, 5)

    yield "metrics of DTensors", dtensors


def weight_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Weights of classes from labels of which each rank has a part, one of them none."""
    labels, targets = torch.arange(9) ** 2 % 5, (torch.arange(18).reshape(9, 2) % 3 == 0).to(D)
    edges = [0, 0, 7, *[9] * ranks] if ranks > 2 else [0, 7, 9]
    here = slice(edges[(rank := distributed.get_rank())], edges[rank + 1])
    rows = {"rows": distributed.group.WORLD}
    for weight in (None, torch.linspace(0.5, 2.0, 9)):
        part = weight if weight is None else weight[here]

        def counted(weight: Any = weight, part: Any = part) -> Pairs:
            for function in (xp_xent.balanced_class_weights, xp_xent.effective_number_weights):
                with split(**rows):
                    got = function(labels[here], 6, sample_weight=part, absent="zero")
                want = function(labels, 6, sample_weight=weight, absent="zero")
                assert torch.allclose(got, want, rtol=1e-6)
            with split(**rows):
                got = xp_xent.positive_class_weight(targets[here], sample_weight=part)
            yield got, xp_xent.positive_class_weight(targets, sample_weight=weight)

        yield f"weights of {'weighted ' if weight is not None else ''}labels", counted
