"""Every loss under PyTorch's compilers, and on tensors that have shapes but no data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from _forms import ELEMENTWISE, FORMS, MAPS, NOT_LOSSES
from _registry import Entry, entry
from _tools import assert_same
from _transforms import ONCE, also, column, transform

import xp_xent
from xp_xent import backends

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    # Dynamo speaks of its own reading of .grad, and of a lock that a child process inherits.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]
BATCHES = (7, 9, 11)  # none, nor one less, is the number of classes: Dynamo would equate them
INDUCTOR = ("cross_entropy", "linear_cross_entropy", "binary_cross_entropy_with_logits")
SLOW = "The C++ compiler takes seconds a loss; the graph is the one that the row above checks."


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what was compiled, before and after."""
    torch = pytest.importorskip("torch")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def assert_compiled(case: Entry, compiled: Any) -> None:
    """Value and gradients of the compiled call, all of its arrays being inputs, as without."""
    import torch

    keys = tuple(case.everything())
    function, values = case.weighted(backends.get("torch"), keys)
    program = compiled(function)
    results = []
    for call in (function, program):
        inputs = [v.detach().requires_grad_(v.is_floating_point()) for v in values]
        leaves = [v for v in inputs if v.requires_grad]
        value = call(*inputs)
        results.append((value.detach(), torch.autograd.grad(value, leaves)))
    assert_same(results[1], results[0])


@transform("torch", "`torch.compile(fullgraph=True)`: one graph", thin=True, half=0)
def test_compile(case: Entry) -> None:
    """A graph break would raise; the graph runs as PyTorch's operations."""
    import torch

    torch.compiler.reset()
    assert_compiled(case, lambda f: torch.compile(f, fullgraph=True, backend="eager"))


@transform("torch", "`torch.compile` of forward and backward (AOT autograd)", once=ONCE, half=1)
def test_ahead_of_time(case: Entry) -> None:
    """Both graphs, as Inductor gets them."""
    import torch

    assert_compiled(case, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager"))


@transform(
    "torch",
    "`torch.compile(fullgraph=True)` of `value_and_grad` and its relatives",
    once=ONCE,
    half=1,
    without={
        column(name): "A number to report or a map: closed forms are of losses."
        for name in NOT_LOSSES
    },
)
def test_closed_forms(case: Entry) -> None:
    """Each is one node, as the loss is."""
    import torch

    backend = backends.get("torch")
    arrays, options = case.on(backend, "float64")
    makers = [xp_xent.value_and_grad, xp_xent.hessian_diagonal]
    makers += [xp_xent.value_grad_and_hessian_diagonal]
    if case.form.function not in (*ELEMENTWISE, "linear_cross_entropy"):
        makers += [xp_xent.hessian]
    vector = backend.asarray(np.cos(case.arrays[0]))

    def every(*arrays: Any) -> list[Any]:
        asked = [make(case.function)(*arrays, **options) for make in makers]
        return [*asked, xp_xent.hvp(case.function)(*arrays, vector, **options)]

    compiled = torch.compile(every, fullgraph=True, backend="aot_eager")
    flat = torch.utils._pytree.tree_leaves
    assert_same(flat(compiled(*arrays)), flat(every(*arrays)))


@pytest.mark.full
@transform(
    "torch",
    "`torch.compile(fullgraph=True)` with Inductor",
    once="In the second tier. " + ONCE,
    without={column(f.function): SLOW for f in FORMS if f.function not in INDUCTOR},
)
def test_inductor(case: Entry) -> None:
    """Down to machine code."""
    import torch

    assert_compiled(case, lambda f: torch.compile(f, fullgraph=True))


@transform(
    "torch",
    "`torch.compile(dynamic=True)`: one compilation for every batch size",
    once=ONCE,
    half=0,
)
def test_dynamic(case: Entry) -> None:
    """The first batch is compiled, the others find it compiled."""
    import torch
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    keys = tuple(case.everything())
    call, _ = case.bind(backends.get("torch"), keys)
    compiled = torch.compile(
        lambda *values: call(*values).sum(), fullgraph=True, dynamic=True, backend=counter
    )
    compilations = []
    for rows in BATCHES:
        function, values = entry(case.form, "all", rows).bind(backends.get("torch"), keys)
        inputs = [v.requires_grad_(v.is_floating_point()) for v in values]
        leaves = [v for v in inputs if v.requires_grad]
        got, want = compiled(*inputs), function(*inputs).sum()
        assert_same(torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves))
        compilations.append(counter.frame_count)
    assert len(set(compilations)) == 1, f"compiled so far, after each batch: {compilations}"


