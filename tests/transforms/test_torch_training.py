"""Every loss in an ordinary PyTorch training loop, with what training loops do around one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from _cases import send
from _registry import Entry
from _tools import assert_same
from _transforms import ONCE, also, transform

from xp_xent import BCEWithLogitsLoss, CrossEntropyLoss, backends

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def scalar(case: Entry) -> tuple[Any, list[Any]]:
    """The weighed and summed call as a function of its floating arrays, and they."""
    return case.weighted(backends.get("torch"), case.floats)


def value_and_gradients(function: Any, values: list[Any]) -> tuple[Any, tuple[Any, ...]]:
    leaves = [value.detach().requires_grad_() for value in values]
    value = function(*leaves)
    value.backward()
    return value.detach(), tuple(leaf.grad for leaf in leaves)


@transform("torch", "activation checkpointing, `use_reentrant` False and True")
def test_checkpoint(case: Entry) -> None:
    """The forward pass is run again in the backward one."""
    from torch.utils.checkpoint import checkpoint

    function, values = scalar(case)
    want = value_and_gradients(function, values)
    for reentrant in (False, True):
        again = lambda *v: checkpoint(function, *v, use_reentrant=reentrant)  # noqa: B023, E731
        assert_same(value_and_gradients(again, values), want)


@transform("torch", "no graph where none is asked for; none under `no_grad` and `inference_mode`")
def test_no_graph(case: Entry) -> None:
    """And tensors made in inference mode can be used outside, where nothing is recorded."""
    import torch

    function, values = scalar(case)
    want = function(*values)
    assert want.grad_fn is None
    assert not want.requires_grad
    leaves = [value.detach().requires_grad_() for value in values]
    with torch.no_grad():
        assert function(*leaves).grad_fn is None
    with torch.inference_mode():
        inside, made = function(*leaves), [value.clone() for value in values]
    assert inside.is_inference()
    assert_same([inside.clone(), function(*made)], [want, want])


@transform("torch", "arguments that require grad but are not touched")
def test_untouched(case: Entry) -> None:
    """Each argument alone: no other gets a gradient, and the rest of a model is left alone."""
    import torch

    function, values = scalar(case)
    _, want = value_and_gradients(function, values)
    stranger = torch.ones(2, requires_grad=True)
    for place in range(len(values)):
        inputs = [v.detach().requires_grad_(i == place) for i, v in enumerate(values)]
        found = torch.autograd.grad(function(*inputs), [inputs[place], stranger], allow_unused=True)
        assert_same(found[0], want[place])
        assert found[1] is None


@transform("torch", "autocast to float16 and bfloat16", once=ONCE)
def test_autocast(case: Entry) -> None:
    """A half-precision model: the loss is float32, as without autocast, and reaches the weights."""
    import torch

    function, values = case.weighted(backends.get("torch"), case.floats, "float32")
    size = values[0].shape[-1]
    for dtype in (torch.float16, torch.bfloat16):
        layer = torch.nn.Linear(size, size)
        with torch.autocast("cpu", dtype=dtype):
            logits = layer(values[0])
            logits = logits.sigmoid() if case.loss == "binary_cross_entropy" else logits
            assert logits.dtype == dtype
            value = function(
                logits,
                *[
                    # The layer's arrays are of one dtype.
                    v.to(dtype) if case.loss == "linear_cross_entropy" and key in (1, "bias") else v
                    for key, v in zip(case.floats[1:], values[1:], strict=True)
                ],
            )
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert layer.weight.grad.dtype == torch.float32
        assert layer.weight.grad.isfinite().all()
        assert layer.weight.grad.abs().sum() > 0


@transform("torch", "a `GradScaler` training step", once=ONCE)
def test_scaler(case: Entry) -> None:
    """Scaled, unscaled and stepped: the parameter moves by the plain gradient."""
    import torch

    function, values = scalar(case)
    _, want = value_and_gradients(function, values)
    parameters = [torch.nn.Parameter(value.clone()) for value in values]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    scaler.scale(function(*parameters)).backward()
    scaler.step(optimizer)
    scaler.update()
    moved = [v - p.detach() for v, p in zip(values, parameters, strict=True)]
    # A power of two scales without rounding; the step itself rounds once.
    assert_same(moved, [v - (v - w) for v, w in zip(values, want, strict=True)])


@transform("torch", "a training loop with `torch.optim`", once=ONCE)
def test_training(case: Entry) -> None:
    """The first array is a layer's output; Adam decreases what is minimised."""
    import torch

    torch.manual_seed(0)
    function, values = scalar(case)
    size = values[0].shape[-1]
    model = torch.nn.Linear(size, size, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(20):
        optimizer.zero_grad()
        scores = model(values[0])
        scores = scores.sigmoid() if case.loss == "binary_cross_entropy" else scores
        loss = function(scores, *values[1:])
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0]


