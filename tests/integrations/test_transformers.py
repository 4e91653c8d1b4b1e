"""`xp_xent.integrations.transformers`: training by the real Trainer, beside its own losses."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate")
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Trainer,
    TrainingArguments,
)

from xp_xent import cross_entropy
from xp_xent.integrations import transformers
from xp_xent.integrations.transformers import causal_lm_loss, classification_loss

FIVE_DIGITS = 5e-6
VOCABULARY, LENGTH, CLASSES = 97, 12, 3


pytestmark = pytest.mark.usefixtures("one_thread")


def model(kind: type) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": LENGTH}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    labels = {"num_labels": CLASSES, "pad_token_id": 0}
    return kind(LlamaConfig(vocab_size=VOCABULARY, **sizes, **heads, **labels))


def examples(kind: str, count: int = 10) -> list[dict[str, Any]]:
    """Rows of tokens, of which ever more are labelled: batches do not weigh the same."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        tokens = torch.randint(1, VOCABULARY, (LENGTH,), generator=generator)
        if kind == "causal":
            labels = tokens.clone()
        elif kind == "tokens":
            labels = tokens % CLASSES
        elif kind == "sequence":
            labels = torch.tensor(i % CLASSES)
        else:
            labels = torch.rand(CLASSES, generator=generator).softmax(-1)
        if labels.shape == tokens.shape:
            labels[2 + i :] = -100
        found.append({"input_ids": tokens, "labels": labels})
    return found


MODELS: dict[str, tuple[type, Callable[..., Any]]] = {
    "causal": (LlamaForCausalLM, causal_lm_loss),
    "tokens": (LlamaForTokenClassification, classification_loss),
    "sequence": (LlamaForSequenceClassification, classification_loss),
    "soft": (LlamaForSequenceClassification, classification_loss),
}


def train(
    kind: str, loss: Any, folder: Path, size: int = 2, accumulated: int = 2, **arguments: Any
) -> list[float]:
    """Train for an epoch; give the loss of each step, and of an evaluation."""
    torch.manual_seed(0)
    data = examples(kind)
    trainer = Trainer(
        model=model(MODELS[kind][0]),
        args=TrainingArguments(
            output_dir=str(folder), report_to=[], save_strategy="no", disable_tqdm=True,
            use_cpu=True, num_train_epochs=1, logging_steps=1, learning_rate=1e-2,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulated,
            dataloader_pin_memory=False, ddp_timeout=60, **arguments,
        ),
        train_dataset=data,
        eval_dataset=data,
        compute_loss_func=loss,
    )  # fmt: skip
    trainer.train()
    steps = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [*steps, trainer.evaluate()["eval_loss"]]


@pytest.mark.parametrize(
    ("kind", "smoothing", "accumulated"),
    [
        ("causal", 0.0, 2),
        ("causal", 0.1, 2),
        ("tokens", 0.0, 1),
        ("tokens", 0.1, 2),
        ("sequence", 0.0, 1),
        ("sequence", 0.1, 2),
    ],
)
def test_trains_as_the_built_in_loss(
    kind: str, smoothing: float, accumulated: int, tmp_path: Path
) -> None:
    """Also at an epoch's end, where fewer batches are accumulated."""
    loss = MODELS[kind][1](label_smoothing=smoothing)
    built_in = {"label_smoothing_factor": smoothing, "accumulated": accumulated}
    wanted = train(kind, None, tmp_path, **built_in)
    assert len(wanted) == {1: 6, 2: 4}[accumulated]
    ours = train(kind, loss, tmp_path, accumulated=accumulated)
    assert ours == pytest.approx(wanted, rel=FIVE_DIGITS)


def test_built_in_classifiers_lose_the_count(tmp_path: Path) -> None:
    """What the page says of Transformers' own heads, until they pass the count on."""
    ours, built_in = (train("sequence", f, tmp_path)[0] for f in (classification_loss(), None))
    assert built_in == pytest.approx(2 * ours, rel=FIVE_DIGITS)


@pytest.mark.parametrize("kind", MODELS)
def test_accumulated_batches_are_one_batch(kind: str, tmp_path: Path) -> None:
    loss = MODELS[kind][1](z_loss=1e-3)
    whole = train(kind, loss, tmp_path, size=4, accumulated=1)
    parts = train(kind, loss, tmp_path, size=1, accumulated=4)
    assert parts[:-1] == pytest.approx(whole[:-1], rel=FIVE_DIGITS)


def test_without_a_count_accumulation_differs(tmp_path: Path) -> None:
    """The tests above can fail: a mean of each batch is another loss."""
    ours = causal_lm_loss()
    whole = train("causal", ours, tmp_path, size=4, accumulated=1)
    means = train("causal", lambda o, y, num_items_in_batch: ours(o, y) / 4, tmp_path, 1, 4)
    assert means[0] != pytest.approx(whole[0], rel=20 * FIVE_DIGITS)


def test_two_processes(tmp_path: Path) -> None:
    """Whose batches have different numbers of labels, train as one."""
    program = Path(__file__).parent / "_two_trainers.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_counts_of_every_kind() -> None:
    """A number, a tensor, and what the Trainer makes of one for DataParallel."""
    loss = classification_loss()
    z, y = torch.randn(5, CLASSES), torch.tensor([0, 1, 2, -100, 1])
    total = cross_entropy(z, y, reduction="sum")
    for count in (8, torch.tensor(8), torch.tensor(8.0), torch.tensor(8).expand(2, 1)):
        for outputs in ({"logits": z}, (z,)):
            assert loss(outputs, y, num_items_in_batch=count) == pytest.approx(float(total) / 8)
    assert loss((z,), y) == pytest.approx(float(total) / 4)
    none = loss((z[:2],), torch.full((2,), -100), num_items_in_batch=torch.tensor(0))
    assert none.isnan()  # as Transformers' own


def test_probabilities_along_another_axis() -> None:
    """The Trainer counts 2·3·5 of them; they are 2·5 rows."""
    z, p = torch.randn(2, CLASSES, 5), torch.rand(2, CLASSES, 5).softmax(1)
    loss = classification_loss(axis=1)((z,), p, num_items_in_batch=torch.tensor(p.numel()))
    assert float(loss) == pytest.approx(float(cross_entropy(z, p, axis=1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_not_copied_to_single(dtype: torch.dtype) -> None:
    """And loses no digits by that."""
    z, y = torch.randn(1, 5, VOCABULARY).to(dtype), torch.arange(5)[None]
    loss = causal_lm_loss()((z,), y, num_items_in_batch=torch.tensor(4))
    assert loss.dtype == torch.float32
    wanted = torch.nn.functional.cross_entropy(z[0, :-1].double(), y[0, 1:])
    assert float(loss) == pytest.approx(float(wanted), rel=FIVE_DIGITS)


@pytest.mark.parametrize("make", [causal_lm_loss, classification_loss])
def test_options_are_looked_at_first(make: Callable[..., Any]) -> None:
    for name in ("ignore_index", "normalizer", "reduction", "sample_weight", "where"):
        with pytest.raises(TypeError, match=f"{name}: the Trainer decides it"):
            make(**{name: None})
    with pytest.raises(TypeError, match="unexpected keyword argument 'smooth'"):
        make(smooth=0.1)
    with pytest.raises(TypeError, match="labels: got None, wanted a column"):
        make()((torch.zeros(2, 3, 4),), None)
    loss = make(label_smoothing=0.1)
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_examples_of_the_docstrings() -> None:
    done = doctest.testmod(transformers)
    assert done.failed == 0
    assert done.attempted > 8
