"""What run, compare and evaluate return in Python: objects that print as the commands do, and are what they were."""

import csv
from pathlib import Path

import pytest
import torch

import lure
from lure import Comparison, Examples, Experiment, InputError
from lure.cli import main
from lure.experiment.run import run as run_one

TINY = Experiment(
    num_mega_batches=2, mega_batch_size=20, test_limit=50, epochs=2, model="mlp:width=4", milestones=(), threads=1
)


def squeezed(text: str) -> str:
    return " ".join(text.replace("─", " ").split())


def test_a_comparison_prints_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = lure.compare(TINY, ["scratch", "lure"], [0, 1, 2], tmp_path, budgets=[0.5, 1], jobs=1)
    assert [run.label for run in answer][:4] == ["scratch, budget 0.5", "scratch", "lure, budget 0.5", "lure"]
    assert len(answer) == len(answer.runs) == 12
    assert [each.policy for each in answer.price()] == ["scratch", "lure"]
    assert "retraining" in answer.verdict
    assert main(["report", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert squeezed(f"{answer.table(80)} {answer.verdict}") == squeezed(printed)
    assert str(answer) == f"{answer.table()}\n\n{answer.verdict}"
    assert str(Comparison.read(tmp_path)) == str(answer)
    answer.to_csv(tmp_path / "rows.csv")
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert len(rows) == 12 * 2
    assert {row["policy"] for row in rows} == {"scratch", "lure"}
    again = lure.compare(TINY, ["lure"], [0], tmp_path)
    assert [run.directory for run in again] == [tmp_path / "lure/seed-0"], "what else lies there is no part of it"


def test_a_run_is_still_the_sequence_of_its_stages(tmp_path: Path) -> None:
    stages = lure.run(TINY, tmp_path / "run")
    assert stages == run_one(TINY, tmp_path / "run")
    first, second = stages
    assert (first.stage, second.stage) == (1, 2)
    assert str(stages) == stages.table()
    assert "lure, seed 0" in str(stages)
    stages.to_csv(tmp_path / "rows.csv")
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 3


def test_an_evaluation_is_still_the_dict_of_its_numbers(tmp_path: Path) -> None:
    examples = Examples(torch.eye(3), torch.tensor([0, 1, 1]))
    result = lure.evaluate(lambda inputs: 9 * inputs, examples)
    assert result == lure.metrics.evaluate(lambda inputs: 9 * inputs, examples)
    assert str(result).startswith("3 examples")
    result.to_csv(tmp_path / "numbers.csv")
    lines = (tmp_path / "numbers.csv").read_text().splitlines()
    numbers = {row["metric"]: row["value"] for row in csv.DictReader(lines)}
    assert float(numbers["accuracy"]) == result["accuracy"]
    assert int(numbers["per_class.1.examples"]) == 2
    with pytest.raises(InputError, match="a model needs examples"):
        lure.evaluate(lambda inputs: inputs)


def test_a_version_on_disk_is_evaluated_by_its_path(tmp_path: Path) -> None:
    lure.run(TINY, tmp_path / "run")
    result = lure.evaluate(tmp_path / "run")
    assert (result["version"], result["examples"]) == (2, 50)
    assert str(result).startswith("version 2, 50 examples")
    assert (tmp_path / "run/evaluations/2.json").exists()
    with pytest.raises(InputError, match="measured on its own test set"):
        lure.evaluate(tmp_path / "run", Examples(torch.eye(2), torch.tensor([0, 1])))


def test_there_is_nothing_to_say_of_no_runs() -> None:
    with pytest.raises(InputError, match="there is no run to report"):
        Comparison([])
