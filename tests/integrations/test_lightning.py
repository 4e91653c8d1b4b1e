"""A LightningModule trained by the losses here, and resumed from a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("pytorch_lightning")
import pytorch_lightning as pl
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from xp_xent import CrossEntropyLoss, cross_entropy
from xp_xent.integrations.torchmetrics import CrossEntropy, Perplexity

FIVE_DIGITS = 5e-6
CLASSES = 5

QUIET = (
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
)
pytestmark = [pytest.mark.usefixtures("one_thread"), *map(pytest.mark.filterwarnings, QUIET)]


class Model(pl.LightningModule):
    """A linear classifier; its criterion is a hyperparameter, which a checkpoint keeps."""

    def __init__(self, criterion: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, CLASSES)
        self.criterion = criterion
        self.loss, self.perplexity = CrossEntropy(), Perplexity()
        self.steps: list[float] = []

    def training_step(self, batch: Any, _: int) -> Any:
        loss = self.criterion(self.layer(batch[0]), batch[1])
        self.steps.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        logits = self.layer(batch[0])
        self.loss(logits, batch[1])
        self.perplexity(logits, batch[1])
        self.log("loss", self.loss, on_epoch=True)
        self.log("perplexity", self.perplexity, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader(size: int = 8) -> Any:
    """Rows, in batches of 8, 8 and 4, or of another size; some have no label."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % CLASSES
    labels[:3] = -100
    return DataLoader(
        TensorDataset(torch.randn(20, 4, generator=generator), labels), batch_size=size
    )


def trainer(folder: Path, epochs: int, **options: Any) -> Any:
    return pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        enable_checkpointing=False, **options,
    )  # fmt: skip


def fit(
    criterion: Any, folder: Path, epochs: int = 2, size: int = 8, **options: Any
) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model, fitted = Model(criterion), trainer(folder, epochs, **options)
    fitted.fit(model, loader(size), loader())
    return model, fitted


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fit_is_that_of_pytorchs_loss(smoothing: float, tmp_path: Path) -> None:
    ours, _ = fit(CrossEntropyLoss(label_smoothing=smoothing), tmp_path)
    theirs, _ = fit(partial(functional.cross_entropy, label_smoothing=smoothing), tmp_path)
    assert len(ours.steps) == 6
    assert ours.steps == pytest.approx(theirs.steps, rel=FIVE_DIGITS)
    assert ours.steps[-1] < ours.steps[0]


def test_a_checkpoint_resumes(tmp_path: Path) -> None:
    """Criterion and optimizer too: the steps after it are those of a run without a break."""
    criterion = CrossEntropyLoss(label_smoothing=0.1, z_loss=1e-3, weight=torch.rand(CLASSES))
    whole, _ = fit(criterion, tmp_path / "whole")
    first, fitted = fit(criterion, tmp_path / "parts", epochs=1)
    kept = tmp_path / "kept.ckpt"
    fitted.save_checkpoint(kept)
    resumed = Model.load_from_checkpoint(kept, weights_only=False)
    assert resumed.criterion == criterion
    assert torch.equal(resumed.layer.weight, first.layer.weight)
    trainer(tmp_path, 2).fit(resumed, loader(), loader(), ckpt_path=kept, weights_only=False)
    assert first.steps + resumed.steps == whole.steps


def test_a_validation_weighs_each_label_once(tmp_path: Path) -> None:
    """Not each batch, as the mean of the batches' losses does."""
    model, fitted = fit(CrossEntropyLoss(), tmp_path, epochs=1)
    (logged,) = fitted.validate(model, loader(), verbose=False)
    data = loader().dataset.tensors
    mean = cross_entropy(model.layer(data[0]).detach(), data[1])
    assert logged["loss"] == pytest.approx(float(mean), rel=FIVE_DIGITS)
    assert logged["perplexity"] == pytest.approx(float(mean.exp()), rel=FIVE_DIGITS)


def test_accumulated_batches_are_one_batch(tmp_path: Path) -> None:
    """Lightning divides each loss by the number of batches, and so the labels' number is."""
    parts, _ = fit(partial(cross_entropy, normalizer=17 / 3), tmp_path, accumulate_grad_batches=3)
    means, _ = fit(cross_entropy, tmp_path, accumulate_grad_batches=3)
    whole, _ = fit(cross_entropy, tmp_path, size=20)
    weights = [model.layer.weight for model in (parts, means, whole)]
    assert torch.allclose(weights[0], weights[2], rtol=1e-4)
    assert not torch.allclose(weights[1], weights[2], rtol=1e-3)


def test_bfloat16(tmp_path: Path) -> None:
    """Mixed precision hands over bfloat16 logits; the loss is float32."""
    half, _ = fit(CrossEntropyLoss(), tmp_path, precision="bf16-mixed")
    full, _ = fit(CrossEntropyLoss(), tmp_path)
    assert half.steps == pytest.approx(full.steps, rel=0.02)
    assert half.steps != full.steps
