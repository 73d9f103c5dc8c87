"""In a real trainer: weights change, and the optimiser's state is cleared exactly where they did."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import COUNT, Record, assert_unlearnt, data, network
from torch import Tensor, nn

# The trainer gives many warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


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
