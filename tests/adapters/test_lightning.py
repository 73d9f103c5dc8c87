"""In a real trainer: weights change, and the optimiser's state is cleared exactly where they did."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import COUNT, Record, assert_unlearnt, data, network
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

# The trainer gives many warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


class Rows(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless examples, which count how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, labels = data()
        for row in itertools.count():
            self.taken += 1
            yield inputs[row % 48], labels[row % 48]


def small_module() -> Any:
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            # Kept from fit to fit, so that there is state to clear; Lightning would create a new one each time.
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
            self.num_steps = 0

        def forward(self, inputs: Tensor) -> Tensor:
            return self.net(inputs)

        def training_step(self, batch: Any, index: int) -> Tensor:
            self.num_steps += 1
            if isinstance(batch, dict):
                batch = batch["new"]
            elif isinstance(batch[0], list | tuple):
                batch = batch[0]
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

    return Module()


def trainer_of(*callbacks: Any, **options: Any) -> Any:
    from lightning.pytorch import Trainer

    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(callbacks=list(callbacks), **{"max_epochs": 1, **quiet, **options})


def loader_of(rows: Any = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*data()) if rows is None else rows, 16, **options)


def batches_seen(module: Any, loader: Any, **options: Any) -> list[Any]:
    """Fit, and return what the unlearner read before."""
    from lure.adapters.lightning import UnlearnCallback

    seen: list[Any] = []

    def read(model: nn.Module, context: Any) -> None:
        seen.extend(context.batches)

    trainer_of(UnlearnCallback(read, trained=True), **options).fit(module, loader)
    return seen


def test_lightning(tmp_path: Path) -> None:
    module = small_module()
    from lightning.pytorch import Callback

    from lure.adapters.lightning import UnlearnCallback

    class Recorder(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            records.append(Record(pl_module.net, pl_module.optimizer))

    records: list[Record] = []
    unlearn = UnlearnCallback("lure", forget_fraction=0.2)
    trainer_of(Recorder(), unlearn, Recorder()).fit(module, loader_of())
    assert unlearn.report is None
    for name, weight in records[0].weights.items():
        assert torch.equal(weight, records[1].weights[name])
    trainer = trainer_of(Recorder(), unlearn, Recorder())
    trainer.fit(module, loader_of())
    assert_unlearnt(records[2], records[3], COUNT)
    assert unlearn.report is not None
    assert unlearn.report.changed_count == COUNT
    trainer.save_checkpoint(tmp_path / "checkpoint")
    trainer = trainer_of(Recorder(), unlearn, Recorder(), max_epochs=2)
    trainer.fit(module, loader_of(), ckpt_path=str(tmp_path / "checkpoint"))
    for name, weight in records[4].weights.items():
        assert torch.equal(weight, records[5].weights[name])


@pytest.mark.parametrize("trained", [None, False, True])
def test_the_first_fit_in_lightning_is_unlearnt_only_if_the_module_is_said_to_be_trained(trained: bool | None) -> None:
    module = small_module()
    from lure.adapters.lightning import UnlearnCallback

    first = UnlearnCallback("lure", trained=trained)
    trainer_of(first).fit(module, loader_of())
    assert (first.report is not None) == bool(trained)
    again = UnlearnCallback("lure", trained=trained)  # another callback, in another trainer: the module knows
    trainer_of(again).fit(module, loader_of())
    assert again.report is not None


@pytest.mark.parametrize(
    ("options", "num_batches"),
    [
        ({"limit_train_batches": 2}, 2),
        ({"max_steps": 2, "max_epochs": -1}, 2),
        ({"max_steps": 2, "max_epochs": -1, "accumulate_grad_batches": 3}, 6),
        ({"limit_train_batches": 3, "max_steps": 2}, 2),
    ],
)
def test_lightning_reads_no_more_of_an_endless_stream_than_the_fit(options: Any, num_batches: int) -> None:
    module, rows = small_module(), Rows()
    assert len(batches_seen(module, loader_of(rows), **options)) == num_batches
    assert module.num_steps == num_batches
    assert rows.taken <= 16 * (2 * num_batches + 2)  # the fit's own reading, one batch ahead


def test_lightning_reads_no_more_of_a_finite_loader_than_the_fit() -> None:
    assert len(batches_seen(small_module(), loader_of(), limit_train_batches=1)) == 1
    assert len(batches_seen(small_module(), loader_of(), max_steps=2)) == 2
    assert len(batches_seen(small_module(), loader_of(), max_epochs=3)) == 3


def test_a_lightning_stream_without_any_limit_is_read_up_to_a_thousand_batches() -> None:
    module = small_module()
    assert len(batches_seen(module, loader_of(Rows()), max_time={"seconds": 1}, max_epochs=-1)) == 1000


def test_lightning_reads_batches_of_dicts_lists_and_combined_loaders() -> None:
    module = small_module()
    from lightning.pytorch.utilities import CombinedLoader

    short = loader_of(TensorDataset(*(part[:16] for part in data())))
    seen = batches_seen(module, {"new": loader_of(), "old": short})
    assert [batch.keys() for batch in seen] == [{"new", "old"}] * 3
    assert [batch["old"][0].shape for batch in seen] == [(16, 5)] * 3  # the shorter one starts again
    seen = batches_seen(module, [loader_of(), short])
    assert [len(batch) for batch in seen] == [2] * 3
    seen = batches_seen(module, CombinedLoader({"new": loader_of(), "old": short}, "min_size"))
    assert [batch.keys() for batch in seen] == [{"new", "old"}]
    seen = batches_seen(module, {"new": loader_of(Rows()), "old": short}, limit_train_batches=2)
    assert [batch.keys() for batch in seen] == [{"new", "old"}] * 2


def test_reading_takes_nothing_from_a_lightning_fit_with_lasting_workers() -> None:
    module = small_module()
    loader = loader_of(num_workers=1, persistent_workers=True)
    assert len(batches_seen(module, loader, max_epochs=2)) == 3
    assert module.num_steps == 6


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
        unlearn = UnlearnCallback(method, trained=True)
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
