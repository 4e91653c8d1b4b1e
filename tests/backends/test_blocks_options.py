"""Every loss under every option, in blocks: with blocks of two rows, and of the size they have."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from _cases import send
from _forms import CLASSES, ELEMENTWISE, FORMS, NOT_LOSSES, Form
from _registry import Entry, entries, entry, fullest
from _tools import host

import xp_xent
from xp_xent import value_and_grad
from xp_xent.backends import Adapter, _blocks, _numpy_walk, get, installed
from xp_xent.conformance.tolerance import FORMATS

ROWS = 2  # of a small block
# Libraries that walk blocks; PyTorch's tensors go through NumPy's where it can share their memory.
WALKERS = [
    name
    for name in ("numpy", "torch", "torch device", "dpnp", "cupy")
    if name.partition(" ")[0] in installed()
]
LOSSES = [form for form in FORMS if form.function not in NOT_LOSSES]
# What stands for the others where arrays are large or a library slow.
FIRST = ("cross_entropy-labels", "binary_cross_entropy_with_logits-0_or_1")
LARGE = (*FIRST, "linear_cross_entropy-labels", "next_token_cross_entropy-labels", "softmax")


@dataclass
class Walker:
    """A library, and how to make its blocks small."""

    backend: Adapter
    patch: pytest.MonkeyPatch
    on_host: bool  # NumPy's blocks
    seen: int = 0  # blocks

    @contextmanager
    def small(self, grad: bool = False) -> Any:
        """Cut rows of CLASSES in pairs, and count the blocks."""
        cut = _blocks.cut

        def counted(*arguments: Any) -> Any:
            blocks = list(cut(*arguments))
            self.seen = max(self.seen, len(blocks))
            return iter(blocks)

        self.seen = 0
        # Where autograd looks on, PyTorch's tensors are not cut.
        alone = self.backend.name == "torch" and not grad
        quiet = self.backend.torch.no_grad() if alone else nullcontext()
        with self.patch.context() as patch, quiet:
            patch.setattr(_numpy_walk, "BLOCK", ROWS * CLASSES)
            patch.setattr(_blocks, "ROOM", ROWS * CLASSES * 4)  # of float32
            patch.setattr(_blocks, "cut", counted)
            yield


def walker_of(name: str, patch: pytest.MonkeyPatch) -> Walker:
    """A library whose losses are walked in blocks."""
    library, _, device = name.partition(" ")
    if device:
        from xp_xent.backends import _torch_memory

        patch.setattr(_torch_memory, "on_host", lambda tensor: None)
    return Walker(get(library), patch, name in ("numpy", "torch"))


def answers(backend: Adapter, case: Entry, dtype: str) -> list[Any]:
    """What every method says of a call, on the host."""
    arrays, options = case.on(backend, dtype)
    found = [case.function(*arrays, **options)]
    if case.loss not in NOT_LOSSES:
        by = {}
        if case.cotangent is not None:
            by["cotangent"] = send(
                backend, case.cotangent, "float64" if "64" in dtype else "float32"
            )
        value, gradients = value_and_grad(case.function, case.closed)(*arrays, **options, **by)
        found += [value, *gradients]
        found.append(xp_xent.hvp(case.function)(*arrays, arrays[0], **options))
        found.append(xp_xent.hessian_diagonal(case.function)(*arrays, **options))
    return [host(one) for one in found]


def assert_close(got: Any, want: Any) -> None:
    """To some ULP of the largest: what goes wrong between blocks is not subtle."""
    slack = FORMATS[want.dtype.name].eps * (8192 if want.dtype.itemsize > 2 else 4)
    got, want = got.astype(np.float64), want.astype(np.float64)
    assert np.abs(got - want).max() <= slack * np.abs(want).max()


def thinned(form: Form, walker: str) -> tuple[Entry, ...]:
    """Each option on NumPy; all at once where the code is the same, and on devices."""
    cases = entries(form)
    if walker == "numpy" or form.function in NOT_LOSSES:
        return cases
    return (fullest(form),)


def pairs() -> list[Any]:
    """Each library and loss."""
    found = []
    for walker, form in product(WALKERS, FORMS):
        later = walker == "dpnp" and form.name not in FIRST
        marks = [pytest.mark.full] if later else []
        found.append(pytest.param(walker, form, id=f"{walker}-{form.name}", marks=marks))
    return found


@pytest.mark.parametrize(("name", "form"), pairs())
def test_small_blocks_change_nothing(
    name: str, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    walker = walker_of(name, monkeypatch)
    # dpnp compiles a kernel for each operation and dtype.
    dtypes = ("float32",) if name == "dpnp" else walker.backend.float_dtypes()
    for dtype in dtypes:
        for case in thinned(form, name):
            whole = answers(walker.backend, case, dtype)
            with walker.small():
                cut = answers(walker.backend, case, dtype)
            assert walker.seen > 1, case.name
            for one, two in zip(cut, whole, strict=True):
                assert (one.dtype, one.shape) == (two.dtype, two.shape)
                if name == "numpy" and form.function != "linear_cross_entropy":
                    assert np.array_equal(one, two), (case.name, dtype)
                else:
                    assert_close(one, two)


def repeated(case: Entry, times: int) -> Entry:
    """The same rows over and over, along a new first axis."""
    shared = {"weight", "pos_weight", "alpha", "bias", "normalizer"}
    if case.form.function in ELEMENTWISE:
        shared.discard("weight")

    def over(x: Any) -> Any:
        return np.broadcast_to(x, (times, *x.shape)) if np.ndim(x) else x

    linear = case.form.function == "linear_cross_entropy"
    arrays = tuple(x if linear and i == 1 else over(x) for i, x in enumerate(case.arrays))
    options = {k: v if k in shared else over(v) for k, v in case.options.items()}
    return Entry(case.loss, arrays, options, None, case.form, case.option)


def assert_repeats(backend: Adapter, form: Form, dtype: str, elements: int) -> None:
    """A mean over copies of some rows is theirs, its derivatives by a row are a share of theirs."""
    rows, option = 64, "plain" if form.function in NOT_LOSSES else "all"
    times = elements // (rows * CLASSES) + 1
    few = entry(form, option, rows)
    few.options.pop("normalizer", None)
    many = answers(backend, repeated(few, times), dtype)
    for one, two in zip(many, answers(backend, few, dtype), strict=True):
        if one.shape == two.shape:  # a mean, or by what all rows share
            assert_close(one, two)
        elif form.function in NOT_LOSSES:
            assert_close(one[[0, -1]], np.stack([two, two]))
        elif dtype not in ("float16", "bfloat16"):  # there a share of it underflows
            assert_close(one[[0, -1]] * times, np.stack([two, two]))


@pytest.mark.parametrize("form", [x for x in FORMS if x.name in LARGE], ids=lambda x: x.name)
def test_blocks_as_large_as_they_are(form: Form) -> None:
    assert_repeats(get("numpy"), form, "float64", _numpy_walk.BLOCK)


@pytest.mark.full
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_blocks_as_large_as_they_are_in_each_dtype(form: Form) -> None:
    for dtype in get("numpy").float_dtypes():
        assert_repeats(get("numpy"), form, dtype, _numpy_walk.BLOCK)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[pytest.mark.full] if x == "dpnp" else [])
        for x in WALKERS
        if x not in ("numpy", "torch")
    ],
)
def test_large_blocks_of_devices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = walker_of(name, monkeypatch).backend
    assert_repeats(backend, FORMS[0], "float32", _blocks.ROOM // 4)


@pytest.mark.parametrize("form", LOSSES, ids=lambda form: form.name)
@pytest.mark.parametrize("name", [x for x in WALKERS if x.startswith("torch")])
def test_autograd(name: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward goes through blocks, a double one through the formula."""
    walker = walker_of(name, monkeypatch)
    backend = walker.backend
    grad = backend.torch.autograd.grad
    parameters = (0, 1) if form.function == "linear_cross_entropy" else (0,)
    for dtype in backend.float_dtypes():
        case = fullest(form)
        keys = tuple(key for key in case.closed if key in (*parameters, "bias"))
        arrays, options = case.on(backend, dtype)
        _, want = value_and_grad(case.function, keys)(*arrays, **options)
        bent = xp_xent.hvp(case.function)(*arrays, arrays[0], **options)
        function, values = case.weighted(backend, keys, dtype)
        values = [x.requires_grad_() for x in values]
        with walker.small(grad=True):
            got = grad(function(*values), values)
            assert walker.seen > 1
            first, *_ = grad(function(*values), values, create_graph=True)
            # A gradient of log-probabilities is constant.
            (twice,) = (
                grad((first * arrays[0]).sum(), values[:1], allow_unused=True)
                if first.requires_grad
                else (None,)
            )
        for one, two in zip(got, want, strict=True):
            assert_close(host(one), host(two))
        assert_close(host(bent) * 0 if twice is None else host(twice), host(bent))