@transform(
    "torch",
    "`torch.export` with a dynamic batch dimension",
    once=ONCE,
    half=1,
)
def test_export(case: Entry) -> None:
    """Exported for one batch size, run at others."""
    import torch

    backend, keys = backends.get("torch"), tuple(case.everything())
    function, values = case.bind(backend, keys)
    longer = entry(case.form, "all", 6).bind(backend, keys)

    class Module(torch.nn.Module):
        def forward(self, *values: Any) -> Any:
            return function(*values)

    # PyTorch exports no size that may be 1, and two tokens make one prediction.
    batch = torch.export.Dim("batch", min=3)
    grows = [a.shape != b.shape for a, b in zip(values, longer[1], strict=True)]
    shapes = tuple({0: batch} if grow else None for grow in grows)
    program = torch.export.export(Module(), tuple(values), dynamic_shapes=(shapes,))
    assert_same(program.module()(*values), function(*values))
    assert_same(program.module()(*longer[1]), longer[0](*longer[1]))


@transform("torch", "meta tensors: shapes and dtypes without data")
def test_meta(case: Entry) -> None:
    """Of the value and of every gradient."""
    import torch

    keys = tuple(case.everything())
    function, values = case.bind(backends.get("torch"), keys)
    inputs = [v.to("meta").requires_grad_(v.is_floating_point()) for v in values]
    value, want = function(*inputs), function(*values)
    assert value.device.type == "meta"
    assert (value.shape, value.dtype) == (want.shape, want.dtype)
    leaves = [v for v in inputs if v.requires_grad]
    for leaf, slope in zip(leaves, torch.autograd.grad(value.sum(), leaves), strict=True):
        assert slope.device.type == "meta"
        assert (slope.shape, slope.dtype) == (leaf.shape, leaf.dtype)


@transform("torch", "`FakeTensorMode`")
def test_fake(case: Entry) -> None:
    """As meta tensors, but they remember their device."""
    import torch
    from torch._subclasses import FakeTensor, FakeTensorMode

    keys = tuple(case.everything())
    function, values = case.bind(backends.get("torch"), keys)
    want = function(*values)
    with FakeTensorMode() as mode:
        inputs = [mode.from_tensor(v.requires_grad_(v.is_floating_point())) for v in values]
        value = function(*inputs)
        leaves = [v for v in inputs if v.requires_grad]
        slopes = torch.autograd.grad(value.sum(), leaves)
    assert isinstance(value, FakeTensor)
    assert (value.shape, value.dtype, value.device) == (want.shape, want.dtype, want.device)
    assert [s.shape for s in slopes] == [leaf.shape for leaf in leaves]


FIRST = """
import torch
import xp_xent
logits = torch.randn(3, 4, requires_grad=True)
compiled = torch.compile(xp_xent.cross_entropy, fullgraph=True, backend="aot_eager")
loss = compiled(logits, torch.tensor([0, 3, 1]))
loss.backward()
torch.testing.assert_close(loss, xp_xent.cross_entropy(logits, torch.tensor([0, 3, 1])))
print("fine")
"""


@also("torch", "`torch.compile` of the first call of a process, before anything is imported")
def test_compiled_before_anything_else() -> None:
    """The first call of a process may be a compiled one: nothing is imported under the tracer."""
    pytest.importorskip("torch")
    command = [sys.executable, "-c", FIRST]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.stdout == "fine\n", run.stderr


@also("torch", "compiled maps of bfloat16 round once, as they do otherwise")
@pytest.mark.parametrize("function", [f for f in xp_xent.__all__ if f in MAPS])
def test_maps_compile_in_half_precision(function: str) -> None:
    """The maps round once, compiled or not."""
    torch = pytest.importorskip("torch")
    x = torch.linspace(-8, 8, 12, dtype=torch.bfloat16).reshape(3, 4)
    call = getattr(xp_xent, function)
    got = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, call(x))
