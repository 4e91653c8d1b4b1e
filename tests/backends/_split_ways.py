"""Other ways of a call of split tensors: compiled, FSDP, what a rank has, certified vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from _split_cases import Check, D, Pairs, full, layouts, numbers
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import xp_xent
from xp_xent import conformance, cross_entropy, value_and_grad
from xp_xent.backends._split import split
from xp_xent.conformance import Subject
from xp_xent.conformance._subjects import LOSSES, MAPS


def way_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Plain tensors, the compiler, and a model that FSDP shards with a vocabulary that is split."""
    line = layouts(ranks)[0][0]
    z, y = numbers(6, 7), torch.arange(6)

    def compiled(place: Any, options: Any) -> Pairs:
        whole = z.clone().requires_grad_()
        part = distribute_tensor(z, line, [place]).requires_grad_()

        def loss(x: Any, y: Any) -> Any:
            return cross_entropy(x * 1.0, y, **options)

        want, got = (
            loss(whole, y),
            torch.compile(loss, fullgraph=True, backend="aot_eager")(part, y),
        )
        yield got, want
        want.backward()
        got.backward()
        yield part.grad, whole.grad

    def by_temperature(place: Any, options: Any) -> Pairs:
        """Of a number that all rows share, each rank has the whole derivative."""
        here, whole = (torch.tensor(2.0, dtype=D, requires_grad=True) for _ in range(2))
        part = distribute_tensor(z, line, [place])
        full(cross_entropy(part, y, temperature=here, **options)).sum().backward()
        cross_entropy(z, y, temperature=whole, **options).sum().backward()
        yield here.grad, whole.grad

    for place in (Shard(1), Shard(0)):
        for options in ({}, {"reduction": "none"}):
            yield (
                f"by temperature {place} {[*options]}",
                lambda g=(place, options): by_temperature(*g),
            )

    for options in ({}, {"label_smoothing": 0.1}, {"reduction": "none"}):
        yield f"plain {[*options]}", lambda options=options: of_plain(ranks, options)

    for place in (Shard(1), Shard(0)):
        for options in ({}, {"label_smoothing": 0.1}):
            if every or (place == Shard(1) and not options):
                yield f"compiled {place} {[*options]}", lambda g=(place, options): compiled(*g)

    if ranks == 4:
        yield "FSDP and a split vocabulary", fsdp


def of_plain(ranks: int, options: Any) -> Pairs:
    """Uneven parts of classes, and of rows, one of them without any."""
    z, y = numbers(3, 11) * 3, torch.tensor([4, -100, 10])
    rank, group = distributed.get_rank(), distributed.group.WORLD
    whole = z.clone().requires_grad_()
    want = cross_entropy(whole, y, **options)
    want.sum().backward()
    for axis, edges in ((1, [0, 4, *[11] * (ranks - 1)]), (0, [0, 1, *[3] * (ranks - 1)])):
        here = (slice(None),) * axis + (slice(edges[rank], edges[rank + 1]),)
        part, of = z[here].clone().requires_grad_(), {"rows": group} if axis == 0 else {}
        with split(**(of or {"classes": group})):
            got = cross_entropy(part, y if axis else y[here], **options)
        got.sum().backward()
        yield got, want if axis or want.ndim == 0 else want[here]
        yield part.grad, whole.grad[here]


class Model(torch.nn.Module):
    """A layer, and a classifier of whose classes each rank has some."""

    def __init__(self, mesh: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Linear(8, 5, dtype=D)
        head = torch.randn(11, 5, dtype=D)
        self.mesh = mesh
        self.head = torch.nn.Parameter(
            head if mesh is None else head.tensor_split(mesh.size())[mesh.get_local_rank()].clone()
        )

    def forward(self, x: Any, y: Any) -> Any:
        h = self.body(x).tanh()
        if self.mesh is None:
            return xp_xent.linear_cross_entropy(h, self.head, y)
        with split(classes=self.mesh.get_group()):
            return xp_xent.linear_cross_entropy(h, self.head, y)


def fsdp() -> Pairs:
    """Rows over one dimension of the mesh, by FSDP; the vocabulary over the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    x, y = numbers(6, 8), torch.arange(6) % 11
    rank = mesh["data"].get_local_rank()
    whole, part = Model(), Model(mesh["model"])
    fully_shard(part, mesh=mesh["data"])
    for model, rows in ((whole, slice(0, 6)), (part, slice(3 * rank, 3 * rank + 3))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(x[rows], y[rows])
            loss.backward()
            optimizer.step()
    at = mesh["model"].get_local_rank()
    yield part.body.weight.full_tensor(), whole.body.weight
    yield part.head.full_tensor(), whole.head.tensor_split(2)[at]


def vector_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Certified values on DTensors, some of them: each case waits for the ranks."""
    chosen = layouts(ranks)
    chosen = chosen if every else [chosen[0], *chosen[3:4]]
    for at, (mesh, places) in enumerate(chosen):

        def check(mesh: Any = mesh, places: Any = places, at: int = at) -> Pairs:
            def placed(x: Any, axis: int) -> Any:
                where = [
                    Shard(axis % x.ndim) if p == Shard(1) and x.ndim
                    else Shard(0) if p == Shard(0) and x.ndim > 1 and axis % x.ndim != 0
                    else Replicate()
                    for p in places
                ]  # fmt: skip
                return distribute_tensor(x, mesh, where)

            def value(function: Any) -> Any:
                def call(x: Any, *others: Any, **options: Any) -> Any:
                    axis = options.get("axis", -1)
                    if not isinstance(axis, int) or isinstance(axis, bool):
                        axis = -1
                    in_range = x.ndim > 0 and -x.ndim <= axis < x.ndim
                    x = placed(x, axis) if in_range else x
                    return in_full(function(x, *others, **options))

                return call

            closed = {name: value(value_and_grad(loss)) for name, loss in LOSSES.items()}
            subject = Subject(
                "split", "torch", {name: value(f) for name, f in (LOSSES | MAPS).items()},
                {name: (lambda *a, f=f, **k: f(*a, **k)[1]) for name, f in closed.items()},
                traced=True,
            )  # fmt: skip
            cases = [x for x in conformance.cases() if isinstance(x, conformance.Vector)]
            cases = cases[at :: (6 if every else 12) * ranks]
            failed = conformance.run(subject, cases=cases).failed
            # Positions of texts are split here, too, which is refused without a reduction.
            failed = [x for x in failed if "positions lie with several ranks" not in x.reason]
            assert not failed, (len(failed), [(x.case_id, x.reason) for x in failed[:4]])
            yield torch.tensor(float(len(cases) > 50)), torch.ones(())

        yield f"vectors {places}", check


def in_full(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(in_full, x))
    return x.full_tensor() if isinstance(x, DTensor) else x
