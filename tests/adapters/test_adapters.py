"""Each adapter in its real trainer: weights change, and the optimiser's state is cleared exactly where they did."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

# The trainers give many warnings of their own.
pytestmark = pytest.mark.filterwarnings("ignore")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(48, 5, generator=generator), torch.randint(3, (48,), generator=generator)


class Record:
    """A copy of weights and momentum."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.momentum = {
            name: optimizer.state[p]["momentum_buffer"].clone()
            for name, p in model.named_parameters()
            if "momentum_buffer" in optimizer.state.get(p, {})
        }


def assert_unlearnt(before: Record, after: Record, count: int) -> None:
    """`count` weights changed, and momentum is zero there and unchanged elsewhere."""
    assert before.momentum.keys() == before.weights.keys()
    changed = {name: after.weights[name] != old for name, old in before.weights.items()}
    assert sum(int(mask.sum()) for mask in changed.values()) == count
    for name, mask in changed.items():
        assert torch.equal(after.momentum[name][~mask], before.momentum[name][~mask])
        assert not after.momentum[name][mask].any()
        assert before.momentum[name][mask].any() or not mask.any()


COUNT = round(0.2 * (40 + 24))


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


def test_hugging_face_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from lure.adapters.transformers import UnlearnCallback

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, inputs: Tensor, labels: Tensor) -> Any:
            from transformers.modeling_outputs import SequenceClassifierOutput

            logits = self.net(inputs)
            return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)

    class Recorder(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            records.append(Record(model, optimizer))

    def train(*callbacks: TrainerCallback, resume: bool = False) -> None:
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2 if resume else 1,
            per_device_train_batch_size=16,
            use_cpu=True,
            report_to=[],
            save_strategy="epoch",
            disable_tqdm=True,
            logging_strategy="no",
        )
        rows = [{"inputs": x, "labels": y} for x, y in zip(*data(), strict=True)]
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        trainer = Trainer(
            model, arguments, train_dataset=rows, optimizers=(optimizer, schedule), callbacks=list(callbacks)
        )
        trainer.train(resume_from_checkpoint=resume)

    records: list[Record] = []
    model, unlearn = Model(), UnlearnCallback("lure", forget_fraction=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train()
    train(Recorder(), unlearn, Recorder())
    assert_unlearnt(records[0], records[1], COUNT)
    train(Recorder(), unlearn, Recorder(), resume=True)
    for name, weight in records[2].weights.items():
        assert torch.equal(weight, records[3].weights[name])


def test_a_hugging_face_callback_may_get_no_optimizer() -> None:
    pytest.importorskip("transformers")
    from transformers import TrainerState

    from lure.adapters.transformers import UnlearnCallback

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    nn.functional.cross_entropy(model(data()[0]), data()[1]).backward()
    optimizer.step()
    before = Record(model, optimizer)
    for named in ({"optimizer": optimizer}, {}):
        callback = UnlearnCallback("random-reset", seed=len(named), **named)
        callback.on_train_begin(None, TrainerState(), None, model=model, optimizer=None, train_dataloader=None)
        assert callback.report is not None
        assert callback.report.changed_count == COUNT
        if named:
            assert_unlearnt(before, Record(model, optimizer), COUNT)


def test_skorch() -> None:
    pytest.importorskip("skorch")
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback

    from lure.adapters.skorch import UnlearnCallback

    class Recorder(Callback):
        def on_train_begin(self, net: Any, **unused: Any) -> None:
            records.append(Record(net.module_, net.optimizer_))

    records: list[Record] = []
    unlearn = UnlearnCallback("lure", forget_fraction=0.2)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(dim=-1)),
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.1,
        max_epochs=1,
        verbose=0,
        callbacks=[("before", Recorder()), ("unlearn", unlearn), ("after", Recorder())],
    )
    inputs, labels = (np.asarray(part) for part in data())
    net.fit(inputs, labels)
    assert unlearn.report is None  # it had not been trained before
    for name, weight in records[0].weights.items():
        assert torch.equal(weight, records[1].weights[name])
    net.partial_fit(inputs, labels)
    assert_unlearnt(records[2], records[3], COUNT)
    net.partial_fit(inputs, labels)
    assert_unlearnt(records[4], records[5], COUNT)
    assert unlearn.num_uses == 2  # with another seed the second time: the same seed would draw the same weights


def test_a_skorch_net_can_be_copied_and_searched_over() -> None:
    pytest.importorskip("skorch")
    from sklearn.base import clone
    from skorch import NeuralNetClassifier

    from lure.adapters.skorch import UnlearnCallback

    net = NeuralNetClassifier(network(), callbacks=[("unlearn", UnlearnCallback("lure", forget_fraction=0.3))])
    copied = clone(net).set_params(callbacks__unlearn__scope="all").initialize()
    callback = dict(copied.callbacks_)["unlearn"]
    assert (callback.method, callback.options) == ("lure", {"forget_fraction": 0.3, "scope": "all"})
    assert dict(net.callbacks)["unlearn"].options == {"forget_fraction": 0.3}


@pytest.mark.parametrize(
    ("package", "advice"),
    [
        ("lightning", "lightning>=2.4,!=2.6.2,!=2.6.3"),
        ("transformers", "transformers>=4.46"),
        ("skorch", "skorch>=1.0"),
    ],
)
def test_a_missing_package_is_named(package: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"lure.adapters.{package}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"pip install '{advice}'"):
        importlib.import_module(f"lure.adapters.{package}")
