"""What is asked of losses of split tensors, on each rank alike: groups of named checks.

A check returns pairs (got, wanted), in float64 equal to 1e-12 of the larger; or it asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import xp_xent
from xp_xent import cross_entropy, hessian_diagonal, hvp, value_and_grad
from xp_xent.conformance.tolerance import cross_entropy_bounds

Pairs = Iterator[tuple[Any, Any]]
Check = Callable[[], Any]
ROWS, CLASSES = 6, 7  # over four ranks: uneven, over axis 1 of 7 an empty part of 5 classes
D = torch.float64


def full(x: Any) -> Any:
    return x.full_tensor() if isinstance(x, DTensor) else x


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def numbers(*shape: int) -> Any:
    return torch.randn(*shape, generator=generator(), dtype=D)


def layouts(ranks: int) -> list[tuple[Any, list[Any]]]:
    """Meshes and placements: classes, rows, both, two dimensions of the mesh on the classes."""
    line = init_device_mesh("cpu", (ranks,))
    found = [(line, [Shard(1)]), (line, [Shard(0)]), (line, [Replicate()])]
    if ranks == 4:
        square = init_device_mesh("cpu", (2, 2))
        places = [[Shard(0), Shard(1)], [Shard(1), Shard(0)], [Shard(1), Shard(1)]]
        found += [(square, place) for place in [*places, [Replicate(), Shard(1)]]]
    return found


def losses(classes: int = CLASSES) -> Iterator[tuple[str, Any, tuple[Any, ...], dict[str, Any]]]:
    """Each option of cross_entropy, and the other losses of rows."""
    g = generator()
    y = torch.randint(0, classes, (ROWS,), generator=g)
    y[2] = -100
    q = torch.softmax(torch.randn(ROWS, classes, generator=g, dtype=D), 1)
    weight, by_row = (torch.rand(n, generator=g, dtype=D) + 0.1 for n in (classes, ROWS))
    where, part = (torch.rand(*n, generator=g) > 0.3 for n in ((ROWS,), (ROWS, classes)))
    part[torch.arange(ROWS), y.clamp(0)] = True
    others = {"label_smoothing": 0.1, "smoothing": "others"}
    options: dict[str, dict[str, Any]] = {
        "plain": {}, "smoothed": {"label_smoothing": 0.1}, "others": others,
        "weight": {"weight": weight},
        "weight, smoothed": {"weight": weight, "label_smoothing": 0.2},
        "where": {"where": where}, "sample_weight": {"sample_weight": by_row},
        "class_where": {"class_where": part},
        "class_where, smoothed": {"class_where": part} | others,
        "normalizer": {"normalizer": 3.0}, "sum": {"reduction": "sum"},
        "none": {"reduction": "none"}, "none, smoothed": {"reduction": "none"} | others,
        "map": {"temperature": 2.0, "softcap": 10.0, "z_loss": 0.01},
        "stats": {"return_stats": True, "z_loss": 0.1, "label_smoothing": 0.1},
    }  # fmt: skip
    for name, given in options.items():
        yield name, cross_entropy, (y,), given
    for name, given in (("", {}), (", smoothed", others | {"weight": weight})):
        yield f"probabilities{name}", cross_entropy, (q,), given
    yield "probabilities, stats", cross_entropy, (q,), {"return_stats": True}
    yield "kl", xp_xent.kl_divergence, (q,), {}
    yield "entropy", xp_xent.entropy, (), {}
    yield "focal", xp_xent.softmax_focal_loss, (y,), {"label_smoothing": 0.1}
    yield "poly", xp_xent.poly_cross_entropy, (y,), {}
    yield "jensen_shannon", xp_xent.jensen_shannon_divergence, (q.flip(1),), {}


def of_layout(
    z: Any, mesh: Any, places: Any, loss: Any, targets: Any, options: Any, curved: bool
) -> Pairs:
    """Loss, statistics, gradient by backward and in closed form, and curvature."""
    whole = z.clone().requires_grad_()
    part = distribute_tensor(z, mesh, places).requires_grad_()
    want, got = loss(whole, *targets, **options), loss(part, *targets, **options)
    if options.get("return_stats"):
        yield from zip(got[1], want[1], strict=True)
        want, got = want[0], got[0]
    yield got, want
    want.sum().backward()
    got.sum().backward()
    assert tuple(part.grad.placements) == tuple(part.placements)
    yield part.grad, whole.grad
    with torch.no_grad():
        found = loss(part, *targets, **options)
        yield found[0] if options.get("return_stats") else found, want
    yield value_and_grad(loss)(part.detach(), *targets, **options)[1], whole.grad
    if curved and not options.get("return_stats"):
        vector = z.flip(1)
        given = (*targets, vector)
        yield hvp(loss)(part.detach(), *given, **options), hvp(loss)(z, *given, **options)
        want = hessian_diagonal(loss)(z, *targets, **options)
        yield hessian_diagonal(loss)(part.detach(), *targets, **options), want


def option_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Each option on the layouts; in the first tier, classes over a line, and a few on each."""
    for classes in (CLASSES, 5) if every else (CLASSES,):
        z = numbers(ROWS, classes) * 5
        for at, (mesh, places) in enumerate(layouts(ranks)):
            for name, loss, targets, options in losses(classes):
                if every or at == 0 or name in ("plain", "smoothed", "weight, smoothed", "none"):
                    given = z, mesh, places, loss, targets, options, every or at == 0
                    yield f"{name} of {classes}, {places}", lambda g=given: of_layout(*g)


