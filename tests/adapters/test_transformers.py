"""In a real trainer: weights change, and the optimiser's state is cleared exactly where they did."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import COUNT, Record, assert_unlearnt, data, network
from torch import Tensor, nn
from torch.utils.data import IterableDataset

# The trainer gives many warnings of its own.
pytestmark = pytest.mark.filterwarnings("ignore")


class Model(nn.Module):
    """The small network with the loss inside, as the models of Hugging Face have it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, inputs: Tensor, labels: Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        logits = self.net(inputs)
        return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


class Rows(IterableDataset[dict[str, Tensor]]):
    """Endless examples, which count how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        inputs, labels = data()
        for row in itertools.count():
            self.taken += 1
            yield {"inputs": inputs[row % 48], "labels": labels[row % 48]}


def arguments_of(folder: Path, **options: Any) -> Any:
    from transformers import TrainingArguments

    quiet = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no"}
    given = {"num_train_epochs": 1, "per_device_train_batch_size": 16, **quiet, **options}
    return TrainingArguments(output_dir=str(folder), **given)


def rows() -> list[dict[str, Tensor]]:
    return [{"inputs": x, "labels": y} for x, y in zip(*data(), strict=True)]


def test_hugging_face_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import Trainer, TrainerCallback

    from lure.adapters.transformers import UnlearnCallback

    class Recorder(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            records.append(Record(model, optimizer))

    def train(*callbacks: TrainerCallback, resume: bool = False) -> None:
        arguments = arguments_of(tmp_path, num_train_epochs=2 if resume else 1, save_strategy="epoch")
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        trainer = Trainer(
            model, arguments, train_dataset=rows(), optimizers=(optimizer, schedule), callbacks=list(callbacks)
        )
        trainer.train(resume_from_checkpoint=resume)

    records: list[Record] = []
    model, unlearn = Model(), UnlearnCallback("lure", forget_fraction=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(Recorder(), unlearn, Recorder())
    assert unlearn.report is None
    for name, weight in records[0].weights.items():
        assert torch.equal(weight, records[1].weights[name])
    train(Recorder(), unlearn, Recorder())
    assert_unlearnt(records[2], records[3], COUNT)
    train(Recorder(), unlearn, Recorder(), resume=True)
    for name, weight in records[4].weights.items():
        assert torch.equal(weight, records[5].weights[name])


@pytest.mark.parametrize("trained", [None, False, True])
def test_the_first_train_is_unlearnt_only_if_the_model_is_said_to_be_trained(
    trained: bool | None, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from transformers import Trainer

    from lure.adapters.transformers import UnlearnCallback

    model = Model()
    for number in range(2):  # a new callback and a new trainer each time: the model knows
        unlearn = UnlearnCallback("lure", trained=trained)
        Trainer(model, arguments_of(tmp_path), train_dataset=rows(), callbacks=[unlearn]).train()
        assert (unlearn.report is not None) == bool(trained or number)


@pytest.mark.parametrize(
    ("options", "endless", "num_batches"),
    [
        ({"max_steps": 2}, True, 2),
        ({"max_steps": 2, "gradient_accumulation_steps": 2}, True, 4),
        ({"max_steps": 2}, False, 2),
        ({"num_train_epochs": 2}, False, 3),
    ],
)
def test_the_hugging_face_callback_reads_no_more_than_the_fit(
    options: Any, endless: bool, num_batches: int, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from transformers import Trainer

    from lure.adapters.transformers import UnlearnCallback

    seen: list[Any] = []
    stream = Rows()
    callback = UnlearnCallback(lambda model, context: seen.extend(context.batches), trained=True)
    arguments = arguments_of(tmp_path, **options)
    Trainer(Model(), arguments, train_dataset=stream if endless else rows(), callbacks=[callback]).train()
    assert len(seen) == num_batches
    assert stream.taken <= 16 * (2 * num_batches + 2)  # the fit's own reading, one batch ahead


def test_a_hugging_face_callback_may_get_no_optimizer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import TrainerState

    from lure.adapters.transformers import UnlearnCallback

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    nn.functional.cross_entropy(model(data()[0]), data()[1]).backward()
    optimizer.step()
    before = Record(model, optimizer)
    for named in ({"optimizer": optimizer}, {}):
        callback = UnlearnCallback("random-reset", seed=len(named), trained=True, **named)
        callback.on_train_begin(
            arguments_of(tmp_path), TrainerState(), None, model=model, optimizer=None, train_dataloader=None
        )
        assert callback.report is not None
        assert callback.report.changed_count == COUNT
        if named:
            assert_unlearnt(before, Record(model, optimizer), COUNT)