@also("torch", "`CrossEntropyLoss` and `BCEWithLogitsLoss` as a criterion, over a `DataLoader`")
@pytest.mark.parametrize("kind", ["CrossEntropyLoss", "BCEWithLogitsLoss"])
def test_configured_loss_is_a_criterion(kind: str) -> None:
    """Where torch.nn's would stand: in a loop over a DataLoader, with a network that learns."""
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    x = torch.randn(64, 5)
    scores = x @ torch.randn(5, 3)
    binary = kind == "BCEWithLogitsLoss"
    targets = (scores > 0).to(torch.float32) if binary else scores.argmax(1)
    criterion: Any = BCEWithLogitsLoss() if binary else CrossEntropyLoss(label_smoothing=0.01)
    model = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(30):
        for batch, wanted in DataLoader(TensorDataset(x, targets), batch_size=16, shuffle=True):
            optimizer.zero_grad(set_to_none=True)
            criterion(model(batch), wanted).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    with torch.no_grad():
        guess = (model(x) > 0).float() if binary else model(x).argmax(1)
    assert (guess == targets).float().mean() > 0.9


WORKER = """
import torch
from torch.utils.data import DataLoader, Dataset
from xp_xent import CrossEntropyLoss, cross_entropy

class Scored(Dataset):
    # A teacher's loss is part of each example, and computed where the example is loaded.
    def __init__(self, criterion):
        self.criterion = criterion
    def __len__(self):
        return 4
    def __getitem__(self, index):
        logits = torch.arange(3.0) * index
        return logits, self.criterion(logits, torch.tensor(2))

if __name__ == "__main__":
    data = Scored(CrossEntropyLoss())
    cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]))  # the parent has used it before
    for method in ("fork", "spawn"):
        loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context=method)
        for logits, losses in loader:
            want = cross_entropy(logits, torch.tensor([2, 2]), reduction="none")
            assert torch.equal(losses, want), (losses, want)
    print("fine")
"""


@also("torch", "a loss computed in a `DataLoader` worker, forked and spawned")
def test_in_a_data_loader_worker(tmp_path: Any) -> None:
    """Forked and spawned: a criterion travels by pickle, and works after a fork."""
    pytest.importorskip("torch")
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.stdout == "fine\n", run.stderr


@also("torch", "a step that overflowed in half precision, which `GradScaler` skips")
def test_nan_gradients_skip_a_scaled_step() -> None:
    """An overflow in half precision stays visible, so that GradScaler skips the step."""
    torch = pytest.importorskip("torch")
    logits = torch.nn.Parameter(torch.tensor([[1.0, float("inf"), 0.0]]))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(CrossEntropyLoss()(logits, torch.tensor([0]))).backward()
    scaler.step(torch.optim.SGD([logits], lr=1.0))
    scaler.update()
    assert scaler.get_scale() == 2.0
    want = send(backends.get("torch"), logits.detach().numpy(), "float32")
    assert torch.equal(want, torch.tensor([[1.0, float("inf"), 0.0]]))