def block_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Parts of more than one block: rows of theirs are walked a few at a time."""
    z, y = numbers(300 * ranks, 2000), torch.arange(300 * ranks) * 7 % 2000
    weight = torch.linspace(0.5, 2, 2000, dtype=D)
    mesh, places = layouts(ranks)[0]
    for options in ({}, {"label_smoothing": 0.1, "weight": weight}):
        given = z, mesh, places, cross_entropy, (y,), options, False
        yield f"blocks {[*options]}", lambda g=given: of_layout(*g)


def confident_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """float32 rows whose label leads by −60 … 60, or one of another part does."""
    leads, classes = np.arange(-60.0, 61.0, 5.0 if every else 20.0), 9
    g = np.random.default_rng(5)
    y = g.integers(0, classes, len(leads))
    z = g.normal(size=(len(leads), classes)).astype(np.float32)
    z[np.arange(len(y)), y] += leads.astype(np.float32)
    weight = g.uniform(0.5, 2, classes).astype(np.float32)
    onehot = np.eye(classes)[y]
    cases: dict[str, tuple[dict[str, Any], Any]] = {
        "plain": ({}, onehot),
        "weight": ({"weight": weight}, onehot * weight),
        "smoothed": ({"label_smoothing": 0.1}, 0.9 * onehot + 0.1 / classes),
        "others": ({"label_smoothing": 0.1, "smoothing": "others"},
                   np.where(onehot > 0, 0.9, 0.1 / (classes - 1))),
        "map": ({"softcap": 30.0, "temperature": 1.5, "z_loss": 1e-3}, onehot),
    }  # fmt: skip
    for mesh, places in layouts(ranks)[: None if every else 1]:
        for name, (options, masses) in cases.items():

            def check(options: Any = options, masses: Any = masses, mesh: Any = mesh,
                      places: Any = places) -> Pairs:  # fmt: skip
                given = {k: torch.from_numpy(x) if k == "weight" else x for k, x in options.items()}
                part = distribute_tensor(torch.from_numpy(z), mesh, places).requires_grad_()
                got = cross_entropy(part, torch.from_numpy(y), reduction="none", **given)
                got.sum().backward()
                wide = {k: x.astype(float) if k == "weight" else x for k, x in options.items()}
                wide["reduction"] = "none"
                want, slope = value_and_grad(cross_entropy)(z.astype(float), y, **wide)
                numbers = options if "softcap" in options else {}
                bounds = cross_entropy_bounds(z, masses, "float32", **numbers)
                found = full(got), full(part.grad)
                wanted = (want, bounds.loss), (slope, bounds.gradient)
                for what, a, (b, limit) in zip(("loss", "gradient"), found, wanted, strict=True):
                    over = np.abs(a.detach().numpy() - b) / (limit + 1e-45)
                    assert over.max() <= 1, f"{what}: {over.max():.3g} times the tolerance"
                yield torch.zeros(()), torch.zeros(())

            yield f"{name}, {places}", check


def text_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Next tokens and linear layers, with rows, positions, features or the vocabulary split."""
    mesh = layouts(ranks)[0][0]
    g = generator()
    h, w, b = (torch.randn(*n, generator=g, dtype=D) for n in ((3, 6, 5), (11, 5), (11,)))
    z, by_row = numbers(3, 6, 11) * 3, torch.rand(3, 6, generator=g, dtype=D)
    y = torch.randint(0, 11, (3, 6), generator=g)
    marked = y.clone()
    marked[0, 2] = -100
    where = torch.rand(3, 6, generator=g) > 0.3

    def tokens(place: Any, options: Any) -> Pairs:
        loss = xp_xent.next_token_cross_entropy
        return of_layout(z, mesh, [place], loss, (y,), options, curved=False)

    def linear(place: Any, of: Any, options: Any) -> Pairs:
        loss, bias = xp_xent.linear_cross_entropy, of if of == Shard(0) else Replicate()
        wholes = [x.clone().requires_grad_() for x in (h, w, b)]
        places = (place, of, bias)
        parts = [
            distribute_tensor(x, mesh, [at]).requires_grad_()
            for x, at in zip((h, w, b), places, strict=True)
        ]
        want = loss(*wholes[:2], marked, bias=wholes[2], **options)
        got = loss(*parts[:2], marked, bias=parts[2], **options)
        yield got, want
        want.sum().backward()
        got.sum().backward()
        for part, whole in zip(parts, wholes, strict=True):
            assert tuple(part.grad.placements) == tuple(part.placements)
            yield part.grad, whole.grad
        if not options:
            vector = h.flip(0)
            want = hvp(loss)(h, w, marked, vector, bias=b)
            yield hvp(loss)(*(x.detach() for x in parts[:2]), marked, vector, bias=b), want

    for place in (Replicate(), Shard(0), Shard(1), Shard(2)):
        for options in ({}, {"where": where, "sample_weight": by_row, "label_smoothing": 0.1},
                        {"reduction": "none"}, {"return_stats": True}):  # fmt: skip
            if place == Shard(1) and options.get("reduction"):
                continue  # a text's positions: the derivative of unreduced losses is refused
            yield f"tokens {place} {[*options]}", lambda g=(place, options): tokens(*g)
        for of in (Shard(0), Replicate(), Shard(1)):
            for options in ({}, {"label_smoothing": 0.1, "z_loss": 0.1}, {"reduction": "none"},
                            {"shift": True, "sample_weight": by_row}):  # fmt: skip
                if every or of == Shard(0):
                    given = place, of, options
                    yield f"linear {place} {of} {[*options]}", lambda g=given: linear(*g)


