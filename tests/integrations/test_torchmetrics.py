"""`xp_xent.integrations.torchmetrics`: beside TorchMetrics' own, over batches and processes."""

from __future__ import annotations

import doctest
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("torchmetrics")
from torchmetrics import MetricCollection
from torchmetrics.text import Perplexity as BuiltIn

from xp_xent import LossAccumulator, cross_entropy, perplexity
from xp_xent.integrations import torchmetrics
from xp_xent.integrations.torchmetrics import CrossEntropy, Perplexity

FIVE_DIGITS = 5e-6
Batch = tuple[torch.Tensor, torch.Tensor]


def batches(count: int = 3, dtype: torch.dtype = torch.float32) -> list[Batch]:
    """Sequences of tokens, of which ever more are ignored."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(count):
        logits = 3 * torch.randn(2, 5, 11, generator=generator, dtype=torch.float64)
        tokens = torch.randint(0, 11, (2, 5), generator=generator)
        tokens[:, 5 - i :] = -100
        found.append((logits.to(dtype), tokens))
    return found


def test_as_torchmetrics_has_it() -> None:
    ours, theirs = Perplexity(), BuiltIn(ignore_index=-100)
    for batch in batches():
        # Of the batch, and of all of them
        assert float(ours(*batch)) == pytest.approx(float(theirs(*batch)), rel=FIVE_DIGITS)
    assert float(ours.compute()) == pytest.approx(float(theirs.compute()), rel=FIVE_DIGITS)


def test_a_batch_is_the_functions() -> None:
    """With weights, a mask and options."""
    logits, tokens = batches()[1]
    weights, mask = torch.rand(2, 5), torch.tensor([[1, 1, 0, 1, 1]] * 2).bool()
    call: dict[str, Any] = {"sample_weight": weights, "where": mask}
    got = Perplexity()(logits, tokens, **call)
    assert float(got) == pytest.approx(float(perplexity(logits, tokens, **call)), rel=1e-6)
    options: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": 3}
    tokens = tokens.where(tokens >= 0, 3)
    for given in (call, call | {"where": mask.to(torch.int32)}):
        mean = CrossEntropy(**options)(logits, tokens, **given)
        wanted = cross_entropy(logits, tokens, **options, **given)
        assert float(mean) == pytest.approx(float(wanted), rel=1e-6)


def test_probabilities_and_another_axis() -> None:
    logits = batches()[0][0].movedim(-1, 1)
    targets = torch.rand(logits.shape).softmax(1)
    mean = CrossEntropy(axis=1)(logits, targets)
    assert float(mean) == pytest.approx(float(cross_entropy(logits, targets, axis=1)), rel=1e-6)


def test_sums_are_those_of_an_accumulator() -> None:
    metric, total = CrossEntropy(), LossAccumulator()
    for logits, tokens in batches(dtype=torch.float64):
        metric.update(logits.requires_grad_(), tokens)
        rows = cross_entropy(logits, tokens, reduction="none")
        total = total.update(rows.detach(), (tokens != -100).sum())
    assert metric.accumulator == total
    assert (metric.compute().dtype, metric.compute().requires_grad) == (torch.float64, False)
    assert float(metric.compute()) == total.mean


def test_long_streams_keep_their_digits() -> None:
    """Where float32 sums stop growing, as TorchMetrics' count does at 2²⁴."""
    metric = CrossEntropy()
    metric.update(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    for _ in range(24):
        metric.sums = metric._reductions["sums"](torch.stack([metric.sums, metric.sums]))
    metric.update(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert metric.accumulator.weight == 2**24 + 1
    assert float(metric.compute()) == pytest.approx(math.log(2), rel=1e-7)


def test_confident_and_impossible_tokens() -> None:
    """TorchMetrics takes logarithms of probabilities, which round to 1, or to 0."""
    confident = torch.tensor([[[20.0, 0.0, 0.0]]]), torch.tensor([[0]])
    wanted = 2 * math.exp(-20)
    assert float(CrossEntropy()(*confident)) == pytest.approx(wanted, rel=1e-6)
    assert float(BuiltIn()(*confident).log()) == 0.0
    unlikely = torch.tensor([[[200.0, 0.0]]]), torch.tensor([[1]])
    assert float(CrossEntropy()(*unlikely)) == pytest.approx(200.0)
    assert float(BuiltIn()(*unlikely)) == math.inf


def test_nothing_counted() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert math.isnan(Perplexity().compute())
    assert math.isnan(CrossEntropy()(torch.zeros(1, 3), torch.tensor([-100])))


def test_as_a_metric() -> None:
    """Reset, pickled, in a collection, in a module's state."""
    both = MetricCollection({"loss": CrossEntropy(), "perplexity": Perplexity()})
    for batch in batches():
        both.update(*batch)
    values = both.compute()
    assert float(values["perplexity"]) == pytest.approx(math.exp(values["loss"]))
    assert len(both.compute_groups) == 1  # they share their sums
    metric = both["loss"]
    assert float(pickle.loads(pickle.dumps(metric)).compute()) == float(values["loss"])
    metric.persistent(True)
    again = CrossEntropy()
    again.load_state_dict(metric.state_dict(), strict=False)
    assert again.accumulator == metric.accumulator != LossAccumulator()
    metric.reset()
    assert metric.accumulator == LossAccumulator()


@pytest.mark.parametrize("kind", [CrossEntropy, Perplexity])
def test_options_are_looked_at_first(kind: Any) -> None:
    for name in ("normalizer", "reduction", "sample_weight", "weight", "where"):
        with pytest.raises(TypeError, match=f"{name}: it is no option"):
            kind(**{name: None})
    with pytest.raises(TypeError, match="unexpected keyword argument 'smooth'"):
        kind(smooth=0.1)
    assert kind(metric_options={"sync_on_compute": False}).sync_on_compute is False


def test_two_processes(tmp_path: Path) -> None:
    """Each has other batches, of other numbers of tokens; both have the value of all."""
    program = Path(__file__).parent / "_two_metrics.py"
    done = subprocess.run(
        [sys.executable, program, f"file://{tmp_path}/ranks"],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_examples_of_the_docstrings() -> None:
    done = doctest.testmod(torchmetrics)
    assert done.failed == 0
    assert done.attempted > 8
