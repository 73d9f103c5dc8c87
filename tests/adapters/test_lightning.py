"""In a real trainer: weights change, and the optimiser's state is cleared exactly where they did."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import COUNT, Record, assert_unlearnt, data, network
from torch import Tensor, nn

# The trainer gives many warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch import Callback, LightningModule, Trainer

    from lure.adapters.lightning import UnlearnCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            # Kept from fit to fit, so that there is state to clear; Lightning would create a new one each time.
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.net(inputs)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    class Recorder(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            records.append(Record(pl_module.net, pl_module.optimizer))

    def fit(module: LightningModule, *callbacks: Callback, ckpt_path: str | None = None) -> Trainer:
        trainer = Trainer(
            max_epochs=1 if ckpt_path is None else 2,
            callbacks=list(callbacks),
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(
            module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), 16), ckpt_path=ckpt_path
        )
        return trainer

    records: list[Record] = []
    module, unlearn = Module(), UnlearnCallback("lure", forget_fraction=0.2)
    fit(module)
    trainer = fit(module, Recorder(), unlearn, Recorder())
    assert_unlearnt(records[0], records[1], COUNT)
    assert unlearn.report is not None
    assert unlearn.report.changed_count == COUNT
    trainer.save_checkpoint(tmp_path / "checkpoint")
    fit(module, Recorder(), unlearn, Recorder(), ckpt_path=str(tmp_path / "checkpoint"))
    for name, weight in records[2].weights.items():
        assert torch.equal(weight, records[3].weights[name])


def test_lightning_passes_the_batches_that_the_training_step_gets(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule, Trainer

    from lure.adapters.lightning import UnlearnCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.net(inputs)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch["x"], batch["y"]

        def training_step(self, batch: Any, index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def twice(model: nn.Module, context: Any) -> None:
        for _ in range(2):  # by the contract, batches can be read more than once
            seen.append([inputs.dtype for inputs, _ in context.batches])

    seen: list[list[torch.dtype]] = []
    rows = [{"x": inputs, "y": label} for inputs, label in zip(*data(), strict=True)]
    for method in ("lure", twice):
        unlearn = UnlearnCallback(method)
        trainer = Trainer(
            max_epochs=1,
            precision="bf16-true",
            callbacks=[unlearn],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(rows, 16))
        assert unlearn.report is not None
    assert seen == [[torch.bfloat16] * 3] * 2