def other_checks(ranks: int, every: bool) -> Iterator[tuple[str, Check]]:
    """Binary losses, another class axis, summands, maps, half precision."""
    mesh = layouts(ranks)[0][0]
    z, labels = numbers(3, 6, 11) * 3, torch.arange(33).reshape(3, 11) % 6
    binary = xp_xent.binary_cross_entropy_with_logits
    for place in (Replicate(), Shard(0), Shard(1), Shard(2)):
        for options in ({}, {"pos_weight": numbers(11).abs()}, {"reduction": "none"}):
            g = z, mesh, [place], binary, ((z > 0).to(D),), options, False
            yield f"binary {place} {[*options]}", lambda g=g: of_layout(*g)
        for options in ({}, {"label_smoothing": 0.1, "reduction": "none"}):
            g = z, mesh, [place], cross_entropy, (labels,), {"axis": 1} | options, False
            yield f"axis 1 {place} {[*options]}", lambda g=g: of_layout(*g)
        for name in ("softmax", "log_softmax", "logsumexp", "sigmoid"):
            for options in ({}, {"axis": 1}, {"axis": (1, 2)}, {"axis": None}):
                if options and (name == "sigmoid" or not (every or place == Shard(1))):
                    continue
                g = z, mesh, place, getattr(xp_xent, name), options
                yield f"{name} {place} {options}", lambda g=g: of_map(*g)

    def summands() -> Pairs:
        part = DTensor.from_local(z / ranks, mesh, [Partial()], run_check=False)
        y = torch.arange(18).reshape(3, 6) % 11
        yield cross_entropy(part, y), cross_entropy(z, y)

    yield "summands", summands
    for ndim, at in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2)):  # as many rows as classes
        z, mask = numbers(*(6,) * ndim), (numbers(*(6,) * (ndim - 1)) > -1) | (torch.arange(6) == 0)
        options = {"class_where": mask, "label_smoothing": 0.1}
        g = z, mesh, [Shard(at)], cross_entropy, (z[..., 0].long() * 0,), options, False
        yield f"class_where of {ndim - 1} axes, Shard({at})", lambda g=g: of_layout(*g)
    for dtype in (torch.float16, torch.bfloat16):
        yield f"{dtype}", lambda dtype=dtype: of_half(mesh, dtype)


def of_map(z: Any, mesh: Any, place: Any, function: Any, options: Any) -> Pairs:
    whole = z.clone().requires_grad_()
    part = distribute_tensor(z, mesh, [place]).requires_grad_()
    want, got = function(whole, **options), function(part, **options)
    yield got, want
    by = torch.linspace(-1, 2, want.numel(), dtype=D).reshape(want.shape)
    (want * by).sum().backward()
    (got * distribute_tensor(by, mesh, got.placements)).sum().backward()
    yield part.grad, whole.grad


def of_half(mesh: Any, dtype: Any) -> Pairs:
    """Within a rounding of the dtype of what one machine gives."""
    z, y = (numbers(40, 11) * 3).to(dtype), torch.arange(40) % 11
    whole, part = z.clone().requires_grad_(), distribute_tensor(z, mesh, [Shard(1)])
    part.requires_grad_()
    cross_entropy(whole, y).backward()
    (cross_entropy(part, y) * 1024).backward()  # as a loss is scaled
    got = full(part.grad) / 1024
    assert part.grad.dtype == dtype
    assert torch.allclose(got, whole.grad, rtol=2 * torch.finfo(dtype).eps, atol=2.0**-24)
    weights = {"sample_weight": torch.full((40,), 1000.0), "reduction": "sum"}
    part.grad = whole.grad = None
    cross_entropy(whole, y, **weights).backward()  # its entries are large
    cross_entropy(part, y.to(torch.uint16), **weights).backward()
    assert torch.allclose(full(part.grad), whole.grad, rtol=2 * torch.finfo(dtype).eps)
    yield torch.zeros(()), torch.zeros(())
