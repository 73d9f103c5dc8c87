"""Somebody's own loop under every unlearner: the same seeds for all, costs as it counts them, three trainers."""

import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from lure import Context, InputError, compare_in_loop
from lure.unlearners import Dash

GENERATOR = torch.Generator().manual_seed(0)
POINTS = torch.randn(160, 4, generator=GENERATOR)
LABELS = (POINTS @ torch.tensor([1.0, -1.0, 0.5, 0.0]) > 0).long()
CHUNKS = [TensorDataset(POINTS[start : start + 40], LABELS[start : start + 40]) for start in (0, 40, 80)]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def loader(chunk: Any) -> DataLoader[Any]:
    return DataLoader(chunk, 10, shuffle=True)


def fit(model: nn.Module, chunks: list[Any], budget: float = 1.0) -> int:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    seen = 0
    for _ in range(round(10 * budget)):
        for inputs, labels in loader(ConcatDataset(chunks)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            seen += len(labels)
    return seen


def evaluate(model: nn.Module) -> tuple[int, int]:
    with torch.no_grad():
        return int((model(POINTS[120:]).argmax(1) == LABELS[120:]).sum()), 40


def compared(**options: Any) -> Any:
    given = {"unlearners": ["warm-start", "scratch", "lure"], "batches": loader}
    return compare_in_loop(build, fit, evaluate, CHUNKS, **given | options)


def test_costs_are_examples_where_the_loop_counts_them_and_the_answer_is_a_price(tmp_path: Any) -> None:
    answer = compared(budgets=[0.1, 1])
    assert [run.label for run in answer.runs][::3] == [
        *("warm-start, budget 0.1", "warm-start", "scratch, budget 0.1", "scratch", "lure, budget 0.1", "lure")
    ]
    cheap = next(run for run in answer.runs if run.label == "lure, budget 0.1")
    assert [stage.examples_seen for stage in cheap.stages] == [400, 80 + 40, 120 + 40], "what lure reads is counted"
    assert cheap.stages[0].accuracy == next(run for run in answer.runs if run.label == "lure").stages[0].accuracy
    prices = {each.policy: each for each in answer.price()}
    assert prices.keys() == {"warm-start", "scratch", "lure"}
    assert "of retraining's examples" in answer.verdict or "cheap" in answer.verdict
    assert str(answer).endswith(answer.verdict)
    assert "warm-start" in answer.table()
    answer.to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().count("\n") == 1 + 18 * 3


def test_all_unlearners_see_the_same_and_the_callers_random_state_is_left_alone() -> None:
    seen: dict[tuple[int, int], list[Any]] = {}

    def drawing(model: nn.Module, chunks: list[Any]) -> None:
        drawn = (torch.rand(2).tolist(), np.random.rand(), random.random())  # noqa: NPY002
        seen.setdefault((len(chunks), seed_of[0]), []).append(drawn)

    seed_of = [0]
    states = torch.get_rng_state(), random.getstate(), np.random.rand
    for seed in (0, 1):
        seed_of[0] = seed
        answer = compare_in_loop(
            build, drawing, evaluate, CHUNKS, unlearners=["warm-start", "scratch"], seeds=[seed], batches=loader
        )
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert len(seen) == 6
    assert all(first == second for first, second in seen.values())
    assert len({str(drawn) for drawn in seen.values()}) == 6
    assert not answer.runs[0].counts_examples, "then the cost is seconds"
    scratch = answer.runs[-1]
    assert [stage.changed_fraction for stage in scratch.stages] == [0, 1, 1]


def test_it_is_the_loop_that_the_docstring_shows() -> None:
    weights: list[Tensor] = []
    compare_in_loop(
        build,
        lambda model, chunks: weights.append(model[0].weight.detach().clone()),
        lambda model: 0.5,
        CHUNKS,
        unlearners=["shrink-perturb:shrink=0.5:perturb=0"],
        seeds=[0],
    )
    assert torch.equal(weights[1], weights[0] * 0.5)
    assert torch.equal(weights[2], weights[0] * 0.25)


def test_a_step_a_chunk_reads_the_earlier_chunks_as_a_run_does() -> None:
    entered: list[nn.Module] = []
    left: list[nn.Module] = []

    def recording(model: nn.Module, chunks: list[Any]) -> int:
        entered.append(copy.deepcopy(model))
        seen = fit(model, chunks)
        left.append(copy.deepcopy(model))
        return seen

    in_order = functools.partial(DataLoader, batch_size=10)
    chosen = {"unlearners": ["dash:ema=chunk"], "seeds": [0]}
    answer = compare_in_loop(build, recording, evaluate, CHUNKS, batches=in_order, **chosen)
    for number in (1, 2):
        Dash(ema="chunk")(left[number - 1], Context(batches=[], chunks=[in_order(c) for c in CHUNKS[: number + 1]]))
        for expected, found in zip(left[number - 1].parameters(), entered[number].parameters(), strict=True):
            assert torch.equal(expected, found)
    read = [stage.examples_seen - stage.train_examples for stage in answer.runs[0].stages]
    assert read == [0, 80, 120], "all that it reads is counted, the old chunks included"


def test_auto_compares_the_new_chunk_with_the_earlier_ones_and_says_what_it_took() -> None:
    def answer_0(model: nn.Module, chunks: list[Any]) -> None:
        with torch.no_grad():
            model[2].weight.zero_()
            model[2].bias.copy_(torch.tensor([1.0, 0.0]))

    chunks = [[(POINTS[:4], torch.tensor(labels))] for labels in ([0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1])]
    first, *later = compare_in_loop(build, answer_0, evaluate, chunks, unlearners=["auto"], seeds=[0]).runs[0].stages
    assert first.choices == []
    assert [stage.choices[0]["examples_read"] for stage in later] == [8, 12]
    assert [stage.choices[1]["memorised"] for stage in later] == [1 - 0.5, 0.75 - 0]
    assert [stage.chosen for stage in later] == ["shrink-perturb:shrink=0:perturb=0.25" for _ in later], (
        "the first candidate, untried"
    )


def test_batches_are_made_only_when_they_are_read_and_from_the_seed() -> None:
    made: list[float] = []

    def drawing(chunk: Any) -> Any:
        made.append(float(torch.rand(())))
        return loader(chunk)

    for seed in (0, 0, 1):
        compared(unlearners=["warm-start", "lure"], seeds=[seed], budgets=[0.1], batches=drawing)
    assert len(made) == 6, "lure reads the new chunk, and nobody reads the old ones"
    assert made[:2] == made[2:4]
    assert len(set(made)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unlearners": ["lure", "auto"], "batches": lambda chunk: [{"labels": chunk}]}, "auto counts .*, not a dict$"),
        ({"unlearners": ["lure", "dash:shuffled=256"]}, "give a loader that shuffles, with batches of that size"),
        ({"unlearners": ["lurre"]}, "unknown unlearner 'lurre'"),
        ({"unlearners": []}, "give at least one of unlearners"),
        ({"seeds": []}, "give at least one of seeds"),
        ({"budgets": [2]}, r"budget must lie in \[0, 1\], got 2"),
        ({"budgets": [0]}, "budget must be above 0"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(options: Any, message: str) -> None:
    def refuse(*given: Any) -> Any:
        raise AssertionError

    with pytest.raises(InputError, match=message):
        compare_in_loop(refuse, refuse, refuse, CHUNKS, **options)


@pytest.mark.parametrize("measured", [1.5, float("nan"), "good", (3, 2), None])
def test_what_is_no_accuracy_is_refused(measured: Any) -> None:
    with pytest.raises(InputError, match="evaluate must return"):
        compare_in_loop(build, fit, lambda model: measured, CHUNKS, seeds=[0])


def test_a_builder_that_builds_no_module_is_refused() -> None:
    make: Callable[[], Any] = lambda: 3  # noqa: E731
    with pytest.raises(InputError, match=r"build must return a torch\.nn\.Module, got int"):
        compare_in_loop(make, fit, evaluate, CHUNKS)


@pytest.mark.filterwarnings("ignore")
def test_lightning() -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.net(inputs)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit_lightning(model: Any, chunks: list[Any]) -> None:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet)
        trainer.fit(model, loader(ConcatDataset(chunks)))

    answer = compare_in_loop(
        Module, fit_lightning, evaluate, CHUNKS, unlearners=["scratch", "lure"], seeds=[0], batches=loader
    )
    assert [round(stage.changed_fraction, 2) for stage in answer.runs[1].stages] == [0, 0.17, 0.17]
    assert "lure" in str(answer)


@pytest.mark.filterwarnings("ignore")
def test_the_hugging_face_trainer(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        def forward(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            logits = self.net(inputs)
            return {"logits": logits} | (
                {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
            )

    def rows(chunks: list[Any]) -> list[dict[str, Tensor]]:
        return [{"inputs": inputs, "labels": label} for inputs, label in ConcatDataset(chunks)]

    def fit_trainer(model: nn.Module, chunks: list[Any]) -> None:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=1,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            save_strategy="no",
        )
        transformers.Trainer(model, arguments, train_dataset=rows(chunks)).train()

    answer = compare_in_loop(
        Classifier,
        fit_trainer,
        lambda model: float((model(POINTS[120:])["logits"].argmax(1) == LABELS[120:]).float().mean()),
        CHUNKS,
        unlearners=["scratch", "lure"],
        seeds=[0],
        batches=lambda chunk: DataLoader(rows([chunk]), 10),
        loss=lambda model, batch: model(**batch)["loss"],
    )
    assert [round(stage.changed_fraction, 2) for stage in answer.runs[1].stages] == [0, 0.17, 0.17]
    assert "scratch" in str(answer)


def test_a_method_that_goes_back_to_the_first_weights_gets_them() -> None:
    answer = compared(unlearners=["knowledge-evolution"], seeds=[0], budgets=[0.1])
    assert answer.runs[0].stages[1].changed_fraction > 0
